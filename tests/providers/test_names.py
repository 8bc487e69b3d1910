"""Look-ups against a real name server on loopback: they find, they end, and they hold up nobody."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pabal.providers.addresses import AddressGuard
from pabal.providers.http import Forbidden, HttpAnswer, HttpBody, HttpClient, Unsent
from pabal.providers.names import Names, NameServers
from tests.providers.name_server import NameServer
from tests.providers.webhook.endpoint import Endpoint
from tests.waiting import eventually

RECORDS = {
    "hooks.example": ["192.0.2.10", "2001:db8::10"],
    "six.example": ["2001:db8::6"],
    "both.example": ["127.0.0.2", "127.0.0.1"],
    "inside.example": ["127.0.0.1", "169.254.169.254"],
    "quick.example": ["127.0.0.1"],
    "printer.corp.example": ["192.0.2.20"],
}
SLOW = 100
"""Far more than there were threads to look up in; their questions for two families fit into a socket's buffer."""


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer(RECORDS) as server:
        yield server


@contextlib.asynccontextmanager
async def asking(server: NameServer, *, timeout: float = 2.0) -> AsyncIterator[NameServers]:
    """Look-ups that ask this server."""
    port = server.port
    servers = NameServers(servers=["127.0.0.1"], udp_port=port, tcp_port=port, timeout=timeout)
    try:
        yield servers
    finally:
        await servers.close()


async def test_both_families_are_found(server: NameServer) -> None:
    async with asking(server) as look_up:
        assert set(await look_up("hooks.example")) == {"192.0.2.10", "2001:db8::10"}
        assert await look_up("six.example") == ["2001:db8::6"]


async def test_search_domains_are_tried(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # The resolver's way to be told, for one process, what else stands in /etc/resolv.conf.
    monkeypatch.setenv("LOCALDOMAIN", "corp.example")

    async with asking(server) as look_up:
        assert await look_up("printer") == ["192.0.2.20"]


async def test_the_hosts_file_is_read_first(server: NameServer) -> None:
    own = _own_names()
    if not own:
        pytest.skip("/etc/hosts names nothing but localhost")
    address, name = own[0]

    async with asking(server) as look_up:
        assert address in await look_up(name)

    assert server.asked.total() == 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.example", "Name or service not known"),
        ("failing.example", "the name server failed"),
        ("silent.example", "no name server answered in time"),
        ("a..example", "not a host name"),
        ("a" * 64 + ".example", "not a host name"),
    ],
)
async def test_what_is_not_found_is_said_in_words(server: NameServer, name: str, said: str) -> None:
    async with asking(server, timeout=0.05) as look_up:
        with pytest.raises(socket.gaierror) as raised:
            await look_up(name)

    assert raised.value.strerror == said


async def test_datagrams_that_answer_another_question_are_passed_over(server: NameServer) -> None:
    server.lies = [("hooks.example.", "192.0.2.66"), ("other.example.", "192.0.2.66")]

    async with asking(server) as look_up:
        assert set(await look_up("hooks.example")) == {"192.0.2.10", "2001:db8::10"}


async def test_no_server_at_all_ends_too() -> None:
    async with NameServer({}) as server:
        port = server.port
    server.port = port

    async with asking(server, timeout=0.05) as look_up:
        with pytest.raises(socket.gaierror):
            await look_up("hooks.example")


async def test_names_that_nobody_answers_for_hold_up_nobody_else(server: NameServer) -> None:
    guard = AddressGuard(allow=("127.0.0.1/32",))
    async with asking(server) as look_up, Endpoint() as endpoint:
        client = HttpClient(guard=guard, timeout_seconds=5.0, user_agent="test", lookup=look_up)
        urls = [f"http://silent-{n}.example:{endpoint.port}/" for n in range(SLOW)]
        slow = [asyncio.create_task(_post(client, url)) for url in urls]
        await eventually(lambda: len([name for name in server.asked if name.startswith("silent")]) >= SLOW)

        quick = await _post(client, f"http://quick.example:{endpoint.port}/")

        still_asking = [call for call in slow if not call.done()]
        await client.close()
        await asyncio.gather(*slow)

    assert isinstance(quick, HttpAnswer)
    assert len(still_asking) == SLOW


@pytest.mark.parametrize(("name", "reached"), [("inside.example", False), ("both.example", True)])
async def test_the_guard_judges_what_a_name_server_says(server: NameServer, name: str, *, reached: bool) -> None:
    guard = AddressGuard(allow=("127.0.0.1/32",) if reached else ())
    async with asking(server) as look_up, Endpoint() as endpoint:
        client = HttpClient(guard=guard, timeout_seconds=5.0, user_agent="test", lookup=look_up)

        exchange = await _post(client, f"http://{name}:{endpoint.port}/")

        await client.close()
        assert isinstance(exchange, HttpAnswer if reached else Forbidden)
        assert endpoint.connections == int(reached)


async def test_a_failure_is_remembered_for_a_while_and_then_asked_again() -> None:
    now, asked = [0.0], []

    async def look_up(name: str) -> Sequence[str]:
        asked.append(name)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    names = Names(look_up, deadline_seconds=5.0, now=lambda: now[0])
    for now[0] in (0.0, 4.9, 5.1):
        with pytest.raises(socket.gaierror, match="Name or service not known"):
            await names.addresses("nowhere.example")

    assert len(asked) == 2


async def test_an_address_is_remembered_for_a_while_and_then_asked_again() -> None:
    now, asked = [0.0], []

    async def look_up(name: str) -> Sequence[str]:
        asked.append(name)
        return ["192.0.2.1"]

    names = Names(look_up, deadline_seconds=5.0, now=lambda: now[0])
    for now[0] in (0.0, 9.9, 10.1):
        assert await names.addresses("hooks.example") == ["192.0.2.1"]

    assert len(asked) == 2


async def test_of_many_names_the_oldest_are_forgotten() -> None:
    async def look_up(_: str) -> Sequence[str]:
        return ["192.0.2.1"]

    names = Names(look_up, deadline_seconds=5.0)
    for number in range(3000):
        await names.addresses(f"{number}.example")

    assert len(names._known) == 2048


async def test_calls_of_one_name_share_a_question_and_one_that_gives_up_does_not_end_it() -> None:
    asked: list[str] = []
    over = asyncio.Event()

    async def look_up(name: str) -> Sequence[str]:
        asked.append(name)
        await over.wait()
        return ["192.0.2.1"]

    names = Names(look_up, deadline_seconds=5.0)
    first, *others = [asyncio.create_task(names.addresses("hooks.example")) for _ in range(50)]
    await eventually(lambda: asked)

    first.cancel()
    over.set()

    assert await asyncio.gather(*others) == [["192.0.2.1"]] * 49
    assert asked == ["hooks.example"]


async def test_a_question_ends_by_its_deadline_whoever_asked() -> None:
    async def look_up(_: str) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    names = Names(look_up, deadline_seconds=0.01)

    with pytest.raises(socket.gaierror, match="no name server answered in time"):
        await names.addresses("silent.example")
    assert not names._under_way


async def test_closing_leaves_nothing_behind(server: NameServer) -> None:
    guard = AddressGuard()
    async with asking(server) as look_up:
        client = HttpClient(guard=guard, timeout_seconds=5.0, user_agent="test", lookup=look_up)
        call = asyncio.create_task(_post(client, "http://silent.example/"))
        await eventually(lambda: server.asked["silent.example"])

        await client.close()

        assert await call == Unsent(reason="the client was closed")


async def _post(client: HttpClient, url: str) -> Any:
    return await client.request("POST", url, body=HttpBody(b"{}", "application/json"))


def _own_names() -> list[tuple[str, str]]:
    known = [line.partition("#")[0].split() for line in Path("/etc/hosts").read_text().splitlines()]
    return [(address, name) for address, *names in filter(None, known) for name in names if "localhost" not in name]

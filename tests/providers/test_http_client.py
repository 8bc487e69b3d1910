"""The HTTP client's guard, and what it knows about a call that failed."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest
from aiohttp import TCPConnector

from pabal.providers.addresses import AddressGuard
from pabal.providers.http import (
    Exchange,
    Forbidden,
    HttpAnswer,
    HttpBody,
    HttpClient,
    NotAUrl,
    Unanswered,
    Unsent,
    form_body,
    json_body,
)
from tests.providers.webhook.endpoint import Endpoint, hang, raw
from tests.waiting import eventually

CERTIFICATE = Path(__file__).parent / "webhook" / "hooks.example.pem"

MakeClient = Callable[..., HttpClient]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    made: list[HttpClient] = []

    def make(
        *, allow: tuple[str, ...] = (), guard: AddressGuard | None = None, timeout_seconds: float = 5.0, **more: Any
    ) -> HttpClient:
        guard = guard or AddressGuard(allow=allow)
        made.append(HttpClient(guard=guard, timeout_seconds=timeout_seconds, user_agent="test", **more))
        return made[-1]

    yield make
    for client in made:
        await client.close()


class Lookup:
    """A name server that knows what it is told; counts the questions."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.asked: list[str] = []

    async def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.addresses


async def post(client: HttpClient, url: str) -> Exchange:
    return await client.request("POST", url, body=HttpBody(b"{}", "application/json"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "169.254.169.254",
        "localhost",
    ],
)
async def test_a_url_that_leads_inside_is_forbidden(make_client: MakeClient, endpoint: Endpoint, host: str) -> None:
    exchange = await post(make_client(), f"http://{host}:{endpoint.port}/")

    assert isinstance(exchange, Forbidden)
    assert endpoint.connections == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1."])
async def test_other_spellings_of_an_address_inside_are_not_connected_to(
    make_client: MakeClient, endpoint: Endpoint, host: str
) -> None:
    exchange = await post(make_client(), f"http://{host}:{endpoint.port}/")

    assert not isinstance(exchange, HttpAnswer | Unanswered)
    assert endpoint.connections == 0


async def test_an_allowed_ipv6_address_is_connected_to(make_client: MakeClient) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        server = await asyncio.start_server(_answer_once, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    async with server:
        port = server.sockets[0].getsockname()[1]
        exchange = await post(make_client(allow=("::1/128",)), f"http://[::1]:{port}/")

    assert isinstance(exchange, HttpAnswer)


async def _answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n{}")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("addresses", [("10.0.0.1",), ("::ffff:10.0.0.1", "fd00::1")])
async def test_a_name_whose_every_address_is_inside_is_forbidden(
    make_client: MakeClient, addresses: tuple[str, ...]
) -> None:
    exchange = await post(make_client(lookup=Lookup(*addresses)), "http://inside.example/")

    assert isinstance(exchange, Forbidden)


async def test_of_several_addresses_only_those_outside_are_tried(make_client: MakeClient, endpoint: Endpoint) -> None:
    client = make_client(allow=("127.0.0.1/32",), lookup=Lookup("127.0.0.2", "127.0.0.1"))

    exchange = await post(client, f"http://both.example:{endpoint.port}/")

    assert isinstance(exchange, HttpAnswer)


async def test_a_name_with_a_dead_address_outside_and_one_inside_is_not_forbidden_for_good(
    make_client: MakeClient, endpoint: Endpoint
) -> None:
    await endpoint.stop()
    client = make_client(allow=("127.0.0.1/32",), lookup=Lookup("127.0.0.1", "127.0.0.2"))

    exchange = await post(client, f"http://both.example:{endpoint.port}/")

    assert exchange == Unsent(reason="no connection: Connection refused")


async def test_the_address_that_was_judged_is_the_one_connected_to(make_client: MakeClient, endpoint: Endpoint) -> None:
    lookup = Lookup("127.0.0.1")
    client = make_client(allow=("127.0.0.1/32",), lookup=lookup)

    exchange = await post(client, f"http://rebinding.example:{endpoint.port}/")

    assert isinstance(exchange, HttpAnswer)
    assert lookup.asked == ["rebinding.example"]


class SecondThoughts(AddressGuard):
    """Lets an address through when the name is looked up, and not when the socket is made."""

    def __init__(self) -> None:
        super().__init__()
        self.judged: list[str] = []

    def refusal(self, address: str) -> str | None:
        self.judged.append(address)
        return None if len(self.judged) == 1 else super().refusal(address)


async def test_the_guard_judges_at_the_socket_whatever_the_look_up_let_through(
    make_client: MakeClient, endpoint: Endpoint
) -> None:
    guard = SecondThoughts()

    exchange = await post(
        make_client(guard=guard, lookup=Lookup("127.0.0.1")), f"http://rebinding.example:{endpoint.port}/"
    )

    assert exchange == Forbidden(kind="loopback address (127.0.0.0/8)")
    assert guard.judged == ["127.0.0.1", "127.0.0.1"]
    assert endpoint.connections == 0


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example"])
async def test_a_name_that_cannot_be_looked_up_is_unsent(make_client: MakeClient, host: str) -> None:
    exchange = await post(make_client(), f"http://{host}/")

    assert exchange == Unsent(reason="the host name has no address: not a host name")


async def test_a_name_that_does_not_exist_is_unsent(make_client: MakeClient) -> None:
    async def not_found(_: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    exchange = await post(make_client(lookup=not_found), "http://nowhere.example/")

    assert exchange == Unsent(reason="the host name has no address: Name or service not known")


async def test_a_name_without_an_address_is_unsent(make_client: MakeClient) -> None:
    exchange = await post(make_client(lookup=Lookup()), "http://nowhere.example/")

    assert exchange == Unsent(reason="the host name has no address: nothing found")


async def test_names_that_nobody_answers_for_end_in_time_and_hold_up_nobody_else(
    make_client: MakeClient, endpoint: Endpoint
) -> None:
    async def look_up(host: str) -> Sequence[str]:
        if host.startswith("slow"):
            await asyncio.Event().wait()
        return ["127.0.0.1"]

    client = make_client(allow=("127.0.0.1/32",), timeout_seconds=5.0, lookup=look_up)
    slow = [asyncio.create_task(post(client, f"http://slow-{n}.example:{endpoint.port}/")) for n in range(500)]
    await asyncio.sleep(0)  # all of them ask before the quick one does

    assert isinstance(await post(client, f"http://quick.example:{endpoint.port}/"), HttpAnswer)
    assert not any(call.done() for call in slow)
    assert set(await asyncio.gather(*slow)) <= {
        Unsent(reason="no connection in time"),
        Unsent(reason="the host name has no address: no name server answered in time"),
    }


async def test_closing_ends_a_call_that_waits_for_a_look_up(make_client: MakeClient) -> None:
    asked: list[str] = []

    async def hang_up(host: str) -> Sequence[str]:
        asked.append(host)
        await asyncio.Event().wait()
        return []

    client = make_client(lookup=hang_up)
    calls = asyncio.gather(*(post(client, "http://slow.example/") for _ in range(2)))
    await eventually(lambda: asked)

    await client.close()

    assert await calls == [Unsent(reason="the client was closed")] * 2
    assert asked == ["slow.example"]


async def _tls_endpoint() -> Endpoint:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    return Endpoint(tls=context)


async def test_tls_is_spoken_with_a_host_whose_certificate_is_trusted(make_client: MakeClient) -> None:
    tls = ssl.create_default_context(cafile=CERTIFICATE)
    client = make_client(allow=("127.0.0.1/32",), lookup=Lookup("127.0.0.1"), tls=tls)

    async with await _tls_endpoint() as endpoint:
        exchange = await post(client, f"https://hooks.example:{endpoint.port}/")
        await client.close()

    assert exchange == HttpAnswer(status=200, headers={}, body=b"ok")


async def test_a_certificate_of_another_name_is_unsent(make_client: MakeClient) -> None:
    tls = ssl.create_default_context(cafile=CERTIFICATE)
    client = make_client(allow=("127.0.0.1/32",), lookup=Lookup("127.0.0.1"), tls=tls)

    async with await _tls_endpoint() as endpoint:
        exchange = await post(client, f"https://other.example:{endpoint.port}/")

    assert isinstance(exchange, Unsent)
    assert "Hostname mismatch" in exchange.reason
    assert endpoint.requests == []


async def test_a_certificate_of_an_unknown_authority_is_unsent(make_client: MakeClient) -> None:
    client = make_client(allow=("127.0.0.1/32",), lookup=Lookup("127.0.0.1"))

    async with await _tls_endpoint() as endpoint:
        exchange = await post(client, f"https://hooks.example:{endpoint.port}/")

    assert isinstance(exchange, Unsent)
    assert exchange.reason.startswith("TLS: the certificate is not valid")
    assert endpoint.requests == []


async def test_a_cancelled_call_leaves_the_client_usable(make_client: MakeClient, endpoint: Endpoint) -> None:
    client = make_client(allow=("127.0.0.1/32",))
    answers, endpoint.script = endpoint.script, hang
    call = asyncio.create_task(post(client, endpoint.url))
    await eventually(lambda: endpoint.requests)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    endpoint.script = answers
    assert isinstance(await post(client, endpoint.url), HttpAnswer)


class ConnectionThatIsGone:
    """What the pool hands out when the far side hangs up in that very moment."""

    def __init__(self, transport: Any) -> None:
        self.protocol = SimpleNamespace(should_close=False, set_response_params=lambda **_: None)
        self.transport = transport
        self.was_closed = False

    def close(self) -> None:
        self.was_closed = True


@pytest.mark.parametrize("transport", [None, SimpleNamespace(is_closing=lambda: True, get_write_buffer_size=lambda: 0)])
async def test_nothing_has_left_when_the_connection_was_gone_before_the_first_byte(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, transport: object
) -> None:
    gone = ConnectionThatIsGone(transport)
    monkeypatch.setattr(TCPConnector, "connect", AsyncMock(return_value=gone))

    exchange = await post(make_client(), "http://hooks.example/")

    assert exchange == Unsent(reason="no connection")
    assert gone.was_closed


async def test_an_answer_that_nobody_asked_for_is_not_the_next_deliverys(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    connections: list[asyncio.StreamWriter] = []

    async def answer_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        while await reader.readuntil(b"\r\n\r\n{}"):
            asked.append(len(connections))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            if len(asked) == 1:
                await released.wait()
                writer.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")

    released = asyncio.Event()
    pooled: list[Any] = []
    release = TCPConnector._release

    def note(connector: TCPConnector, key: Any, protocol: Any, **more: Any) -> None:
        pooled.append(protocol)
        release(connector, key, protocol, **more)

    monkeypatch.setattr(TCPConnector, "_release", note)
    client = make_client(allow=("127.0.0.1/32",))
    async with await asyncio.start_server(answer_twice, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        await post(client, url)
        released.set()
        await eventually(lambda: pooled[0].should_close)

        exchange = await post(client, url)

        for writer in connections:
            writer.close()
    assert exchange == HttpAnswer(status=200, headers={}, body=b"")
    assert asked == [1, 2]


@pytest.mark.parametrize("greeting", [b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
async def test_where_somebody_speaks_first_nothing_is_sent(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, greeting: bytes
) -> None:
    heard: list[bytes] = []
    connect = TCPConnector.connect

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        heard.append(await reader.read())
        writer.close()

    async def connect_slowly(connector: TCPConnector, *details: Any) -> Any:
        connection = await connect(connector, *details)
        await eventually(lambda: connection.protocol is None or connection.protocol.should_close)
        return connection

    monkeypatch.setattr(TCPConnector, "connect", connect_slowly)
    client = make_client(allow=("127.0.0.1/32",))
    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        exchange = await post(client, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        await eventually(lambda: len(heard) == 3)

    assert exchange == Unsent(reason="no connection")
    assert heard == [b""] * 3


async def test_whoever_does_not_read_does_not_keep_the_connection(make_client: MakeClient) -> None:
    read = asyncio.get_running_loop().create_future()

    async def read_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hung_up.wait()
        read.set_result(len(await reader.read()))
        writer.close()

    hung_up = asyncio.Event()
    client = make_client(allow=("127.0.0.1/32",), timeout_seconds=0.2)
    async with await asyncio.start_server(read_late, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"

        exchange = await client.request("POST", url, body=HttpBody(b"x" * 50_000_000, "text/plain"))

        hung_up.set()
        # Only what the kernel had taken: the rest was not waited for.
        assert await read < 50_000_000
    assert exchange == Unanswered(reason="no answer in time")


@pytest.mark.parametrize(
    "headers", [{"tracestate": "a=1\r\nHost: inside"}, {"a: 1\nb": "1"}, {"webhook-id": "\0"}, {"a": "1\r2"}]
)
async def test_a_header_that_would_break_the_head_is_refused(
    make_client: MakeClient, endpoint: Endpoint, headers: dict[str, str]
) -> None:
    client = make_client(allow=("127.0.0.1/32",))

    with pytest.raises(ValueError, match="holds a line's end"):
        await client.request("POST", endpoint.url, body=json_body({}), headers=headers)

    assert endpoint.connections == 0


@pytest.mark.parametrize("url", ["http://hooks.example/a\r\nHost: inside", "ftp://hooks.example/", "http:///a", "/a"])
async def test_what_is_no_url_of_http_is_said_to_be_none(make_client: MakeClient, url: str) -> None:
    assert await post(make_client(), url) == NotAUrl()


async def test_the_user_of_a_url_is_authorised(make_client: MakeClient, endpoint: Endpoint) -> None:
    client = make_client(allow=("127.0.0.1/32",))

    await post(client, f"http://ana:secret@127.0.0.1:{endpoint.port}/")

    assert endpoint.requests[0].headers["authorization"] == "Basic YW5hOnNlY3JldA=="


async def test_a_connection_with_half_a_request_on_it_is_not_used_again(make_client: MakeClient) -> None:
    connections: list[asyncio.StreamWriter] = []

    async def answer_unread(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")

    client = make_client(allow=("127.0.0.1/32",))
    async with await asyncio.start_server(answer_unread, "127.0.0.1", 0, limit=1) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for _ in range(2):
            exchange = await client.request("POST", url, body=HttpBody(b"x" * 50_000_000, "text/plain"))
            assert exchange == HttpAnswer(status=413, headers={}, body=b"")
        for writer in connections:
            writer.close()

    assert len(connections) == 2


async def test_closing_twice_is_fine(make_client: MakeClient, endpoint: Endpoint) -> None:
    client = make_client(allow=("127.0.0.1/32",))
    await post(client, endpoint.url)

    await client.close()
    await client.close()


async def test_a_request_of_any_method_is_sent_with_or_without_a_body(
    make_client: MakeClient, endpoint: Endpoint
) -> None:
    client = make_client(allow=("127.0.0.1/32",))

    await client.request("PUT", f"{endpoint.url}/a?b=1", body=json_body({"text": "Größe"}), headers={"x-key": "1"})
    await client.request("POST", endpoint.url, body=form_body({"to": "+49 1", "text": "a&b"}))
    await client.request("GET", endpoint.url)

    put, form, get = endpoint.requests
    assert (put.line, put.body) == ("PUT /hook/a?b=1 HTTP/1.1", '{"text":"Größe"}'.encode())
    assert (put.headers["content-type"], put.headers["x-key"]) == ("application/json", "1")
    assert (form.line, form.body) == ("POST /hook HTTP/1.1", b"to=%2B49+1&text=a%26b")
    assert form.headers["content-type"] == "application/x-www-form-urlencoded"
    assert (get.line, "content-length" in get.headers, "content-type" in get.headers) == (
        "GET /hook HTTP/1.1",
        False,
        False,
    )


async def test_an_answer_keeps_as_much_as_its_client_asks_for(make_client: MakeClient, endpoint: Endpoint) -> None:
    body = b'{"id":"m-1","text":"' + b"x" * 5000 + b'"}'
    head = b"HTTP/1.1 201 Created\r\nLocation: /m/1\r\nLocation: /m/2\r\nServer: x\r\nContent-Length: %d\r\n\r\n"
    endpoint.script = raw(head % len(body) + body)
    client = make_client(allow=("127.0.0.1/32",), kept_bytes=16384, kept_headers=("Location",))

    whole, start = await post(client, endpoint.url), await post(make_client(allow=("127.0.0.1/32",)), endpoint.url)

    assert whole == HttpAnswer(status=201, headers={"location": "/m/1"}, body=body)
    assert whole.read(dict[str, str]) == {"id": "m-1", "text": "x" * 5000}
    assert start == HttpAnswer(status=201, headers={}, body=body[:2048])
    assert start.read(dict[str, str]) is None

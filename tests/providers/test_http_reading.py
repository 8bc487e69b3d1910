"""What an answer says, whatever comes with it, and what a far side may cost us."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from pabal.providers.addresses import AddressGuard
from pabal.providers.http import Exchange, HttpAnswer, HttpBody, HttpClient, Unanswered
from tests.providers.webhook.endpoint import Endpoint, Request, Script, raw
from tests.waiting import eventually

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    client = HttpClient(guard=AddressGuard(allow=("127.0.0.1/32",)), timeout_seconds=5.0, user_agent="test")
    yield client
    await client.close()


async def post(client: HttpClient, url: str) -> Exchange:
    return await client.request("POST", url, body=HttpBody(b"{}", "application/json"))


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        # RFC 9112 §6.3: no body follows a 204 or a 304, whatever its fields say.
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (204, None, b"")),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody", (204, None, b"")),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n", (304, None, b"")),
        # Something after the end.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n0\r\n\r\n", (200, None, b"")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more than was announced", (200, None, b"ok")),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok\0\0\0", (200, None, b"ok")),
        (OK + b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n", (200, None, b"ok")),
        (OK + b"\r\n\r\n", (200, None, b"ok")),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n\0\0\1", (101, None, b"")),
        # A body that is broken.
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", (200, None, b"")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n", (200, None, b"ok")),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", (200, None, b"")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbreaks", (200, None, b"breaks")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"x" * 200_000 + b"\r\nok\r\n0\r\n\r\n",
            (200, None, b""),
        ),
        # Its body until the connection ends, and two framings, of which the chunks hold.
        (b"HTTP/1.0 200 OK\r\n\r\nold", (200, None, b"old")),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold and more", (200, None, b"old")),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            (200, None, b"ok"),
        ),
        # What it says about trying again, and what only looks like that.
        (b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n", (503, "7", b"")),
        (b"HTTP/1.1 503 Busy\r\nretry-after:  7 \r\nContent-Length: 0\r\n\r\n\0", (503, "7", b"")),
        (
            b"HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nRetry-After: 7\r\n\r\n",
            (503, None, b"ok"),
        ),
        (
            b"HTTP/1.1 103 Hints\r\nRetry-After: 7\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
            (503, None, b""),
        ),
        # The most that may come before it.
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 8 + OK, (200, None, b"ok")),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 65_000 + b"\r\nContent-Length: 2\r\n\r\nok", (200, None, b"ok")),
    ],
)
async def test_a_complete_head_is_an_answer_whatever_comes_with_it(
    client: HttpClient, endpoint: Endpoint, received: bytes, answer: tuple[int, str | None, bytes]
) -> None:
    endpoint.script = raw(received)

    exchange = await post(client, endpoint.url)

    status, retry_after, body = answer
    headers = {} if retry_after is None else {"retry-after": retry_after}
    assert exchange == HttpAnswer(status=status, headers=headers, body=body)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + OK, "more than 8 provisional answers"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n" * 100_000, "more than 8 provisional answers"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1_000_000, "the head of the answer is longer than 64 KiB"),
        (b"HTTP/1.1 200 " + b"O" * 10_000_000, "the head of the answer is longer than 64 KiB"),
        # RFC 9112 §6.3 has such an answer discarded.
        (b"HTTP/1.1 200 OK\r\nContent-Length: a\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "the answer is not HTTP"),
        (b"HTTP/1.1 100 Continue\r\n\r\n220 mail.example ESMTP\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", "the connection was closed before an answer"),
    ],
)
async def test_what_is_no_answer_costs_no_more_than_a_head(
    client: HttpClient, endpoint: Endpoint, received: bytes, reason: str
) -> None:
    endpoint.script = raw(received)

    assert await post(client, endpoint.url) == Unanswered(reason=reason)


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"0",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
async def test_a_connection_that_may_carry_something_else_is_not_used_again(
    client: HttpClient, endpoint: Endpoint, received: bytes
) -> None:
    async def stay(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(received)

    endpoint.script = stay

    exchanges = [await post(client, endpoint.url) for _ in range(3)]

    assert len({exchange.status for exchange in exchanges if isinstance(exchange, HttpAnswer)}) == 1
    assert endpoint.connections == 3


async def test_a_clean_one_is(client: HttpClient, endpoint: Endpoint) -> None:
    for status in (200, 204, 500):
        endpoint.script = _answer(status)
        await post(client, endpoint.url)

    assert endpoint.connections == 1


def _answer(status: int) -> Script:
    async def script(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 %d X\r\nTransfer-Encoding: chunked\r\n\r\n" % status)
        if status != 204:
            writer.write(b"2\r\nok\r\n0\r\n\r\n")

    return script


async def test_what_a_receiver_goes_on_sending_after_its_answer_is_not_read(
    client: HttpClient, endpoint: Endpoint
) -> None:
    """The first byte on an idle connection ends it; the far side gets rid of no more than the kernel's buffers hold."""
    sent = 0
    cut = asyncio.Event()
    begin = asyncio.Event()

    async def go_on(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(OK)
        await writer.drain()
        await begin.wait()
        try:
            while sent < 100_000_000:
                writer.write(OK * 1_000)
                await writer.drain()
                sent += 1_000 * len(OK)
        except ConnectionError:
            cut.set()

    endpoint.script = go_on
    assert isinstance(await post(client, endpoint.url), HttpAnswer)

    begin.set()
    await eventually(cut.is_set)

    assert sent < 32_000_000


async def test_a_body_without_end_costs_its_connection_and_nothing_else(client: HttpClient, endpoint: Endpoint) -> None:
    sent = 0
    cut = asyncio.Event()

    async def flood(_: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while sent < 100_000_000:
                writer.write(b"x" * 100_000)
                await writer.drain()
                sent += 100_000
        except ConnectionError:
            cut.set()

    endpoint.script = flood

    exchange = await post(client, endpoint.url)

    assert exchange == HttpAnswer(status=200, headers={}, body=b"x" * 2048)
    await eventually(cut.is_set)
    assert sent < 32_000_000

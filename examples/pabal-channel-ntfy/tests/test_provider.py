"""The public contract with an HTTP server at the far end, and the table of ntfy's answers."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pabal_channel_ntfy.provider import create

from pabal.channels.port import Rendered
from pabal.clock import ManualClock
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected
from pabal.providers.port import Provider, ProviderContext
from pabal.testing import FarSide, ProviderContract


class Ntfy(FarSide):
    """An HTTP server on a socket, which answers as ntfy's documentation says."""

    to = "backups"

    def __init__(self) -> None:
        self.port = 0
        self.answer: tuple[int, dict[str, Any]] | None = (200, {"id": "m-1", "event": "message"})
        self.keys: list[str] = []
        self.bodies: list[Any] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def connect(self) -> Provider:
        """A provider that talks to it."""
        options = {"url": f"http://127.0.0.1:{self.port}/", "timeout_seconds": self.timeout_seconds, "token": "tk_1"}
        return create(options, ProviderContext(clock=ManualClock()))

    async def accept(self) -> None:
        """Listen, on the same port as before, and take everything."""
        if not self.port or not self._server.is_serving():
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]
        self.answer = (200, {"id": "m-1", "event": "message"})

    async def refuse(self) -> None:
        """Too many requests."""
        self.answer = (429, {"code": 42901, "http": 429, "error": "limit reached: too many requests"})

    async def hang(self) -> None:
        """Read, and say nothing."""
        self.answer = None

    async def vanish(self) -> None:
        """Listen no more, and drop every connection."""
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    def arrived(self) -> Sequence[str]:
        """The keys of the requests that arrived."""
        return self.keys

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                self.bodies.append(json.loads(await reader.readexactly(int(fields["content-length"]))))
                self.keys.append(fields["x-request-id"])
                assert fields["authorization"] == "bearer tk_1"
                if self.answer is not None:
                    status, said = self.answer
                    body = json.dumps(said).encode()
                    writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Ntfy]:
    """A server that takes everything."""
    ntfy = Ntfy()
    await ntfy.accept()
    try:
        yield ntfy
    finally:
        await ntfy.vanish()


class TestNtfyProvider(ProviderContract):
    """Every law of a provider."""

    @asynccontextmanager
    async def far_side(self) -> AsyncIterator[FarSide]:
        """A new server."""
        async with listening() as ntfy:
            yield ntfy


async def send(ntfy: Ntfy, rendered: Rendered) -> Outcome:
    """Send through a provider that has just been started."""
    provider = ntfy.connect()
    try:
        return await provider.send(rendered, to="backups", tenant="acme", idempotency_key="key-1")
    finally:
        await provider.close()


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (200, {"id": "m-1"}, Accepted(provider_id="m-1", response='{"id": "m-1"}')),
        (400, {"error": "invalid topic"}, Rejected(reason="ntfy answered 400: invalid topic")),
        (401, {"error": "unauthorized"}, Misconfigured(reason="ntfy answered 401: unauthorized")),
        (403, {"error": "forbidden"}, Misconfigured(reason="ntfy answered 403: forbidden")),
        (404, {}, Misconfigured(reason="ntfy answered 404")),
        (413, {"error": "message too large"}, Rejected(reason="ntfy answered 413: message too large")),
        (429, {"error": "limit reached"}, Deferred(reason="ntfy answered 429: limit reached")),
        (500, {"error": "internal"}, Deferred(reason="ntfy answered 500: internal")),
    ],
)
async def test_what_is_made_of_an_answer(status: int, said: dict[str, Any], expected: Outcome) -> None:
    """The table of ntfy's documentation."""
    async with listening() as ntfy:
        ntfy.answer = (status, said)

        outcome = await send(ntfy, Rendered(body="Disk full"))

    if not isinstance(expected, Accepted):
        expected = type(expected)(reason=expected.reason, response=json.dumps(said))
    assert outcome == expected


async def test_title_link_and_priority_are_published() -> None:
    """As ntfy's JSON has them."""
    async with listening() as ntfy:
        rendered = Rendered(
            subject="Backup failed", body="Disk full", headers={"click": "https://a.b/", "priority": "5"}
        )

        await send(ntfy, rendered)

    [published] = ntfy.bodies
    assert published == {
        "topic": "backups",
        "message": "Disk full",
        "title": "Backup failed",
        "click": "https://a.b/",
        "priority": 5,
    }

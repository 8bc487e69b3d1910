"""The inbox's SMTP server: aiosmtpd's dialogue, served in our own event loop."""

import asyncio
import logging
import socket
from collections.abc import Sequence
from typing import Protocol, cast

from aiosmtpd import smtp as aiosmtpd

MAX_MESSAGE_OCTETS = 10 * 1024 * 1024


class Deliver(Protocol):
    """Takes a message and says under which number it is kept."""

    def __call__(self, *, mail_from: str, rcpt_to: Sequence[str], raw: bytes) -> int:
        """Keep it."""
        ...


class _Mailroom:
    """What aiosmtpd calls. Nothing more in here: it looks through every attribute for each connection."""

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver

    async def handle_DATA(  # noqa: N802 (aiosmtpd's name for it)
        self, server: aiosmtpd.SMTP, session: aiosmtpd.Session, envelope: aiosmtpd.Envelope
    ) -> str:
        assert envelope.original_content is not None, "aiosmtpd sets it before it calls"
        id_ = self._deliver(
            mail_from=_text(envelope.mail_from or ""),
            rcpt_to=[_text(address) for address in envelope.rcpt_tos],
            raw=envelope.original_content,
        )
        return f"250 2.0.0 Ok: queued as {id_}"


class _Session(aiosmtpd.SMTP):
    """One connection, known to its server for as long as it lasts."""

    def __init__(self, server: "SmtpServer", handler: _Mailroom, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            handler,
            hostname="inbox.pabal",
            ident="Pabal inbox",
            enable_SMTPUTF8=True,
            data_size_limit=MAX_MESSAGE_OCTETS,
            loop=loop,
        )
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.sessions.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._server.sessions.discard(self)

    async def hang_up(self) -> None:
        """Drop the connection, whether or not its other end still reads, and wait until its task has noticed."""
        if self.transport is not None:
            cast("asyncio.WriteTransport", self.transport).abort()
        if self._handler_coroutine is not None:
            await asyncio.wait([self._handler_coroutine])


class SmtpServer:
    """Listens, until it is closed."""

    def __init__(self) -> None:
        self.sessions: set[_Session] = set()
        self._server: asyncio.Server | None = None

    async def start(self, deliver: Deliver, *, listening: socket.socket) -> tuple[str, int]:
        """Serve on this socket and say where that is."""
        # One line per command at INFO is for debugging mail servers, and costs more than the dialogue itself.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        loop = asyncio.get_running_loop()
        mailroom = _Mailroom(deliver)
        self._server = await loop.create_server(lambda: _Session(self, mailroom, loop=loop), sock=listening)
        address, bound_port = self._server.sockets[0].getsockname()[:2]
        return address, bound_port

    async def close(self) -> None:
        """Listen no more and end the connections; idempotent."""
        if self._server is None:
            return
        self._server.close()
        await asyncio.gather(*(session.hang_up() for session in list(self.sessions)))
        await self._server.wait_closed()
        self._server = None


def _text(address: str) -> str:
    """An address as valid text: aiosmtpd keeps octets that are no UTF-8 as surrogates."""
    return address.encode("utf-8", "replace").decode()

"""SMTP servers to send to: aiosmtpd where it can do what is needed, a script where it is too well-behaved."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd import smtp as aiosmtpd
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from pabal.clock import Clock, SystemClock
from pabal.providers.smtp.options import SmtpOptions
from pabal.providers.smtp.provider import SmtpProvider
from pabal.webhook_secret import read_secret

logger = logging.getLogger(__name__)

LOGIN = {"username": "shop", "password": "s3cret"}

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Recorder:
    """What arrived; answers commands with the replies it is told to, in turn, then takes them."""

    def __init__(self, **replies: str | list[str]) -> None:
        self.envelopes: list[Envelope] = []
        self.greetings: list[str] = []
        self.logins: list[str] = []
        self.resets = 0
        self._replies = {
            command: [reply] * 1000 if isinstance(reply, str) else list(reply) for command, reply in replies.items()
        }

    def messages(self) -> list[EmailMessage]:
        """The messages as the standard library reads them. (No property: aiosmtpd reads those of its handlers.)"""
        return [parse(envelope.content) for envelope in self.envelopes]

    def _next(self, command: str) -> str:
        return self._replies[command].pop(0) if self._replies.get(command) else ""

    async def handle_EHLO(  # noqa: N802 (aiosmtpd finds it by this name)
        self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        self.greetings.append(hostname)
        if reply := self._next("EHLO"):
            return [reply]
        session.host_name = hostname
        return responses

    async def handle_MAIL(  # noqa: N802
        self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := self._next("MAIL"):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := self._next("RCPT"):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if reply := self._next("DATA"):
            return reply
        self.envelopes.append(envelope)
        return "250 2.0.0 Ok: queued as 4F1C2"

    async def handle_RSET(self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.resets += 1
        return self._next("RSET") or "250 OK"

    def authenticate(
        self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        self.logins.append(mechanism)
        expected = LoginPassword(LOGIN["username"].encode(), LOGIN["password"].encode())
        return AuthResult(success=data == expected, handled=False)


class Listening:
    """A server that runs: where, and how many connections it has seen and still has."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.open: set[asyncio.BaseTransport] = set()

    def hang_up(self) -> None:
        """Close every connection from the server's side."""
        for transport in list(self.open):
            transport.close()


def parse(content: bytes | str | None) -> EmailMessage:
    assert isinstance(content, bytes)
    return message_from_bytes(content, policy=policy.default)


@asynccontextmanager
async def serve(
    recorder: Recorder, *, port: int = 0, implicit_tls: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[Listening]:
    """An aiosmtpd server in this event loop, on a free port or this one."""
    loop = asyncio.get_running_loop()
    listening = Listening()

    class Tracked(aiosmtpd.SMTP):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            if self.transport is None:
                listening.connections += 1
            listening.open.add(transport)
            super().connection_made(transport)

        def connection_lost(self, error: Exception | None) -> None:
            listening.open.clear() if self.transport is None else listening.open.discard(self.transport)
            super().connection_lost(error)

    def session() -> aiosmtpd.SMTP:
        return Tracked(recorder, hostname="mx.test", loop=loop, authenticator=recorder.authenticate, **settings)

    server = await loop.create_server(session, "127.0.0.1", port, ssl=implicit_tls)
    listening.port = server.sockets[0].getsockname()[1]
    try:
        yield listening
    finally:
        server.close()
        listening.hang_up()
        await server.wait_closed()


@asynccontextmanager
async def serve_script(script: Script) -> AsyncIterator[Listening]:
    """A server that does with each connection what the script says, and closes it after that.

    Raises an ExceptionGroup at the end when a script itself went wrong.
    """
    listening = Listening()
    failures: list[Exception] = []
    running: set[asyncio.Task[None]] = set()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listening.connections += 1
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            # Some scripts are there to make the client hang up; a test whose client must not sees it in the log.
            logger.info("the client left: %r", error)
        except Exception as error:
            failures.append(error)
        finally:
            writer.close()
            running.discard(task)

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    listening.port = server.sockets[0].getsockname()[1]
    try:
        yield listening
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)  # Nothing but their cancellations.
    if failures:
        raise ExceptionGroup("scripts went wrong", failures)
        await server.wait_closed()


async def converse(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    until: str = "",
    replies: Mapping[str, str] = {},
    greet: bool = True,
) -> None:
    """Speak SMTP politely, with these replies, and return once `until` has come, without answering it.

    `until` is a command, `connect` (say nothing at all), `content` (the whole message) or nothing (to the end).
    """
    script = {"EHLO": "250-mx.test\r\n250 SMTPUTF8", "MAIL": "250 OK", "RCPT": "250 OK", "DATA": "354 go on"}
    script |= {"content": "250 OK", "RSET": "250 OK", "QUIT": "221 bye"} | dict(replies)
    if until == "connect":
        return
    if greet:
        writer.write(f"{script.get('connect', '220 mx.test')}\r\n".encode())
    while line := await reader.readline():
        command = line[:4].decode().upper().strip()
        if command == until:
            return
        writer.write(f"{script[command]}\r\n".encode())
        if command == "DATA" and script["DATA"].startswith("3"):
            await reader.readuntil(b"\r\n.\r\n")
            if until == "content":
                return
            writer.write(f"{script['content']}\r\n".encode())


def provider(
    port: int, *, clock: Clock | None = None, idle_seconds: float = 30.0, per_connection: int = 100, **options: Any
) -> SmtpProvider:
    """A provider for the server on this port of the loopback interface, without TLS unless asked."""
    given: dict[str, Any] = {"host": "127.0.0.1", "tls": "none", "sender": "Shop <noreply@example.com>"} | options
    tls = None
    if given["tls"] != "none":
        tls = ssl.create_default_context(cafile=given.get("ca_file"))
    return SmtpProvider(
        SmtpOptions(port=port, **given),
        tls=tls,
        clock=clock or SystemClock(),
        receipt_keys=[read_secret(secret) for secret in given.get("receipt_secrets", ())],
        idle_seconds=idle_seconds,
        transactions_per_connection=per_connection,
    )

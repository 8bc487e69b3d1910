"""One dialogue with an SMTP server. The only module that knows aiosmtplib.

DATA and the content are sent in two steps, unlike in aiosmtplib's own `data()`: what a broken connection means depends
on whether the content was begun.
"""

import asyncio
import re
import ssl
from collections.abc import Sequence
from typing import cast

import aiosmtplib
import msgspec

from pabal.outcome import Deferred, Misconfigured
from pabal.providers.smtp.mailbox import Mailbox
from pabal.providers.smtp.options import SmtpOptions
from pabal.providers.smtp.reply import Reply, Stage, to_outcome

_LEADING_DOT = re.compile(rb"^\.", re.MULTILINE)
_FAREWELL_SECONDS = 1.0
_DONE, _GO_ON = 2, 3
"""First digits of a reply. They decide, the rest only says more (RFC 5321 §4.2): 252 to RCPT is a yes too."""


class Interrupted(Exception):
    """The dialogue broke off, or the server's answer is no SMTP."""


class CannotConnect(Exception):
    """No usable connection came about; `outcome` says whose fault it is."""

    def __init__(self, outcome: Deferred | Misconfigured) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class HandOverProgress(msgspec.Struct):
    """How far one hand-over has come: written by the dialogue, read when something breaks or takes too long."""

    stage: Stage = "queue"


class SmtpConnection:
    """A connection that is ready for transactions. One task at a time; `abort` it after anything but a reply."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self._client = client
        self._needs_reset = False
        self.transactions = 0
        """How many were begun on it."""

    @classmethod
    async def open(
        cls, options: SmtpOptions, *, tls: ssl.SSLContext | None, progress: HandOverProgress
    ) -> "SmtpConnection":
        """Connect, greet, secure, log in. Raises CannotConnect. Bounded by the caller."""
        client = aiosmtplib.SMTP(
            hostname=options.host,
            port=options.effective_port,
            local_hostname=options.local_hostname or options.sender_mailbox.domain,
            use_tls=options.tls == "tls",
            start_tls=False,
            tls_context=tls,
            timeout=None,
        )
        try:
            await _prepare(client, options=options, progress=progress)
        except (aiosmtplib.SMTPException, OSError) as error:
            _abort(client)
            raise CannotConnect(_explain(error, server=options.server, stage=progress.stage)) from error
        except BaseException:
            _abort(client)
            raise
        return cls(client)

    @property
    def is_open(self) -> bool:
        """False once either side closed it."""
        return self._client.is_connected

    @property
    def offers_smtputf8(self) -> bool:
        """Whether addresses beyond ASCII can be sent over it (RFC 6531)."""
        return self._client.supports_extension("smtputf8")

    async def transact(self, message: bytes, *, sender: Mailbox, to: Mailbox, progress: HandOverProgress) -> Reply:
        """One mail transaction (RFC 5321 §3.3). The reply that decided it: the first refusal, or that to the content.

        Raises Interrupted when the connection broke before a reply; `progress` says at which stage.
        """
        self.transactions += 1
        utf8 = sender.needs_smtputf8 or to.needs_smtputf8
        # RFC 6531 §3.6: with 8-bit head fields the body type is declared too.
        parameters = (b"SMTPUTF8", b"BODY=8BITMIME") if utf8 else ()
        if self._needs_reset:
            reply = await self._command("RSET", b"RSET", progress=progress)
            if reply.code // 100 != _DONE:
                raise Interrupted(f"RSET was answered with {reply.code}")
        self._needs_reset = True
        steps: Sequence[tuple[Stage, Sequence[bytes], int]] = (
            ("MAIL", (b"MAIL", b"FROM:<%b>" % sender.address.encode(), *parameters), _DONE),
            ("RCPT", (b"RCPT", b"TO:<%b>" % to.address.encode()), _DONE),
            ("DATA", (b"DATA",), _GO_ON),
        )
        for stage, command, expected in steps:
            reply = await self._command(stage, *command, progress=progress)
            if _is_refusal(reply.code):
                return reply
            if reply.code // 100 != expected:
                raise Interrupted(f"{stage} was answered with {reply.code}")
        reply = await self._send_content(message, progress=progress)
        self._needs_reset = False
        return reply

    async def quit(self) -> None:
        """Take leave as RFC 5321 §4.1.1.10 asks, waiting a second at most for the answer, and drop the connection."""
        try:
            await self._client.execute_command(b"QUIT", timeout=_FAREWELL_SECONDS)
        except (aiosmtplib.SMTPException, OSError):
            # What the server makes of our leaving is no matter: no message is under way.
            pass
        finally:
            # Not closed gracefully: a TLS connection would wait for its other end once more.
            _abort(self._client)

    def abort(self) -> None:
        """Drop the connection at once, with whatever is not sent yet."""
        _abort(self._client)

    async def _command(self, stage: Stage, *words: bytes, progress: HandOverProgress) -> Reply:
        progress.stage = stage
        try:
            response = await self._client.execute_command(*words)
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Interrupted(str(error)) from error
        return Reply(stage=stage, code=response.code, text=response.message)

    async def _send_content(self, message: bytes, *, progress: HandOverProgress) -> Reply:
        protocol = self._client.protocol
        if protocol is None or not protocol.is_connected:
            raise Interrupted("the connection was closed before the content")
        progress.stage = "content"
        try:
            protocol.write(_LEADING_DOT.sub(b"..", message) + b".\r\n")
            response = await protocol.read_response()
        except (aiosmtplib.SMTPException, OSError) as error:
            raise Interrupted(str(error)) from error
        if response.code // 100 != _DONE and not _is_refusal(response.code):
            raise Interrupted(f"the content was answered with {response.code}")
        return Reply(stage="content", code=response.code, text=response.message)


def _is_refusal(code: int) -> bool:
    return 400 <= code < 600


async def _prepare(client: aiosmtplib.SMTP, *, options: SmtpOptions, progress: HandOverProgress) -> None:
    progress.stage = "connect"
    await client.connect()
    if options.tls == "starttls":
        progress.stage = "STARTTLS"
        await client.starttls()
    progress.stage = "EHLO"
    try:
        await client.ehlo()
    except aiosmtplib.SMTPHeloError as error:
        if error.code < 500:
            raise
        await client.helo()
    if options.username is not None and options.password is not None:
        progress.stage = "AUTH"
        await _log_in(client, username=options.username, password=options.password, encrypted=options.tls != "none")


async def _log_in(client: aiosmtplib.SMTP, *, username: str, password: str, encrypted: bool) -> None:
    """One mechanism, one try: three refusals for one wrong password are how accounts get locked."""
    mechanisms = {"plain": client.auth_plain, "login": client.auth_login, "cram-md5": client.auth_crammd5}
    preferred = ("plain", "login", "cram-md5") if encrypted else ("cram-md5", "plain", "login")
    for name in preferred:
        if name in client.server_auth_methods:
            try:
                await mechanisms[name](username, password)
            except aiosmtplib.SMTPAuthenticationError as error:
                if error.code // 100 != _DONE:
                    raise
            return
    offered = ", ".join(client.server_auth_methods).upper() or "none"
    raise aiosmtplib.SMTPNotSupported(f"no way to log in that we know (PLAIN, LOGIN, CRAM-MD5); it offers {offered}")


def _explain(error: Exception, *, server: str, stage: Stage) -> Deferred | Misconfigured:
    """What it means that a connection did not come about."""
    cause = error if error.__cause__ is None else error.__cause__
    match cause:
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return Deferred(reason=f"{server} closed the connection during the TLS handshake")
        case ssl.SSLError():
            said = getattr(cause, "verify_message", "") or cause.reason or str(cause)
            return Misconfigured(reason=f"no TLS with {server}: {said}")
    match error:
        case aiosmtplib.SMTPResponseException(code=code, message=message) if _is_refusal(code):
            outcome = to_outcome(Reply(stage=stage, code=code, text=message), server=server)
            assert isinstance(outcome, Deferred | Misconfigured), "before MAIL nothing concerns a recipient"
            return outcome
        case aiosmtplib.SMTPResponseException(message=message):
            return Misconfigured(reason=f"{server} does not speak SMTP: {message[:200]}")
        case OSError():
            return Deferred(reason=f"cannot connect to {server}: {cause}")
        case _:
            return Misconfigured(reason=f"{server}: {error}")


def _abort(client: aiosmtplib.SMTP) -> None:
    if client.transport is not None:
        cast("asyncio.WriteTransport", client.transport).abort()
    client.close()

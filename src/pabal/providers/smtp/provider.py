"""Hands e-mail over to one SMTP server."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from pabal.channels.port import Rendered
from pabal.clock import Clock
from pabal.errors import ConfigError, InvalidAddress, ReceiptRefused
from pabal.notification import Receipt
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown
from pabal.providers.options import read_options
from pabal.providers.port import CallbackRequest, Provider, ProviderContext
from pabal.providers.smtp.connection import CannotConnect, HandOverProgress, Interrupted, SmtpConnection
from pabal.providers.smtp.mailbox import Mailbox, to_mailbox
from pabal.providers.smtp.message import compose
from pabal.providers.smtp.options import SmtpOptions
from pabal.providers.smtp.pool import Pool
from pabal.providers.smtp.receipts import read_receipts
from pabal.providers.smtp.suspicion import Suspicion
from pabal.webhook_secret import read_secret

_PATH: Final = "$.providers.smtp"
_IDLE_SECONDS: Final = 30.0  # well below the 5 minutes that RFC 5321 §4.5.3.2.7 lets a server wait for a command
_TRANSACTIONS_PER_CONNECTION: Final = 100


def create(options: Mapping[str, Any], context: ProviderContext) -> Provider:
    """The entry point. Reads `ca_file` if there is one, so that a wrong path stops the start; opens no connection.

    Raises:
        ConfigError: a setting that is unknown, missing or does not fit; the message starts with its path.
    """
    own = read_options(options, SmtpOptions, path=_PATH)
    try:
        tls = None if own.tls == "none" else ssl.create_default_context(cafile=own.ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"{_PATH}.ca_file: cannot be used as PEM certificates: {error}") from error
    return SmtpProvider(
        own,
        tls=tls,
        clock=context.clock,
        name=context.name or "smtp",
        receipt_keys=[_receipt_key(secret, index=index) for index, secret in enumerate(own.receipt_secrets)],
    )


def _receipt_key(secret: str, *, index: int) -> bytes:
    try:
        return read_secret(secret)
    except ValueError as error:
        raise ConfigError(f"{_PATH}.receipt_secrets[{index}]: {error}") from None


class SmtpProvider:
    """One SMTP server. The far side does not deduplicate: a second call is a second e-mail.

    A connection that was kept and turns out stale is replaced once, unseen, as long as the server cannot have taken
    the message. From the first byte of content to the final reply whatever breaks is `Unknown`.
    """

    channel: str = "email"
    deduplicates_for: timedelta | None = None

    def __init__(
        self,
        options: SmtpOptions,
        *,
        tls: ssl.SSLContext | None,
        clock: Clock,
        name: str = "smtp",
        receipt_keys: Sequence[bytes] = (),
        idle_seconds: float = _IDLE_SECONDS,
        transactions_per_connection: int = _TRANSACTIONS_PER_CONNECTION,
    ) -> None:
        self.timeout_seconds: float = options.timeout_seconds
        self._options = options
        self._sender = options.sender_mailbox
        self._tls = tls
        self._clock = clock
        self._name = name
        self._receipt_keys = receipt_keys
        self._suspicion = Suspicion()
        self._pool = Pool(
            self._open,
            limit=options.max_connections,
            idle_seconds=idle_seconds,
            transactions_per_connection=transactions_per_connection,
        )

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        """See `Provider.send`. The key becomes the Message-ID; every tenant sends as the one `sender`."""
        del tenant
        try:
            mailbox = to_mailbox(to)
        except InvalidAddress as error:
            return Rejected(reason=str(error))
        message = compose(rendered, sender=self._sender, to=mailbox, key=idempotency_key, now=self._clock.now())
        progress = HandOverProgress()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                outcome = await self._hand_over(message, to=mailbox, progress=progress)
        except CannotConnect as error:
            return error.outcome
        except Interrupted as error:
            return self._broken_off(f"{self._options.server} broke off at {progress.stage}: {error}", progress=progress)
        except TimeoutError:
            return self._broken_off(self._late(progress), progress=progress)
        return outcome

    async def check(self) -> Accepted | Deferred | Misconfigured:
        """See `ChecksConnection.check`: connect, EHLO, TLS and login as configured, no mail."""
        progress = HandOverProgress()
        try:
            async with asyncio.timeout(self.timeout_seconds):
                connection = await self._open(progress)
        except CannotConnect as error:
            return error.outcome
        except TimeoutError:
            return Deferred(reason=self._late(progress))
        connection.abort()
        secured = {"none": "without TLS", "starttls": "STARTTLS", "tls": "TLS"}[self._options.tls]
        login = f", logged in as {self._options.username}" if self._options.username is not None else ", no login"
        return Accepted(response=f"{self._options.server} answers, {secured}{login}")

    def receipts(self, request: CallbackRequest) -> Sequence[Receipt]:
        """See `TakesReceipts.receipts`."""
        if not self._receipt_keys:
            raise ReceiptRefused(f"no secret is configured for it: set $.providers.{self._name}.receipt_secrets")
        return read_receipts(request, provider=self._name, keys=self._receipt_keys, now=self._clock.now())

    async def close(self) -> None:
        """See `Provider.close`."""
        await self._pool.close()

    async def _hand_over(self, message: bytes, *, to: Mailbox, progress: HandOverProgress) -> Outcome:
        async with self._pool.lease() as lease:
            kept = lease.take_idle()
            outcome = await self._try_kept(kept, message, to=to, progress=progress) if kept else None
            if outcome is None:
                connection = await lease.open(progress)
                outcome = await self._try(connection, message, to=to, progress=progress)
            return outcome

    async def _try_kept(
        self, kept: SmtpConnection, message: bytes, *, to: Mailbox, progress: HandOverProgress
    ) -> Outcome | None:
        """As `_try`; None if the connection was stale and the message is certainly still ours."""
        try:
            outcome = await self._try(kept, message, to=to, progress=progress)
        except Interrupted:
            if progress.stage == "content":
                raise
            return None
        # 421: the server ends this session, but may well serve the next one (RFC 5321 §3.8).
        return None if not kept.is_open and progress.stage != "content" else outcome

    async def _try(
        self, connection: SmtpConnection, message: bytes, *, to: Mailbox, progress: HandOverProgress
    ) -> Outcome:
        if not connection.offers_smtputf8:
            if self._sender.needs_smtputf8:
                return Misconfigured(reason=f"{self._options.server} does not offer SMTPUTF8, which the sender needs")
            if to.needs_smtputf8:
                return Rejected(reason=f"{self._options.server} cannot carry this address: it does not offer SMTPUTF8")
        reply = await connection.transact(message, sender=self._sender, to=to, progress=progress)
        return self._suspicion.judge(reply, server=self._options.server, recipient=to.address)

    def _broken_off(self, reason: str, *, progress: HandOverProgress) -> Outcome:
        return Unknown(reason=reason) if progress.stage == "content" else Deferred(reason=reason)

    def _late(self, progress: HandOverProgress) -> str:
        server, seconds = self._options.server, f"{self.timeout_seconds:g} s"
        match progress.stage:
            case "queue":
                return f"all {self._options.max_connections} connections to {server} were busy for {seconds}"
            case "content":
                return f"{server} did not confirm the message within {seconds}"
            case "connect":
                return f"{server} was not reached within {seconds}"
            case stage:
                return f"{server} did not answer {stage} within {seconds}"

    async def _open(self, progress: HandOverProgress) -> SmtpConnection:
        return await SmtpConnection.open(self._options, tls=self._tls, progress=progress)

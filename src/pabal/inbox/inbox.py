"""The inbox as the composer sees it: start, two addresses, an application, close."""

import socket
from collections.abc import Mapping, Sequence

from starlette.applications import Starlette

from pabal.clock import Clock
from pabal.inbox.mailbag import CaughtEmail, Hook, Mailbag
from pabal.inbox.pages import Pages
from pabal.inbox.signature import check_signature
from pabal.inbox.smtp import SmtpServer

_KEEP = 500
_KEEP_OCTETS = 64 * 1024 * 1024


class Inbox:
    """Catches e-mail and webhooks and shows them.

    `app` is an ASGI application to serve on a port of its own or to mount; it needs no lifespan. `webhook_secrets`
    (`whsec_…`, of every tenant) are what signatures are checked with. `first_command` is shown while nothing has
    arrived: the line to paste into a terminal.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        webhook_secrets: Sequence[str] = (),
        first_command: str | None = None,
        keep: int = _KEEP,
        keep_octets: int = _KEEP_OCTETS,
    ) -> None:
        self._clock = clock
        self._secrets = tuple(webhook_secrets)
        self._mailbag = Mailbag(keep=keep, keep_octets=keep_octets)
        self._smtp = SmtpServer()
        self._smtp_address: tuple[str, int] | None = None
        self._app = Pages(self, self._mailbag, first_command=first_command).app()

    @property
    def app(self) -> Starlette:
        """The page, its JSON twin and the hook."""
        return self._app

    @property
    def smtp_address(self) -> tuple[str, int] | None:
        """Host and port of the SMTP server, once started."""
        return self._smtp_address

    async def start(self, *, listening: socket.socket) -> tuple[str, int]:
        """Take e-mail on a socket that listens already, which is the inbox's from now on; returns `smtp_address`."""
        self._smtp_address = await self._smtp.start(self._deliver, listening=listening)
        return self._smtp_address

    async def close(self) -> None:
        """Stop listening and end the SMTP connections; idempotent. What has arrived can still be looked at."""
        await self._smtp.close()

    def take_hook(self, path: str, *, headers: Sequence[tuple[str, str]], body: bytes) -> int:
        """Keep a webhook and say under which number."""
        hook = Hook(
            id_=self._mailbag.next_id(),
            received_at=self._clock.now(),
            path=path,
            headers=headers,
            body=body,
            signature=check_signature(body, headers=_lowered(headers), secrets=self._secrets),
        )
        self._mailbag.add(hook)
        return hook.id

    def _deliver(self, *, mail_from: str, rcpt_to: Sequence[str], raw: bytes) -> int:
        email = CaughtEmail(
            id_=self._mailbag.next_id(),
            received_at=self._clock.now(),
            mail_from=mail_from,
            rcpt_to=rcpt_to,
            raw=raw,
        )
        self._mailbag.add(email)
        return email.id


def _lowered(headers: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers}

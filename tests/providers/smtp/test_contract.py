"""The laws of a provider, with a real SMTP server at the far side."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec
from aiosmtpd import smtp as aiosmtpd
from aiosmtpd.smtp import Envelope, Session

from pabal.channels.port import Rendered
from pabal.providers.port import CallbackRequest, Provider
from pabal.providers.signatures import sign
from pabal.testing import FarSide, ProviderContract
from pabal.webhook_secret import read_secret
from tests.providers.smtp.servers import Recorder, parse, provider, serve

SECRET = "whsec_YSBzZWNyZXQgYmV0d2VlbiB1cyBhbmQgdGhlIHJlbGF5"


class Mailbox(Recorder):
    """Takes, refuses or keeps silent about whole messages, and remembers their keys."""

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []
        self.answer: str | None = "250 OK"

    async def handle_DATA(self, server: aiosmtpd.SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.keys.append(parse(envelope.content)["Message-ID"].strip("<>").partition("@")[0])
        if self.answer is None:
            await asyncio.Event().wait()
        return self.answer or ""


class MailServer(FarSide):
    to = "ana@example.org"
    rendered = Rendered(subject="Hello", body="Hello", html="<p>Hello</p>")

    def __init__(self, running: AsyncExitStack) -> None:
        self._mailbox = Mailbox()
        self._running = running
        self._port = 0
        self._is_up = False

    def connect(self) -> Provider:
        return provider(self._port, timeout_seconds=self.timeout_seconds, receipt_secrets=(SECRET,))

    def callback(self) -> CallbackRequest:
        at = datetime.now(UTC)
        reports = [
            {"event": "1", "kind": "delivered", "at": at, "message_id": f"<{uuid4()}@example.com>"},
            {"event": "2", "kind": "bounced", "at": at, "provider_id": "4WxYz", "permanent": True},
        ]
        body = msgspec.json.encode({"receipts": reports})
        return CallbackRequest(headers=sign(body, key=read_secret(SECRET), message_id="m", at=at), body=body)

    async def accept(self) -> None:
        self._mailbox.answer = "250 OK"
        if not self._is_up:
            server = await self._running.enter_async_context(serve(self._mailbox, port=self._port))
            self._port, self._is_up = server.port, True

    async def refuse(self) -> None:
        self._mailbox.answer = "550 5.7.1 no"

    async def hang(self) -> None:
        self._mailbox.answer = None

    async def vanish(self) -> None:
        await self._running.aclose()
        self._is_up = False

    def arrived(self) -> Sequence[str]:
        return self._mailbox.keys


class TestSmtpProvider(ProviderContract):
    @asynccontextmanager
    async def far_side(self) -> AsyncIterator[FarSide]:
        async with AsyncExitStack() as running:
            server = MailServer(running)
            await server.accept()
            yield server

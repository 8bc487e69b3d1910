"""Who visits the inbox in the tests: a browser, and our own SMTP provider."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette

from pabal.channels.port import Rendered
from pabal.clock import ManualClock
from pabal.inbox import Inbox
from pabal.outcome import Outcome
from pabal.providers.smtp.options import SmtpOptions
from pabal.providers.smtp.provider import SmtpProvider
from tests.waiting import eventually

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Browser:
    """Reads the inbox over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, *, url: str) -> None:
        self._session = session
        self.url = url

    async def get(
        self, path: str, *, status: int | None = 200, headers: Mapping[str, str] = {}
    ) -> aiohttp.ClientResponse:
        async with self._session.get(self.url + path, headers=headers) as answer:
            await answer.read()
        assert status in (None, answer.status), await answer.text()
        return answer

    async def text(self, path: str) -> str:
        return await (await self.get(path)).text()

    async def json(self, path: str) -> dict[str, object]:
        document = await (await self.get(path)).json()
        assert isinstance(document, dict)
        return document

    async def post(self, path: str, *, body: bytes = b"", headers: Mapping[str, str] = {}, status: int = 200) -> None:
        async with self._session.post(self.url + path, data=io.BytesIO(body), headers=headers) as answer:
            assert answer.status == status, await answer.text()

    async def delete(self, path: str) -> None:
        async with self._session.delete(self.url + path) as answer:
            assert answer.status == 204


@asynccontextmanager
async def browse(app: Starlette) -> AsyncIterator[Browser]:
    """Serve the application on a free port and read it."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with aiohttp.ClientSession() as session:
            yield Browser(session, url=f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def mailing(inbox: Inbox, *, sender: str = "Shop <noreply@example.com>") -> AsyncIterator[SmtpProvider]:
    """Our own SMTP provider, sending to a started inbox."""
    assert inbox.smtp_address is not None
    host, port = inbox.smtp_address
    provider = SmtpProvider(SmtpOptions(host=host, port=port, tls="none", sender=sender), tls=None, clock=ManualClock())
    try:
        yield provider
    finally:
        await provider.close()


async def mail(
    provider: SmtpProvider,
    *,
    subject: str = "Hello",
    body: str = "It works.",
    html: str | None = None,
    to: str = "ana@example.com",
) -> Outcome:
    rendered = Rendered(subject=subject, body=body, html=html)
    return await provider.send(rendered, to=to, tenant="default", idempotency_key="key-1")

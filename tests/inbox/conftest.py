import socket
from collections.abc import AsyncIterator

import pytest

from pabal.clock import ManualClock
from pabal.inbox import Inbox
from pabal.providers.smtp.provider import SmtpProvider
from tests.inbox.visitors import SECRET, Browser, browse, mailing


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox = Inbox(ManualClock(), webhook_secrets=[SECRET])
    await inbox.start(listening=socket.create_server(("127.0.0.1", 0)))
    yield inbox
    await inbox.close()


@pytest.fixture
async def browser(inbox: Inbox) -> AsyncIterator[Browser]:
    async with browse(inbox.app) as browser:
        yield browser


@pytest.fixture
async def mailer(inbox: Inbox) -> AsyncIterator[SmtpProvider]:
    async with mailing(inbox) as provider:
        yield provider

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pabal.channels.port import Rendered
from pabal.clock import SystemClock
from pabal.outcome import Outcome
from pabal.providers.port import ProviderContext
from pabal.providers.webhook import WebhookProvider, create
from tests.providers.webhook.endpoint import Endpoint

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEWER_SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = '{"type":"notification","title":"Größe ✓"}'

MakeProvider = Callable[..., WebhookProvider]


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    async with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
async def make_provider() -> AsyncIterator[MakeProvider]:
    made: list[WebhookProvider] = []

    def make(**options: Any) -> WebhookProvider:
        context = ProviderContext(
            clock=SystemClock(), webhook_secrets={"acme": [SECRET], "rotating": [NEWER_SECRET, SECRET], "bare": []}
        )
        made.append(create({"allow": ["127.0.0.1/32"], **options}, context))
        return made[-1]

    yield make
    for provider in made:
        await provider.close()


@pytest.fixture
def provider(make_provider: MakeProvider) -> WebhookProvider:
    return make_provider(timeout_seconds=5)


async def send(provider: WebhookProvider, to: str, *, tenant: str = "acme", key: str = "key-1") -> Outcome:
    return await provider.send(Rendered(body=BODY), to=to, tenant=tenant, idempotency_key=key)

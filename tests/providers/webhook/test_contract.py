from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pabal.clock import SystemClock
from pabal.providers.addresses import AddressGuard
from pabal.providers.port import Provider, ProviderContext
from pabal.providers.webhook import WebhookOptions, WebhookProvider
from pabal.testing.providers import FarSide, ProviderContract
from tests.providers.webhook.conftest import SECRET
from tests.providers.webhook.endpoint import Endpoint, answer, hang


class WebhookFarSide(FarSide):
    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.to = endpoint.url
        self.listens = True

    def connect(self) -> Provider:
        context = ProviderContext(clock=SystemClock(), webhook_secrets={self.tenant: [SECRET]})
        options = WebhookOptions(allow=("127.0.0.1/32",), timeout_seconds=self.timeout_seconds)
        guard = AddressGuard(allow=options.allow)
        # The resolver is not asked beyond this machine here.
        return WebhookProvider(options, context=context, guard=guard, probe_name="localhost")

    async def accept(self) -> None:
        if not self.listens:
            await self.endpoint.start()
            self.listens = True
        self.endpoint.script = answer(200)

    async def refuse(self) -> None:
        self.endpoint.script = answer(500)

    async def hang(self) -> None:
        self.endpoint.script = hang

    async def vanish(self) -> None:
        await self.endpoint.stop()
        self.listens = False

    def arrived(self) -> Sequence[str]:
        return [request.headers["webhook-id"] for request in self.endpoint.requests]


class TestWebhookProvider(ProviderContract):
    @asynccontextmanager
    async def far_side(self) -> AsyncIterator[FarSide]:
        async with Endpoint() as endpoint:
            yield WebhookFarSide(endpoint)

"""A whole worker in this process, over an embedded log and ledger, with a provider that does what a test says."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from pabal.broker.port import Producer, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.port import Rendered
from pabal.channels.webhook import WebhookChannel
from pabal.clock import Clock, SystemClock
from pabal.codec import delivery_record, read_event
from pabal.config import ChannelSettings, WorkerSettings
from pabal.errors import TemplateError
from pabal.guard import GuardSettings
from pabal.ledger.port import Ledger
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.notification import (
    EVENTS_TOPIC,
    Address,
    Content,
    Delivery,
    DeliveryEvent,
    TemplateRef,
    delivery_id,
    notification_id,
)
from pabal.ops.follower import OpsFollower
from pabal.outcome import Accepted, Outcome
from pabal.policy import DEFAULT_CLASSES
from pabal.topics.spec import topics_for
from pabal.worker.carrier import Carrier
from pabal.worker.channel import WorkerChannel
from pabal.worker.deed import Observer
from pabal.worker.deliver import Deliverer
from pabal.worker.sending import Sender
from pabal.worker.telling import Teller
from pabal.worker.worker import Worker
from tests.waiting import eventually_told

WEBHOOK_TOPIC = "pabal.deliveries.webhook.critical"


def a_delivery(number: int = 0, **changes: Any) -> Delivery:
    """One of any number of different deliveries, accepted now."""
    address = Address(channel="webhook", address=changes.get("address", "https://example.com/"))
    asked = notification_id(tenant=changes.get("tenant", "shop"), idempotency_key=str(number))
    now = datetime.now(UTC)
    delivery = Delivery(
        id=delivery_id(asked, address),
        notification_id=asked,
        tenant="shop",
        channel="webhook",
        address=address.address,
        class_="critical",
        accepted_at=now,
        expires_at=now + timedelta(hours=1),
        content=Content(body="hello"),
    )
    return msgspec.structs.replace(delivery, **changes)


class Provider:
    """Answers as `does` says; keeps what it was asked to send, in order."""

    channel = "webhook"
    timeout_seconds = 5.0
    deduplicates_for: timedelta | None = timedelta(days=3)

    def __init__(self, does: Callable[[str], Awaitable[Outcome]] | None = None) -> None:
        self._does = does
        self.sent: list[tuple[str, str]] = []
        """Tenant and address of each call."""

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        del rendered, idempotency_key
        self.sent.append((tenant, to))
        return await self._does(to) if self._does is not None else Accepted()

    def host_of(self, address: str) -> str:
        return address.split("/", 3)[2]

    async def close(self) -> None:
        return None


class Hanging(Provider):
    """Never answers a call of an address with `hanging` in it; accepts all else at once."""

    def __init__(self, *, timeout_seconds: float = Provider.timeout_seconds) -> None:
        super().__init__(_hang)
        self.timeout_seconds = timeout_seconds


async def _hang(to: str) -> Outcome:
    if "hanging" in to:
        await asyncio.Event().wait()
    return Accepted()


class Sending:
    """What sends the deliveries of one channel, without a dispatch: each step is a test's."""

    def __init__(
        self, *, carrier: Carrier, ledger: Ledger, producer: Producer, clock: Clock, observers: Sequence[Observer] = ()
    ) -> None:
        self.sender = Sender(clock=clock, tracing=None)
        self.teller = Teller(producer=producer, ledger=ledger, observers=observers)
        self.deliverer = Deliverer(
            carrier=carrier,
            classes=DEFAULT_CLASSES,
            ledger=ledger,
            find_template=no_template,
            clock=clock,
            sender=self.sender,
            is_observed=bool(observers),
        )
        self.call = self.deliverer.call
        self.refuse = self.deliverer.refuse
        self.tell = self.teller.tell
        self.end_overdue = self.sender.end_overdue


class WorkerLab:
    """Log and ledger of one test."""

    def __init__(self, folder: Path, broker: SqliteBroker, clock: SystemClock) -> None:
        self.folder = folder
        self.broker = broker
        self.clock = clock

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path, *, has_topics: bool = True) -> AsyncIterator["WorkerLab"]:
        clock = SystemClock()
        broker = await SqliteBroker.open(folder / "log.db", clock=clock)
        lab = cls(folder, broker, clock)
        if has_topics:
            await lab.create_topics()
        try:
            yield lab
        finally:
            await broker.close()

    async def create_topics(self, *, partitions: int = 1) -> None:
        for spec in topics_for(["webhook"], partitions=partitions, replication=None):
            await self.broker.admin().create_topic(spec)

    @contextlib.asynccontextmanager
    async def ledger(self, worker: str = "one") -> AsyncIterator[SqliteLedger]:
        ledger = await SqliteLedger.open(self.folder / "ledger.db", clock=self.clock, worker=worker)
        try:
            yield ledger
        finally:
            await ledger.close()

    def worker(
        self,
        ledger: SqliteLedger,
        *providers: Provider,
        concurrency: int = 16,
        window: int = 500,
        drain_seconds: float = 10.0,
        guard: Mapping[str, Any] | None = None,
        rate_per_second: float | None = None,
        clock: Clock | None = None,
        observers: Sequence[Observer] = (),
    ) -> Worker:
        """A worker for webhooks alone; the providers are called `a`, `b`, …"""
        first, *others = (
            Carrier(
                channel=WebhookChannel(),
                provider=provider,
                provider_name=name,
                rate_per_second=rate_per_second,
            )
            for name, provider in zip("abc", providers, strict=False)
        )
        return Worker(
            broker=self.broker,
            ops=OpsFollower(self.broker.reader()),
            ledger=ledger,
            carriers={"webhook": msgspec.structs.replace(first, others=tuple(others))},
            channels={"webhook": ChannelSettings(provider="a", concurrency=concurrency)},
            classes=DEFAULT_CLASSES,
            settings=WorkerSettings(window=window, drain_seconds=drain_seconds),
            find_template=no_template,
            clock=clock or self.clock,
            observers=observers,
            guard=GuardSettings(**(guard or {})),
            random=lambda: 0.0,
        )

    @contextlib.asynccontextmanager
    async def running(self, *providers: Provider, **settings: Any) -> AsyncIterator[WorkerChannel]:
        """The webhook channel of a worker that runs, and is stopped at the end."""
        stopping = asyncio.Event()
        async with self.ledger() as ledger, asyncio.TaskGroup() as group:
            worker = self.worker(ledger, *providers, **settings)
            group.create_task(worker.run(stopping))
            try:
                yield worker.channels["webhook"]
            finally:
                stopping.set()

    @contextlib.asynccontextmanager
    async def running_until_cancelled(self, *providers: Provider, window: int) -> AsyncIterator[None]:
        """A worker that runs, and is cancelled at the end: the calls it has under way need not end."""
        async with self.ledger() as ledger:
            worker = self.worker(ledger, *providers, window=window, drain_seconds=0.1)
            running = asyncio.create_task(worker.run(asyncio.Event()))
            try:
                yield
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

    async def append(self, *deliveries: Delivery) -> None:
        producer = self.broker.producer()
        await producer.append([delivery_record(delivery) for delivery in deliveries])
        await producer.close()

    async def records(self, topic: str) -> list[Record]:
        reader = self.broker.reader()
        partitions = await self.broker.admin().watermarks(topic)
        return [record for each in partitions async for batch in reader.read(each) for record in batch]

    async def events(self) -> list[DeliveryEvent]:
        return [read_event(record) for record in await self.records(EVENTS_TOPIC)]

    async def until_told(self, kind: str, *, count: int = 1) -> list[DeliveryEvent]:
        """The events of a kind, once there are as many."""
        return await self.until(lambda events: [each for each in events if each.kind == kind], count=count)

    async def until(
        self, chosen: Callable[[list[DeliveryEvent]], list[DeliveryEvent]], *, count: int
    ) -> list[DeliveryEvent]:
        async def enough() -> list[DeliveryEvent]:
            found = chosen(await self.events())
            return found if len(found) >= count else []

        return await eventually_told(enough, within_seconds=15.0)


async def no_template(pinned: TemplateRef) -> Content:
    raise TemplateError(f"template {pinned.name!r} is gone")

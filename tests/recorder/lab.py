"""A real log, a real store, and a recorder between them; a store that can be made to fail."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from pabal.broker.port import NewRecord, Record, TopicPartition
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import Clock, SystemClock
from pabal.codec import dead_record, delivery_record, event_record
from pabal.errors import StoreRefused, StoreUnavailable
from pabal.groups import RECORDER_GROUP, recorded_topics
from pabal.guard import DEFAULT_GUARD, GuardSettings
from pabal.notification import Delivery, DeliveryEvent, EventKind, event_id
from pabal.recorder.recorder import Recorder
from pabal.store.port import DeliveryView, StoredFact
from pabal.store.sql import SqlStore
from pabal.topics.spec import topics_for
from tests.store.laws.lab import a_delivery
from tests.waiting import eventually_told

CHANNELS = ("email", "webhook")

Follow = Callable[[Sequence[StoredFact]], Awaitable[None]]


class FlakyStore(SqlStore):
    """A store that is away, or that does not take some facts."""

    is_away = False
    tries = 0

    def refuses(self, fact: StoredFact) -> bool:
        """Whether it will never take this one."""
        del fact
        return False

    async def fold(self, facts: Sequence[StoredFact]) -> None:
        self.tries += 1
        if self.is_away:
            raise StoreUnavailable("it is away")
        if any(self.refuses(fact) for fact in facts):
            raise StoreRefused("a number is too large")
        await super().fold(facts)


class WatchedRecorder(Recorder):
    """Remembers which partitions it lost."""

    def __init__(self, **arguments: Any) -> None:
        self.taken_away: list[TopicPartition] = []
        super().__init__(**arguments)

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.taken_away += partitions
        super().lost(partitions)


class Lab:
    """One log, one store."""

    def __init__(self, folder: Path, broker: SqliteBroker, clock: Clock) -> None:
        self.folder = folder
        self.broker = broker
        self.clock = clock
        self.url = f"sqlite:{folder / 'store' / 'store.db'}"
        self.store = FlakyStore(self.url, clock=clock)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(
        cls, folder: Path, *, clock: Clock | None = None, session_seconds: float = 6.0
    ) -> AsyncIterator["Lab"]:
        """With every topic."""
        now = clock or SystemClock()
        broker = await SqliteBroker.open(folder / "log.db", clock=now, session_seconds=session_seconds)
        for spec in topics_for(CHANNELS, partitions=2, replication=None):
            await broker.admin().create_topic(spec)
        lab = cls(folder, broker, now)
        yield lab
        await lab.store.close()
        await broker.close()

    @contextlib.asynccontextmanager
    async def recording(
        self,
        *,
        follow: Follow | None = None,
        retention: timedelta = timedelta(days=30),
        guard: GuardSettings = DEFAULT_GUARD,
    ) -> AsyncIterator[WatchedRecorder]:
        """A recorder that runs until the end."""
        recorder = WatchedRecorder(
            broker=self.broker,
            store=self.store,
            channels=CHANNELS,
            retention=retention,
            clock=self.clock,
            follow=follow,
            guard=guard,
        )
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(recorder.run(stopping))
            try:
                yield recorder
            finally:
                stopping.set()

    async def append(self, *records: NewRecord) -> None:
        """Append to the log."""
        producer = self.broker.producer()
        await producer.append(records)
        await producer.close()

    def a_delivery(self, **changes: Any) -> Delivery:
        """A delivery accepted now."""
        now = self.clock.now()
        return msgspec.structs.replace(
            a_delivery(), **{"accepted_at": now, "expires_at": now + timedelta(hours=1), **changes}
        )

    def event(self, delivery: Delivery, kind: EventKind) -> DeliveryEvent:
        """Something that happens to it now."""
        return DeliveryEvent(
            id=event_id(delivery.id, attempt=1, kind=kind),
            kind=kind,
            delivery_id=delivery.id,
            notification_id=delivery.notification_id,
            tenant=delivery.tenant,
            channel=delivery.channel,
            address=delivery.address,
            class_=delivery.class_,
            attempt=1,
            at=self.clock.now(),
            provider="far",
        )

    async def accept_and_send(self, **changes: Any) -> Delivery:
        """The records of a delivery that was sent."""
        delivery = self.a_delivery(**changes)
        self.last_event = self.event(delivery, "sent")
        await self.append(delivery_record(delivery), event_record(self.last_event))
        return delivery

    async def view(self, delivery: Delivery) -> DeliveryView | None:
        """The delivery as it is recorded."""
        return await self.store.delivery(delivery.id, tenant=delivery.tenant)

    async def committed(self, topic: str) -> Mapping[TopicPartition, int]:
        """Where the group stands in a topic."""
        return await self.broker.admin().committed(RECORDER_GROUP, [topic])

    async def uncommitted(self) -> int:
        """Records that the group has not committed."""
        admin = self.broker.admin()
        topics = recorded_topics(CHANNELS)
        committed = await admin.committed(RECORDER_GROUP, topics)
        marks = [pair for topic in topics for pair in (await admin.watermarks(topic)).items()]
        return sum(mark.high - committed.get(partition, mark.low) for partition, mark in marks)


def dead_of(value: bytes, *, delivery: Delivery | None, lab: Lab) -> NewRecord:
    """A dead letter."""
    origin = Record(
        topic="pabal.deliveries.webhook.standard", partition=0, offset=7, timestamp=0.0, key=b"k", value=value
    )
    return dead_record(
        origin,
        channel="webhook",
        delivery=delivery,
        error_class="undecodable",
        message="not JSON",
        at=lab.clock.now(),
        group="pabal.worker.webhook.standard",
    )


until = partial(eventually_told, within_seconds=10.0)

"""An API over a real log, store and ledger, all in files; the test plays the recorder and the worker."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.registry import installed_channels
from pabal.clock import ManualClock
from pabal.codec import read_event
from pabal.config import ApiSettings
from pabal.groups import RECORDER_GROUP, recorded_topics
from pabal.ledger.protocol import Call, Claim, Finish, Source
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.notification import (
    EVENTS_TOPIC,
    Address,
    Delivery,
    DeliveryEvent,
    EventKind,
    delivery_id,
    event_id,
    notification_id,
)
from pabal.outcome import Accepted, Done, Outcome, Verdict
from pabal.store.port import StoredFact
from pabal.store.sql import SqlStore
from pabal.topics.spec import topics_for
from tests.api.lab import SETTINGS, Lab


class World:
    """See the module."""

    def __init__(self, broker: SqliteBroker, store: SqlStore, ledger: SqliteLedger, clock: ManualClock) -> None:
        self.broker = broker
        self.store = store
        self.ledger = ledger
        self.clock = clock
        settings: ApiSettings = msgspec.structs.replace(SETTINGS, append_timeout_seconds=5.0)
        self.api = Lab(settings=settings, broker=broker, store=store, ledger=ledger, clock=clock)

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator[Self]:
        clock = ManualClock()
        broker = await SqliteBroker.open(folder / "log.db", clock=clock)
        for spec in topics_for(installed_channels(), partitions=2, replication=None):
            await broker.admin().create_topic(spec)
        store = SqlStore(f"sqlite:{folder / 'store.db'}", clock=clock)
        ledger = await SqliteLedger.open(folder / "ledger.db", clock=clock, worker="test")
        try:
            yield cls(broker, store, ledger, clock)
        finally:
            await ledger.close()
            await store.close()
            await broker.close()

    def delivery(self, name: str = "ana", *, key: str = "order-17", **more: Any) -> Delivery:
        """One that was accepted just now, of the notification of an idempotency key."""
        fields: dict[str, Any] = {"tenant": "shop", "class_": "standard", **more}
        notification = notification_id(tenant=fields["tenant"], idempotency_key=key)
        to = Address(channel="email", address=f"{name}@example.com")
        now = self.clock.now()
        return Delivery(
            id=delivery_id(notification, to),
            notification_id=notification,
            channel=to.channel,
            address=to.address,
            accepted_at=now,
            expires_at=now + timedelta(days=1),
            **fields,
        )

    def event(self, delivery: Delivery, kind: EventKind, *, attempt: int = 1, **more: Any) -> DeliveryEvent:
        return DeliveryEvent(
            id=event_id(delivery.id, attempt=attempt, kind=kind),
            kind=kind,
            delivery_id=delivery.id,
            notification_id=delivery.notification_id,
            tenant=delivery.tenant,
            channel=delivery.channel,
            address=delivery.address,
            class_=delivery.class_,
            attempt=attempt,
            at=self.clock.now(),
            **more,
        )

    async def record(self, *facts: StoredFact) -> None:
        """As the recorder does."""
        await self.store.fold(facts)

    async def fall_behind(self, *, records: int) -> None:
        """Let the log hold what no recorder has read."""
        value = NewRecord(topic=EVENTS_TOPIC, key=b"k", value=b"{}")
        await self.broker.producer().append([value] * records)

    async def catch_up(self) -> None:
        """Let the recorder have read everything."""
        admin = self.broker.admin()
        marks = [await admin.watermarks(topic) for topic in recorded_topics(installed_channels())]
        await admin.reset_offsets(RECORDER_GROUP, {tp: mark.high for each in marks for tp, mark in each.items()})
        self.clock.advance(1)

    async def claim(self, delivery: Delivery) -> Claim:
        """Let a worker begin to call."""
        ask = Claim(
            source=Source(delivery.attempt, delivery.parks),
            owner=self.ledger.owner,
            token=self.ledger.new_token(),
            lease_seconds=30.0,
            provider="smtp",
            may_repeat=False,
            prune_after=(delivery.expires_at + timedelta(days=1)).timestamp(),
        )
        answer = await self.ledger.claim(delivery.id, ask)
        assert isinstance(answer, Call), answer
        return ask

    async def send(self, delivery: Delivery, *, outcome: Outcome | None = None, verdict: Verdict | None = None) -> None:
        """Let a worker call, and the provider take it (or end otherwise)."""
        ask = await self.claim(delivery)
        end = Finish(
            attempt=delivery.attempt,
            owner=ask.owner,
            token=ask.token,
            outcome=outcome or Accepted(),
            verdict=verdict or Done(),
        )
        await self.ledger.finish(delivery.id, end)

    async def events(self, delivery: UUID) -> Sequence[DeliveryEvent]:
        """What the log tells of a delivery."""
        return [event for event in map(read_event, await self.records(EVENTS_TOPIC)) if event.delivery_id == delivery]

    async def records(self, topic: str) -> Sequence[Record]:
        reader, admin = self.broker.reader(), self.broker.admin()
        partitions = await admin.watermarks(topic)
        return [record for each in partitions async for some in reader.read(each) for record in some]

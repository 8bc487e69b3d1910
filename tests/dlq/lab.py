"""Dead letters on an embedded log, with a stand-in for the worker that answers what is redriven."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pabal.audit import AuditFact, read_audit
from pabal.broker.port import Broker, NewRecord, Position, Producer, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.cli.letters import open_dead_letters
from pabal.clock import SystemClock
from pabal.codec import event_record, read_delivery
from pabal.config import Settings
from pabal.dlq.letters.selection import Selection
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.answers import Tally
from pabal.dlq.redrive.claim import LEASE_SECONDS, TenantLetters, release_record
from pabal.dlq.redrive.making import make_plan
from pabal.dlq.redrive.plan import Plan, Rules
from pabal.dlq.redrive.run import Ending, Redrive, Watcher, Who
from pabal.dlq.redrive.stepping import Pace, Step
from pabal.notification import AUDIT_TOPIC, Delivery, DeliveryEvent, EventKind, deliveries_topic, event_id
from pabal.topics.spec import topics_for
from tests.dlq.letters import a_dead_record, a_delivery

QUICK = Pace(canary=2, per_second=10_000.0, max_return_ratio=0.2, patience_seconds=10.0)


class Steps(Watcher):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tally, Step]] = []
        self.waited_for: list[str] = []
        self.on_step: Callable[[Tally, Step], None] = lambda tally, step: None

    def going_on(self, tally: Tally, step: Step) -> None:
        self.seen.append((tally, step))
        self.on_step(tally, step)

    def waiting_for_former_run(self, holder: object, seconds: float) -> None:
        self.waited_for.append(f"{holder}")


class Lab:
    """See the module."""

    def __init__(self, broker: Broker, desk: DeadLetters) -> None:
        self.broker = broker
        self.desk = desk
        self.clock = desk.clock
        self.steps = Steps()
        self.stopping = asyncio.Event()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path) -> AsyncIterator[Self]:
        clock, settings = SystemClock(), Settings()
        broker = await SqliteBroker.open(folder / "log.db", clock=clock)
        try:
            admin = broker.admin()
            for spec in topics_for(settings.channels, partitions=1, replication=None):
                await admin.create_topic(spec)
            async with open_dead_letters(broker, settings=settings, clock=clock) as desk:
                yield cls(broker, desk)
        finally:
            await broker.close()

    def delivery(self, number: int = 1, **changes: object) -> Delivery:
        """A delivery that is still useful."""
        now = self.clock.now()
        times = {"accepted_at": now - timedelta(hours=1), "expires_at": now + timedelta(hours=5)}
        return a_delivery(number, **{**times, **changes})

    async def bury(
        self, *deliveries: Delivery | None, error_class: str = "exhausted", at: datetime | None = None
    ) -> None:
        """Append a dead letter about each (None: about bytes nobody can read)."""
        at = at or self.clock.now()
        await self.append(*(a_dead_record(delivery, error_class=error_class, at=at) for delivery in deliveries))

    async def append(self, *records: NewRecord) -> None:
        await self.desk.producer.append(records)

    async def records(self, topic: str) -> list[Record]:
        return [
            record
            for partition in await self.desk.tails.admin.watermarks(topic)
            async for batch in self.desk.tails.reader.read(partition)
            for record in batch
        ]

    async def redriven(self) -> list[Delivery]:
        """What stands in the topic that the letters go back to."""
        return [read_delivery(record) for record in await self.records(deliveries_topic("webhook", "standard"))]

    async def facts(self, action: str) -> list[AuditFact]:
        return [fact for fact in map(read_audit, await self.records(AUDIT_TOPIC)) if fact.action == action]

    async def end_leases(self) -> None:
        """What time would do to the claims of a process that died."""
        await self.append(
            *(release_record(TenantLetters(topic, "")) for topic in self.desk.letters.topics(Selection()).values())
        )

    async def plan(self, selection: Selection | None = None, *, rules: Rules | None = None, name: str = "p-1") -> Plan:
        return await make_plan(
            self.desk.letters,
            selection or Selection(),
            tails=self.desk.tails,
            clock=self.desk.clock,
            rules=rules or Rules(),
            plan_id=name,
            by="ana",
        )

    async def redrive(
        self,
        plan: Plan,
        *,
        pace: Pace = QUICK,
        desk: DeadLetters | None = None,
        token: str = "t-1",
        lease_seconds: float = LEASE_SECONDS,
    ) -> Ending:
        who = Who(by="ana", host="here", reason="the endpoint is mended", token=token, lease_seconds=lease_seconds)
        desk = desk or self.desk
        redrive = Redrive(
            desk.letters,
            plan,
            tails=desk.tails,
            producer=desk.producer,
            clock=desk.clock,
            pace=pace,
            who=who,
            watcher=self.steps,
        )
        return await redrive.run(self.stopping)

    @contextlib.asynccontextmanager
    async def answering(self, answer: Callable[[Delivery], EventKind | None]) -> AsyncIterator[None]:
        """Answer each delivery that is redriven with an event of this kind (None: not at all)."""
        task = asyncio.create_task(self._answer(answer))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _answer(self, answer: Callable[[Delivery], EventKind | None]) -> None:
        tail = self.desk.tails.history(deliveries_topic("webhook", "standard"), start=None)
        while True:
            async for record in tail.read_on():
                delivery = read_delivery(record)
                if (kind := answer(delivery)) is not None:
                    await self.append(event_record(an_event(delivery, kind, at=self.clock.now())))
            await asyncio.sleep(0.01)


def an_event(delivery: Delivery, kind: EventKind, *, at: datetime, attempt: int | None = None) -> DeliveryEvent:
    attempt = attempt or delivery.attempt
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
        at=at,
    )


class Failing(Exception):
    """The process dies here."""


class CrashingProducer:
    """A producer whose process dies at its n-th append: before it is written, or after, when nobody hears of it."""

    def __init__(self, inner: Producer, *, at_append: int, is_written: bool) -> None:
        self._inner = inner
        self._left = at_append
        self._is_written = is_written

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        self._left -= 1
        if self._left < 0 and not self._is_written:
            raise Failing
        positions = await self._inner.append(records)
        if self._left < 0:
            raise Failing
        return positions

    async def close(self) -> None:
        await self._inner.close()

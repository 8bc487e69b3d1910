"""One delivery through a real log and ledger, with providers and clocks that misbehave."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from pabal.broker.port import NewRecord, Position, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.port import Rendered
from pabal.channels.webhook import WebhookChannel
from pabal.clock import ManualClock
from pabal.codec import read_delivery, read_event
from pabal.errors import RecordRefused
from pabal.guard import Guard, Guarded, GuardSettings, Permit, Shut
from pabal.ledger.protocol import Held
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.notification import (
    Address,
    Content,
    Delivery,
    DeliveryEvent,
    TemplateRef,
    delivery_id,
    notification_id,
)
from pabal.outcome import Accepted, Deferred, Outcome, Unknown
from pabal.topics.spec import topics_for
from pabal.worker.carrier import Carrier
from pabal.worker.deed import Observer
from pabal.worker.errand import End
from tests.worker.lab import Sending

NOW = datetime(2026, 1, 1, tzinfo=UTC)
URL = "https://example.com/"
ORIGIN = Record(topic="pabal.deliveries.webhook.critical", partition=0, offset=0, timestamp=0.0, key=b"k", value=b"v")


def admitted(guard: Guard, *, now: float) -> object:
    return guard.admit(tenant="shop", address="https://example.com/", pinned=None, parks=0, now=now)


class Scripted:
    """A provider that does what it is told; `deduplicates_for` as in webhooks."""

    channel = "webhook"
    timeout_seconds = 10.0

    def __init__(self, does: Callable[[], Outcome], *, deduplicates_for: timedelta | None = timedelta(days=3)) -> None:
        self.does = does
        self.deduplicates_for = deduplicates_for
        self.calls = 0

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        del rendered, to, tenant, idempotency_key
        self.calls += 1
        return self.does()

    async def close(self) -> None:
        return None


class Lab:
    """A deliverer over a real log and ledger."""

    def __init__(self, folder: Path, clock: ManualClock, broker: SqliteBroker) -> None:
        self.folder = folder
        self.clock = clock
        self.broker = broker
        self.ledgers: list[SqliteLedger] = []

    async def ledger(self, worker: str) -> SqliteLedger:
        ledger = await SqliteLedger.open(self.folder / "ledger.db", clock=self.clock, worker=worker)
        self.ledgers.append(ledger)
        return ledger

    def deliverer(self, provider: Scripted, ledger: SqliteLedger, *, observers: Sequence[Observer] = ()) -> Sending:
        return Sending(
            carrier=Carrier(channel=WebhookChannel(), provider=provider, provider_name="hooks"),
            ledger=ledger,
            producer=self.broker.producer(),
            clock=self.clock,
            observers=observers,
        )

    async def run(self, provider: Scripted, delivery: Delivery, *, worker: str = "one") -> Held | None:
        deliverer = self.deliverer(provider, await self.ledger(worker))
        end = await deliverer.call(delivery, origin=ORIGIN, group="g")
        if isinstance(end, Held):
            return end
        if end is not None:
            await deliverer.tell([end])
        return None

    async def records(self, topic: str) -> list[Record]:
        reader = self.broker.reader()
        partitions = await self.broker.admin().watermarks(topic)
        return [record for each in partitions async for batch in reader.read(each) for record in batch]

    async def events(self) -> list[DeliveryEvent]:
        return [read_event(record) for record in await self.records("pabal.events")]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    clock = ManualClock(NOW)
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    admin = broker.admin()
    for spec in topics_for(["webhook"], partitions=1, replication=None):
        await admin.create_topic(spec)
    lab = Lab(tmp_path, clock, broker)
    yield lab
    for ledger in lab.ledgers:
        await ledger.close()
    await broker.close()


def a_delivery(**changes: object) -> Delivery:
    asked = notification_id(tenant="shop", idempotency_key="k")
    delivery = Delivery(
        id=delivery_id(asked, Address(channel="webhook", address=URL)),
        notification_id=asked,
        tenant="shop",
        channel="webhook",
        address=URL,
        class_="critical",
        accepted_at=NOW,
        expires_at=NOW + timedelta(hours=1),
        content=Content(body="hello"),
    )
    return msgspec.structs.replace(delivery, **changes)


async def test_an_accepted_call_is_told_and_its_copy_does_nothing(lab: Lab) -> None:
    provider = Scripted(lambda: Accepted(provider_id="p-1", response="ok"))

    await lab.run(provider, a_delivery())
    await lab.run(provider, a_delivery(), worker="two")

    assert provider.calls == 1
    events = {event.id: event for event in await lab.events()}
    [sent] = events.values()
    assert (sent.kind, sent.provider_id, sent.response) == ("sent", "p-1", "ok")


async def test_what_expired_is_not_called(lab: Lab) -> None:
    provider = Scripted(Accepted)
    lab.clock.advance(3600)

    await lab.run(provider, a_delivery())

    assert provider.calls == 0
    assert [event.kind for event in await lab.events()] == ["expired"]


async def test_a_delivery_whose_template_is_gone_is_dead_lettered_uncalled(lab: Lab) -> None:
    provider = Scripted(Accepted)

    await lab.run(provider, a_delivery(content=None, template=TemplateRef(name="gone", hash="0" * 64)))

    assert provider.calls == 0
    [dead] = await lab.records("pabal.dead.webhook")
    assert dead.header("x-error-class") == b"template"


async def test_a_defect_of_the_provider_counts_as_unknown(lab: Lab) -> None:
    def broken() -> Outcome:
        raise ZeroDivisionError

    await lab.run(Scripted(broken), a_delivery())

    [event] = await lab.events()
    assert (event.kind, event.attempt) == ("unknown", 1)
    [waiting] = await lab.records("pabal.delay.critical.5")
    following = read_delivery(waiting)
    assert (following.attempt, following.rung) == (2, 1)


async def test_a_provider_that_never_answers_is_given_up(lab: Lab) -> None:
    class Hanging(Scripted):
        async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
            calling.set()
            await asyncio.Event().wait()
            raise AssertionError

    calling = asyncio.Event()
    deliverer = lab.deliverer(Hanging(Accepted), await lab.ledger("one"))
    delivering = asyncio.create_task(deliverer.call(a_delivery(), origin=ORIGIN, group="g"))
    await calling.wait()

    lab.clock.advance(10)
    deliverer.end_overdue()
    await asyncio.sleep(0)
    assert not delivering.done()

    lab.clock.advance(2)
    deliverer.end_overdue()
    end = await delivering
    assert isinstance(end, End)
    await deliverer.tell([end])
    [event] = await lab.events()
    assert (event.kind, event.detail) == ("unknown", "the provider did not keep its own timeout")


@pytest.mark.parametrize("stands_still", [True, False])
async def test_silence_while_this_process_stood_still_is_not_held_against_the_far_side(
    lab: Lab, stands_still: bool
) -> None:
    def silent() -> Outcome:
        for _ in range(1 if stands_still else 9):
            lab.clock.advance(9 if stands_still else 1)
            if not stands_still:
                deliverer.end_overdue()
        return Unknown(reason="no answer in time")

    guard = Guard(
        providers={"hooks": Guarded()},
        concurrency=16,
        settings=GuardSettings(window_seconds=1000),
        random=lambda: 0.0,
        on_change=lambda _callee, _now: None,
    )
    deliverer = lab.deliverer(Scripted(silent), await lab.ledger("one"))
    for number in range(12):
        permit = admitted(guard, now=lab.clock.boot_seconds())
        if not isinstance(permit, Permit):
            break
        deliverer.end_overdue()
        await deliverer.call(a_delivery(id=UUID(int=number)), origin=ORIGIN, group="g", permit=permit)
        permit.release(lab.clock.boot_seconds())

    assert isinstance(admitted(guard, now=lab.clock.boot_seconds()), Permit if stands_still else Shut)


async def test_the_same_defect_where_nobody_deduplicates_is_dead_lettered_as_uncertain(lab: Lab) -> None:
    def broken() -> Outcome:
        raise ZeroDivisionError

    await lab.run(Scripted(broken, deduplicates_for=None), a_delivery(class_="standard"))

    [dead] = await lab.records("pabal.dead.webhook")
    assert dead.header("x-error-class") == b"uncertain"


async def test_a_call_that_could_outlast_its_lease_is_not_begun(lab: Lab) -> None:
    """The process was stopped between claim and call: its lease is no longer long enough."""
    ledger = await lab.ledger("one")
    provider = Scripted(Accepted)
    deliverer = lab.deliverer(provider, ledger)
    claim = ledger.claim

    async def stopped_after(*arguments):  # type: ignore[no-untyped-def]
        answer = await claim(*arguments)
        lab.clock.advance(8)
        return answer

    ledger.claim = stopped_after  # type: ignore[method-assign]
    first = await deliverer.call(a_delivery(), origin=ORIGIN, group="g")
    assert provider.calls == 0
    assert first == Held(seconds=0.0)

    ledger.claim = claim  # type: ignore[method-assign]
    end = await deliverer.call(a_delivery(), origin=ORIGIN, group="g")
    assert end is not None
    assert provider.calls == 1


async def test_a_live_claim_elsewhere_is_waited_for_and_taken_over_when_its_lease_ends(lab: Lab) -> None:
    """A zombie: its call ends after another worker called again. Both calls are told, the delivery is done once."""
    other = Scripted(lambda: Deferred(reason="busy"))
    calling, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
            calling.set()
            await go_on.wait()
            return await super().send(rendered, to=to, tenant=tenant, idempotency_key=idempotency_key)

    zombie = asyncio.create_task(lab.run(Slow(Accepted), a_delivery(), worker="zombie"))
    await calling.wait()
    held = await lab.run(other, a_delivery(), worker="two")
    assert isinstance(held, Held)
    assert other.calls == 0

    lab.clock.advance(16)
    await lab.run(other, a_delivery(), worker="three")
    assert other.calls == 1
    go_on.set()
    await zombie

    kinds = {(event.kind, event.attempt) for event in await lab.events()}
    assert kinds == {("unknown", 1), ("deferred", 2), ("sent", 1)}
    late = Scripted(Accepted)
    await lab.run(late, a_delivery(attempt=3, rung=1), worker="four")
    assert late.calls == 0


async def test_a_record_that_the_log_refuses_is_cut_and_holds_up_no_other(lab: Lab) -> None:
    deliverer = lab.deliverer(Scripted(Accepted), await lab.ledger("one"))
    producer = lab.broker.producer()

    class Strict:
        """A log with a limit, as Kafka has one; all else is the real log's."""

        async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
            if any(len(record.value or b"") > 100_000 for record in records):
                raise RecordRefused("too large")
            return await producer.append(records)

        async def close(self) -> None:
            await producer.close()

    deliverer.teller._producer = Strict()
    huge, small = (
        End(records=[NewRecord(topic="pabal.dead.webhook", key=None, value=b"x" * size)]) for size in (200_000, 10)
    )

    await deliverer.tell([huge, small])

    dead = {len(record.value or b""): record for record in await lab.records("pabal.dead.webhook")}
    assert dead.keys() == {64 * 1024, 10}
    assert dead[64 * 1024].header("x-cut-from-bytes") == b"200000"


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class NotingTraces(Scripted):
    """Notes the trace that each call carries."""

    def __init__(self) -> None:
        super().__init__(Accepted)
        self.traces: list[tuple[str | None, str | None]] = []

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        self.traces.append((rendered.traceparent, rendered.tracestate))
        return await super().send(rendered, to=to, tenant=tenant, idempotency_key=idempotency_key)


@pytest.mark.parametrize(
    ("given", "carried"),
    [
        ((None, None), (None, None)),
        ((TRACE, None), (TRACE, None)),
        ((TRACE, "rojo=1"), (TRACE, "rojo=1")),
        ((TRACE, "rojo=1\r\nx-evil: 1"), (TRACE, None)),
        ((f"{TRACE}\r\nx-evil: 1", "rojo=1"), (None, None)),
        (("nonsense", None), (None, None)),
        ((None, "rojo=1"), (None, None)),
    ],
)
async def test_where_nobody_traces_the_callers_trace_goes_on_as_it_came(
    lab: Lab, given: tuple[str | None, str | None], carried: tuple[str | None, str | None]
) -> None:
    provider = NotingTraces()

    await lab.run(provider, a_delivery(traceparent=given[0], tracestate=given[1]))

    assert provider.traces == [carried]


@pytest.mark.parametrize("error", [IndexError("no part"), RecursionError("too deep"), LookupError("no such charset")])
async def test_content_that_fails_to_render_in_any_way_needs_a_person(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(self: object, delivery: Delivery, content: Content) -> Rendered:
        raise error

    monkeypatch.setattr(WebhookChannel, "render", fail)
    provider = Scripted(Accepted)

    await lab.run(provider, a_delivery())

    [dead] = await lab.records("pabal.dead.webhook")
    assert (provider.calls, dead.header("x-error-class")) == (0, b"unrenderable")
    assert dead.header("x-error-message") == str(error).encode()

"""Suppressions, from the receipt to the gate: over a real log, a real store and a real ledger, all in files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from pabal.broker.port import NewRecord, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.channels.suppression import suppression_key
from pabal.clock import ManualClock
from pabal.codec import lifting_record, read_suppression, suppression_record
from pabal.errors import LogUnavailable, OffsetOutOfRange
from pabal.ledger.protocol import Claim, Source
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.notification import (
    SUPPRESSIONS_TOPIC,
    Delivery,
    DeliveryEvent,
    Receipt,
    ReceiptKind,
    Suppression,
    SuppressionReason,
    event_id,
)
from pabal.outcome import Suppressed
from pabal.store.port import DeliveryView
from pabal.store.sql import SqlStore
from pabal.suppressions import (
    ANEW_AFTER,
    GateFollower,
    SuppressionList,
    SuppressionReader,
    Suppressor,
    reason_of,
    suppression_of,
)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANA = suppression_key(tenant="shop", channel="email", address="ana@example.com")


def receipt(kind: ReceiptKind, *, is_permanent: bool = False, **more: object) -> Receipt:
    fields = {"id": uuid4(), "provider": "smtp", "kind": kind, "at": AT, "is_permanent": is_permanent, **more}
    return Receipt(**fields)  # type: ignore[arg-type]


def suppression(address: str = "ana@example.com", *, tenant: str = "shop") -> Suppression:
    return Suppression(tenant=tenant, channel="email", address=address, reason="manual", since=AT)


@pytest.mark.parametrize(
    ("kind", "is_permanent", "reason"),
    [
        ("bounced", True, "bounced"),
        ("bounced", False, None),
        ("rejected", True, "bounced"),
        ("rejected", False, None),
        ("complained", False, "complained"),
        ("unsubscribed", False, "unsubscribed"),
        ("delivered", False, None),
        ("deferred", True, None),
        ("opened", False, None),
        ("clicked", False, None),
    ],
)
def test_what_suppresses_an_address_and_what_does_not(
    kind: ReceiptKind, is_permanent: bool, reason: SuppressionReason | None
) -> None:
    assert reason_of(receipt(kind, is_permanent=is_permanent)) == reason


class Lab:
    """The log, the store and the ledger of one installation."""

    def __init__(self, broker: SqliteBroker, store: SqlStore, ledger: SqliteLedger, clock: ManualClock) -> None:
        self.broker = broker
        self.store = store
        self.ledger = ledger
        self.clock = clock
        self.suppressor = Suppressor(store=store, producer=broker.producer())
        self.gate = self.new_gate()

    def new_gate(self) -> GateFollower:
        return GateFollower(reader=self.broker.reader(), ledger=self.ledger, clock=self.clock)

    async def fold(self, *facts: Delivery | DeliveryEvent | Receipt) -> None:
        """As the recorder does."""
        await self.store.fold(facts)
        await self.suppressor.follow(facts)

    async def append(self, *records: NewRecord) -> None:
        await self.broker.producer().append(records)

    async def suppressions(self) -> list[Suppression | None]:
        partition = TopicPartition(SUPPRESSIONS_TOPIC, 0)
        return [read_suppression(each) async for some in self.broker.reader().read(partition) for each in some]

    async def is_refused(self, key: bytes = ANA) -> bool:
        """Whether the gate refuses an address: by the answer to a claim of a new delivery to it."""
        ask = Claim(
            source=Source(1, 0),
            owner=self.ledger.owner,
            token=self.ledger.new_token(),
            lease_seconds=1.0,
            provider="smtp",
            may_repeat=False,
            recipient=key,
        )
        answer = await self.ledger.claim(uuid4(), ask)
        return getattr(answer, "verdict", None) == Suppressed()


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    clock = ManualClock()
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name=SUPPRESSIONS_TOPIC, partitions=1, compacted=True))
    store = SqlStore(f"sqlite:{tmp_path / 'store.db'}", clock=clock)
    ledger = await SqliteLedger.open(tmp_path / "ledger.db", clock=clock, worker="test")
    yield Lab(broker, store, ledger, clock)
    await ledger.close()
    await store.close()
    await broker.close()


def accepted(delivery: UUID) -> Delivery:
    return Delivery(
        id=delivery,
        notification_id=UUID(int=1),
        tenant="shop",
        channel="email",
        address="ana@example.com",
        class_="standard",
        accepted_at=AT - timedelta(minutes=1),
        expires_at=AT + timedelta(days=1),
    )


def sent(delivery: UUID, *, provider_id: str | None = "4WxYz") -> DeliveryEvent:
    return DeliveryEvent(
        id=event_id(delivery, attempt=1, kind="sent"),
        kind="sent",
        delivery_id=delivery,
        notification_id=UUID(int=1),
        tenant="shop",
        channel="email",
        address="ana@example.com",
        class_="standard",
        attempt=1,
        at=AT,
        provider="smtp",
        provider_id=provider_id,
    )


async def test_a_hard_bounce_suppresses_the_address_in_the_log_and_then_in_the_gate(lab: Lab) -> None:
    delivery = uuid4()
    await lab.fold(accepted(delivery), sent(delivery))
    assert not await lab.is_refused()

    await lab.fold(receipt("bounced", is_permanent=True, delivery_id=delivery, detail="550 5.1.1"))
    await lab.gate.follow()

    [found] = await lab.suppressions()
    assert found == Suppression(
        tenant="shop", channel="email", address="ana@example.com", reason="bounced", since=AT, detail="550 5.1.1"
    )
    assert await lab.is_refused()
    assert not await lab.is_refused(suppression_key(tenant="bank", channel="email", address="ana@example.com"))


async def test_what_is_no_reason_suppresses_nothing(lab: Lab) -> None:
    delivery = uuid4()

    await lab.fold(sent(delivery), receipt("delivered", delivery_id=delivery), receipt("bounced", delivery_id=delivery))

    assert await lab.suppressions() == []


@pytest.mark.parametrize("named", ["delivery_id", "provider_id"])
async def test_a_receipt_that_comes_before_its_send_suppresses_once_that_is_known(lab: Lab, named: str) -> None:
    delivery = uuid4()
    complaint = receipt("complained", delivery_id=delivery)
    if named == "provider_id":
        complaint = receipt("complained", provider_id="4WxYz")

    await lab.fold(complaint)
    assert await lab.suppressions() == []
    await lab.fold(sent(delivery))

    assert [found and found.reason for found in await lab.suppressions()] == ["complained"]


async def test_a_receipt_by_the_providers_id_finds_its_delivery_among_others(lab: Lab) -> None:
    others = [uuid4() for _ in range(3)]
    await lab.fold(*(sent(other, provider_id=f"id-{index}") for index, other in enumerate(others)))

    await lab.fold(receipt("complained", provider_id="nobody's"))
    assert await lab.suppressions() == []
    await lab.fold(receipt("complained", provider_id="id-1"))

    assert len(await lab.suppressions()) == 1


async def test_told_twice_it_is_the_same_suppression(lab: Lab) -> None:
    delivery = uuid4()
    bounce = receipt("bounced", is_permanent=True, delivery_id=delivery)

    await lab.fold(sent(delivery), bounce)
    await lab.fold(bounce)
    await lab.gate.follow()

    page = await SuppressionList(reader=lab.broker.reader(), clock=lab.clock).page(tenant="shop", after=None, limit=10)
    assert len(page) == 1
    assert await lab.is_refused()


async def test_lifting_one_lets_the_gate_take_the_address_again(lab: Lab) -> None:
    await lab.append(suppression_record(suppression()), suppression_record(suppression("bo@example.com")))
    await lab.gate.follow()
    assert await lab.is_refused()

    await lab.append(lifting_record(ANA))
    await lab.gate.follow()

    assert not await lab.is_refused()
    assert await lab.is_refused(suppression_key(tenant="shop", channel="email", address="bo@example.com"))


async def test_a_new_ledger_learns_everybody_who_was_suppressed_before(lab: Lab, tmp_path: Path) -> None:
    addresses = [f"{number}@example.com" for number in range(1500)]
    await lab.append(*(suppression_record(suppression(address)) for address in addresses))

    await lab.new_gate().catch_up(asyncio.Event())

    keys = [suppression_key(tenant="shop", channel="email", address=address) for address in addresses]
    assert [await lab.is_refused(keys[index]) for index in (0, 999, 1000, 1499)] == [True] * 4


async def test_what_was_lifted_unseen_is_found_when_the_topic_is_read_anew(lab: Lab) -> None:
    await lab.append(suppression_record(suppression()))
    await lab.gate.follow()
    listed = SuppressionList(reader=lab.broker.reader(), clock=lab.clock)
    assert await listed.find(ANA) is not None

    # A day later the tombstone is compacted away: as if the topic were another, in which nothing of Ana stands.
    lab.gate._topic._tail._reader = listed._topic._tail._reader = EmptyReader()  # type: ignore[assignment]
    lab.clock.advance(ANEW_AFTER.total_seconds() + 1)
    await lab.gate.follow()

    assert not await lab.is_refused()
    assert await listed.find(ANA) is None


class EmptyReader:
    """Reads nothing, and insists on being asked from the start."""

    async def read(self, partition: TopicPartition, *, start: int | None = None) -> AsyncIterator[list[NewRecord]]:
        assert start is None
        return
        yield []


async def test_foreign_records_in_the_topic_keep_nobody_else_from_being_suppressed(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    await lab.append(
        NewRecord(topic=SUPPRESSIONS_TOPIC, key=b"x", value=b"no suppression", headers=(("schema", b"suppression/1"),)),
        NewRecord(topic=SUPPRESSIONS_TOPIC, key=None, value=b"{}"),
        suppression_record(suppression()),
    )

    await lab.gate.follow()

    assert await lab.is_refused()
    assert "pabal.suppressions/0@0 cannot be read" in caplog.text
    assert lab.gate.unreadable == 2


UNREADABLE = [
    b"",
    b"{",
    b"\xff",
    b"[" * 100_000,
    b'{"tenant":"shop"}',
    suppression_record(suppression("other@example.com")).value,
    suppression_record(suppression("Ana@Example.com", tenant="other")).value,
]


def unreadable(value: bytes | None, *, schema: bytes = b"suppression/1") -> NewRecord:
    return NewRecord(topic=SUPPRESSIONS_TOPIC, key=ANA, value=value, headers=(("schema", schema),))


@pytest.mark.parametrize("value", UNREADABLE, ids=[repr(value)[:20] for value in UNREADABLE])
async def test_what_cannot_be_read_under_an_address_suppresses_it_until_it_is_lifted(
    lab: Lab, value: bytes | None
) -> None:
    await lab.append(unreadable(value))
    await lab.gate.follow()
    before = await lab.is_refused()
    listed = await SuppressionList(reader=lab.broker.reader(), clock=lab.clock).page(tenant="shop", after=None, limit=9)
    # After a restart, too: compaction has left nothing else.
    anew = lab.new_gate()
    await anew.follow()
    after = await lab.is_refused()

    await lab.append(lifting_record(ANA))
    await lab.gate.follow()

    assert (before, after, await lab.is_refused()) == (True, True, False)
    assert [(each.address, each.reason) for each in listed] == [("ana@example.com", "manual")]
    assert "cannot be read" in (listed[0].detail or "")
    assert lab.gate.unreadable == 1


async def test_a_suppression_of_a_later_version_suppresses_all_the_same(lab: Lab) -> None:
    await lab.append(unreadable(suppression_record(suppression()).value, schema=b"suppression/2"))

    await lab.gate.follow()

    assert await lab.is_refused()


async def test_what_cannot_be_read_suppresses_no_other_address(lab: Lab) -> None:
    await lab.append(unreadable(suppression_record(suppression("other@example.com")).value))

    await lab.gate.follow()

    assert await lab.ledger.suppressed() == [ANA]


async def test_a_key_that_no_address_has_is_passed_over(lab: Lab) -> None:
    huge = suppression("a" * 100_000 + "@example.com")
    names = [b"shop", b"shop/email", b"shop/email/ANA@EXAMPLE.COM", b"\xff/email/a@example.com"]
    records = [NewRecord(topic=SUPPRESSIONS_TOPIC, key=key, value=b"{") for key in names]
    await lab.append(*records, suppression_record(huge), suppression_record(suppression()))

    await lab.gate.follow()

    assert await lab.ledger.suppressed() == [ANA]
    assert lab.gate.unreadable == 5


async def test_while_the_log_is_away_the_gate_keeps_what_it_has_and_goes_on_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.suppressions.FOLLOW_EVERY_SECONDS", 0.001)
    reader = FlakyReader()
    lab.gate._topic._tail._reader, good = reader, lab.gate._topic._tail._reader  # type: ignore[assignment]
    reader.then = lambda: setattr(lab.gate._topic._tail, "_reader", good)
    await lab.append(suppression_record(suppression()))

    await lab.gate.catch_up(asyncio.Event())

    assert reader.asked == 2
    assert await lab.is_refused()


class FlakyReader:
    """Fails twice."""

    def __init__(self) -> None:
        self.asked = 0
        self.then: Callable[[], None] = lambda: None

    async def read(self, partition: TopicPartition, *, start: int | None = None) -> AsyncIterator[list[NewRecord]]:
        self.asked += 1
        if self.asked == 2:
            self.then()
        raise LogUnavailable("no leader")
        yield []


async def test_the_list_is_one_tenants_in_order_and_in_pages(lab: Lab) -> None:
    listed = SuppressionList(reader=lab.broker.reader(), clock=lab.clock)
    own = [suppression(f"{name}@example.com") for name in ("cy", "ana", "bo")]
    others = [suppression(tenant=tenant) for tenant in ("shop-2", "sho", "shop.eu", "zoo")]
    await lab.append(*map(suppression_record, [*own, *others]))

    first = await listed.page(tenant="shop", after=None, limit=2)
    last = first[-1]
    after = suppression_key(tenant="shop", channel=last.channel, address=last.address)
    rest = await listed.page(tenant="shop", after=after, limit=2)

    assert [each.address for each in (*first, *rest)] == ["ana@example.com", "bo@example.com", "cy@example.com"]
    assert await listed.page(tenant="nobody", after=None, limit=2) == []


async def test_a_worker_that_starts_lifts_what_was_lifted_while_nobody_looked(lab: Lab) -> None:
    await lab.append(suppression_record(suppression()), suppression_record(suppression("bo@example.com")))
    await lab.gate.follow()
    await lab.ledger.suppress([suppression("gone@example.com")])  # its tombstone was dropped long ago

    await lab.new_gate().follow()

    assert not await lab.is_refused(suppression_key(tenant="shop", channel="email", address="gone@example.com"))
    assert await lab.is_refused()


async def test_when_unread_records_are_gone_the_whole_is_read_again(lab: Lab) -> None:
    await lab.append(suppression_record(suppression()))
    await lab.gate.follow()
    reader = TruncatedReader()
    lab.gate._topic._tail._reader, good = reader, lab.gate._topic._tail._reader  # type: ignore[assignment]
    await lab.append(lifting_record(ANA))

    await lab.gate.follow()
    assert await lab.is_refused()
    lab.gate._topic._tail._reader = good
    await lab.gate.follow()

    assert not await lab.is_refused()
    assert reader.asked_from == [1]


class TruncatedReader:
    """Retention was faster than the reader."""

    def __init__(self) -> None:
        self.asked_from: list[int | None] = []

    async def read(self, partition: TopicPartition, *, start: int | None = None) -> AsyncIterator[list[NewRecord]]:
        self.asked_from.append(start)
        raise OffsetOutOfRange("deleted")
        yield []


async def test_what_was_read_is_not_read_again(lab: Lab) -> None:
    tail = SuppressionReader(reader=lab.broker.reader(), clock=lab.clock)
    await lab.append(suppression_record(suppression()))
    first, is_whole = await tail.read_on()
    assert (len(first), is_whole) == (1, True)

    assert await tail.read_on() == ([], False)
    await lab.append(suppression_record(suppression("bo@example.com")))
    more, is_whole = await tail.read_on()

    assert [change.suppression and change.suppression.address for change in more] == ["bo@example.com"]
    assert not is_whole


@pytest.mark.parametrize(("channel", "is_suppressed"), [("webhook", False), ("email", True), (None, True)])
def test_a_receipt_suppresses_no_address_of_a_channel_that_its_provider_does_not_carry(
    channel: str | None, is_suppressed: bool
) -> None:
    delivery = DeliveryView(
        id=uuid4(),
        notification_id=uuid4(),
        tenant="shop",
        channel="email",
        address="ana@example.com",
        class_="standard",
        status="sent",
        updated_at=AT,
        attempt=1,
    )

    found = suppression_of(receipt("complained", channel=channel), delivery)

    assert (found is not None) == is_suppressed

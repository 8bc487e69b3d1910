"""The role over a real log and store: what it records, what it survives, when its offsets count."""

import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from pabal.broker.port import NewRecord, TopicPartition
from pabal.codec import delivery_record, event_record, receipt_record
from pabal.errors import StoreUnavailable
from pabal.guard import GuardSettings
from pabal.notification import EVENTS_TOPIC, Delivery, Receipt
from pabal.ops.brake_release import read_brakes, release_brake
from pabal.store.port import DeliveryFilter, StoredFact
from pabal.suppressions import SuppressionList, Suppressor
from tests.recorder.lab import Lab, dead_of, until
from tests.waiting import eventually


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    async with Lab.opened(tmp_path) as lab:
        yield lab


def broken(topic: str) -> NewRecord:
    return NewRecord(topic=topic, key=b"k", value=b"\xff\x00")


async def has_status(lab: Lab, delivery: Delivery, status: str) -> bool:
    view = await lab.view(delivery)
    return view is not None and view.status == status


async def test_what_the_log_says_is_recorded_and_its_offsets_count(lab: Lab) -> None:
    async with lab.recording():
        sent = await lab.accept_and_send()
        mailed = lab.a_delivery(channel="email", class_="bulk", address="ana@example.com")
        await lab.append(delivery_record(mailed))

        await until(lambda: has_status(lab, sent, "sent"))
        await until(lambda: has_status(lab, mailed, "accepted"))

    assert await lab.uncommitted() == 0


async def test_offsets_count_within_a_second_or_so_also_without_an_end(lab: Lab) -> None:
    async with lab.recording():
        await lab.accept_and_send()

        async def all_count() -> bool:
            return await lab.uncommitted() == 0

        await until(all_count)


async def test_records_that_nobody_can_read_do_not_stop_it(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    await lab.append(broken(EVENTS_TOPIC), broken("pabal.deliveries.email.bulk"), broken(EVENTS_TOPIC))

    async with lab.recording() as recorder:
        delivery = await lab.accept_and_send()
        await until(lambda: has_status(lab, delivery, "sent"))
        await eventually(lambda: recorder.set_aside == 3)

    assert await lab.uncommitted() == 0
    assert "are set aside (pabal store set-aside)" in caplog.text
    aside = await lab.store.aside(limit=9)
    assert sorted((each.topic, each.size, each.start) for each in aside) == [
        ("pabal.deliveries.email.bulk", 2, b"\xff\x00"),
        (EVENTS_TOPIC, 2, b"\xff\x00"),
        (EVENTS_TOPIC, 2, b"\xff\x00"),
    ]


async def test_dead_letters_are_recorded_also_those_that_nobody_can_read(lab: Lab) -> None:
    exhausted = lab.a_delivery()
    await lab.append(dead_of(b"", delivery=exhausted, lab=lab), dead_of(b"\xff", delivery=None, lab=lab))

    async with lab.recording() as recorder:
        await until(lambda: has_status(lab, exhausted, "dead_lettered"))

    with contextlib.closing(sqlite3.connect(lab.folder / "store" / "store.db")) as connection:
        rows = connection.execute("SELECT error_class, message, delivery_id FROM dead_letters").fetchall()
    assert set(rows) == {("undecodable", "not JSON", exhausted.id.bytes), ("undecodable", "not JSON", None)}
    assert recorder.set_aside == 0


async def test_while_the_store_is_away_nothing_counts_and_the_membership_is_kept(tmp_path: Path) -> None:
    async with Lab.opened(tmp_path, session_seconds=0.4) as lab:
        delivery = await lab.accept_and_send()
        lab.store.is_away = True

        async with lab.recording() as recorder:
            # 0.1 + 0.2 + 0.4 + 0.8 s: longer than a member may be silent.
            await eventually(lambda: lab.store.tries >= 5)
            during = await lab.uncommitted()
            later = await lab.accept_and_send()
            lab.store.is_away = False
            await until(lambda: has_status(lab, delivery, "sent"))
            await until(lambda: has_status(lab, later, "sent"))

        assert during == 2
        assert await lab.uncommitted() == 0
        assert recorder.taken_away == []


async def test_a_fact_that_the_store_never_takes_is_left_out_alone(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = lab.a_delivery()
    others = [lab.a_delivery() for _ in range(6)]
    records = [delivery_record(each) for each in (*others[:3], poison, *others[3:])]
    await lab.append(*records)
    monkeypatch.setattr(lab.store, "refuses", lambda fact: fact == poison)

    async with lab.recording():
        for each in others:
            await until(lambda each=each: has_status(lab, each, "accepted"))  # type: ignore[misc]

    assert await lab.view(poison) is None
    assert await lab.uncommitted() == 0
    [aside] = await lab.store.aside(limit=9)
    assert (aside.topic, aside.error) == (records[3].topic, "a number is too large")
    assert "a number is too large" in caplog.text


async def test_what_follows_a_fold_comes_before_its_offsets_count(lab: Lab) -> None:
    delivery = await lab.accept_and_send()
    followed: list[tuple[int, str]] = []

    async def follow(facts: Sequence[StoredFact]) -> None:
        view = await lab.view(delivery)
        assert view is not None
        followed.append((await lab.uncommitted(), view.status))
        if len(followed) == 1:
            raise StoreUnavailable("not yet")

    async with lab.recording(follow=follow):
        await eventually(lambda: len(followed) >= 2)

    assert followed[:2] == [(2, "sent")] * 2
    assert await lab.uncommitted() == 0


async def test_what_a_crash_left_uncommitted_is_recorded_once(lab: Lab) -> None:
    delivery = await lab.accept_and_send()
    await lab.store.fold([delivery, lab.event(delivery, "sent")])

    async with lab.recording():

        async def all_count() -> bool:
            return await lab.uncommitted() == 0

        await until(all_count)

    view = await lab.view(delivery)
    assert view is not None
    assert [entry.kind for entry in view.timeline] == ["sent"]


async def test_open_dead_letters_are_counted_now_and_then(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = lab.a_delivery()
    await lab.append(delivery_record(dead), event_record(lab.event(dead, "dead_lettered")))

    async with lab.recording() as recorder:
        await until(lambda: has_status(lab, dead, "dead_lettered"))
        assert recorder.upkeep.dead_letters_open is None

    monkeypatch.setattr("pabal.recorder.upkeep.LOOK_EVERY_SECONDS", 0.01)
    async with lab.recording() as recorder:
        await eventually(lambda: recorder.upkeep.dead_letters_open == {dead.channel: 1})


async def test_what_is_unaccounted_is_an_alarm_raised_once_per_change(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    long_ago = lab.clock.now() - timedelta(hours=5)
    lost = lab.a_delivery(accepted_at=long_ago, expires_at=long_ago + timedelta(hours=1))
    await lab.append(delivery_record(lost))

    async with lab.recording() as recorder:
        await until(lambda: has_status(lab, lost, "unaccounted"))
        with caplog.at_level(logging.ERROR):
            await recorder.upkeep.look_for_unaccounted()
            await recorder.upkeep.look_for_unaccounted()

        alarms = [record.getMessage() for record in caplog.records if "unaccounted" in record.getMessage()]
        assert len(alarms) == 1
        assert str(lost.id) in alarms[0]
        assert recorder.upkeep.unaccounted == 1

        await lab.append(event_record(lab.event(lost, "expired")))
        await until(lambda: has_status(lab, lost, "expired"))
        await recorder.upkeep.look_for_unaccounted()
        assert recorder.upkeep.unaccounted == 0


async def test_what_ended_before_the_retention_is_forgotten_at_the_start(lab: Lab) -> None:
    long_ago = lab.clock.now() - timedelta(days=40)
    old = lab.a_delivery(accepted_at=long_ago, expires_at=long_ago + timedelta(hours=1))
    fresh = lab.a_delivery()
    await lab.store.fold([old, fresh])

    async with lab.recording(retention=timedelta(days=30)):

        async def is_forgotten() -> bool:
            return await lab.view(old) is None

        await until(is_forgotten)

    assert await lab.view(fresh) is not None


@pytest.mark.parametrize("seconds", ["9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"])
async def test_a_receipt_from_an_end_of_the_calendar_is_recorded_and_suppresses(lab: Lab, seconds: str) -> None:
    delivery = await lab.accept_and_send()
    receipt = Receipt(
        id=uuid4(),
        provider="far",
        kind="bounced",
        at=datetime.fromisoformat(seconds),
        delivery_id=delivery.id,
        is_permanent=True,
    )
    await lab.append(receipt_record(receipt))
    follow = Suppressor(store=lab.store, producer=lab.broker.producer()).follow

    async with lab.recording(follow=follow) as recorder:
        await until(lambda: has_status(lab, delivery, "bounced"))

        async def all_count() -> bool:
            return await lab.uncommitted() == 0

        await until(all_count)

    gate = SuppressionList(reader=lab.broker.reader(), clock=lab.clock)
    page = await gate.page(tenant=delivery.tenant, after=None, limit=9)
    listed = await lab.store.deliveries(DeliveryFilter(), tenant=delivery.tenant, limit=9)
    assert [each.address for each in page] == [delivery.address]
    assert [each.status for each in listed.deliveries] == ["bounced"]
    assert recorder.set_aside == 0


EASILY_BRAKED = GuardSettings(brake_records=3, brake_ratio=0.5)


async def test_a_partition_of_records_that_cannot_be_folded_is_held_until_a_person_lets_it_go(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    bad = [replace(broken(EVENTS_TOPIC), partition=0) for _ in range(5)]
    await lab.append(*bad)

    async with lab.recording(guard=EASILY_BRAKED) as recorder:
        await eventually(lambda: list(recorder.held) == [TopicPartition(EVENTS_TOPIC, 0)])
        other = lab.a_delivery()
        await lab.append(delivery_record(other))
        await until(lambda: has_status(lab, other, "accepted"))
        held = await lab.committed(EVENTS_TOPIC)
        before = list(await lab.store.aside(limit=9))

        await until(lambda: is_braked(lab))
        await release_brake(
            channel="recorder",
            class_=EVENTS_TOPIC,
            by="ana",
            reason="seen",
            minutes=5,
            reader=lab.broker.reader(),
            producer=lab.broker.producer(),
            clock=lab.clock,
        )
        await eventually(lambda: recorder.set_aside == 5)
        later = [replace(broken(EVENTS_TOPIC), partition=0) for _ in range(5)]
        await lab.append(*later)
        await eventually(lambda: recorder.set_aside == 10)
        await eventually(lambda: not recorder.held)

    assert held.get(TopicPartition(EVENTS_TOPIC, 0), 0) == 0
    assert before == []
    assert await lab.uncommitted() == 0
    assert "pabal brake release recorder pabal.events" in caplog.text


async def test_a_partition_that_is_held_goes_on_by_itself_when_its_records_can_be_folded(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.recorder.recorder.HELD_EVERY_SECONDS", 0.01)
    monkeypatch.setattr("pabal.recorder.held_records.TRY_HELD_EVERY_SECONDS", 0.02)
    deliveries = [lab.a_delivery() for _ in range(8)]
    is_defective = True
    monkeypatch.setattr(lab.store, "refuses", lambda fact: is_defective)
    await lab.append(*(replace(delivery_record(each), partition=0) for each in deliveries))

    async with lab.recording(guard=EASILY_BRAKED) as recorder:
        await eventually(lambda: recorder.held)
        held = await lab.uncommitted()
        is_defective = False
        for each in deliveries:
            await until(lambda each=each: has_status(lab, each, "accepted"))  # type: ignore[misc]
        await eventually(lambda: not recorder.held)

    assert held == 8
    assert await lab.store.aside(limit=9) == []
    assert await lab.uncommitted() == 0


async def test_a_recorder_that_starts_holds_what_others_hold_from_the_first_record_on(lab: Lab) -> None:
    await lab.append(*(replace(broken(EVENTS_TOPIC), partition=0) for _ in range(5)))
    async with lab.recording(guard=EASILY_BRAKED) as recorder:
        await eventually(lambda: recorder.held)
        await until(lambda: is_braked(lab))

    async with lab.recording(guard=GuardSettings(brake_records=100)) as recorder:
        await eventually(lambda: recorder.held)

    assert await lab.store.aside(limit=9) == []


async def test_an_outage_of_the_store_is_no_records_fault(lab: Lab) -> None:
    lab.store.is_away = True
    delivery = await lab.accept_and_send()

    async with lab.recording(guard=EASILY_BRAKED) as recorder:
        await eventually(lambda: lab.store.tries >= 3)
        assert not recorder.held
        lab.store.is_away = False
        await until(lambda: has_status(lab, delivery, "sent"))

    assert await lab.store.aside(limit=9) == []


async def is_braked(lab: Lab) -> bool:
    return "recorder pabal.events" in await read_brakes(lab.broker.reader())

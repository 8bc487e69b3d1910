"""The role over a real log and store: what it records, what it survives, when its offsets count."""

import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord
from pabal.codec import delivery_record, event_record
from pabal.errors import StoreUnavailable
from pabal.notification import EVENTS_TOPIC, Delivery
from pabal.store.port import StoredFact
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
        await eventually(lambda: recorder.undecodable == 3)

    assert await lab.uncommitted() == 0
    assert "records cannot be read" in caplog.text


async def test_dead_letters_are_recorded_also_those_that_nobody_can_read(lab: Lab) -> None:
    exhausted = lab.a_delivery()
    await lab.append(dead_of(b"", delivery=exhausted, lab=lab), dead_of(b"\xff", delivery=None, lab=lab))

    async with lab.recording() as recorder:
        await until(lambda: has_status(lab, exhausted, "dead_lettered"))

    with contextlib.closing(sqlite3.connect(lab.folder / "store" / "store.db")) as connection:
        rows = connection.execute("SELECT error_class, message, delivery_id FROM dead_letters").fetchall()
    assert set(rows) == {("undecodable", "not JSON", exhausted.id.bytes), ("undecodable", "not JSON", None)}
    assert recorder.undecodable == 0


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


async def test_what_is_unaccounted_is_an_alarm_raised_once_per_change(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    long_ago = lab.clock.now() - timedelta(hours=5)
    lost = lab.a_delivery(accepted_at=long_ago, expires_at=long_ago + timedelta(hours=1))
    await lab.append(delivery_record(lost))

    async with lab.recording() as recorder:
        await until(lambda: has_status(lab, lost, "unaccounted"))
        with caplog.at_level(logging.ERROR):
            await recorder.look_for_unaccounted()
            await recorder.look_for_unaccounted()

        alarms = [record.getMessage() for record in caplog.records if "unaccounted" in record.getMessage()]
        assert len(alarms) == 1
        assert str(lost.id) in alarms[0]
        assert recorder.unaccounted == 1

        await lab.append(event_record(lab.event(lost, "expired")))
        await until(lambda: has_status(lab, lost, "expired"))
        await recorder.look_for_unaccounted()
        assert recorder.unaccounted == 0


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

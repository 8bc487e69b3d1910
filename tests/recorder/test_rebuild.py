"""Reading what the log still holds into the store again."""

import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from pabal.broker.port import NewRecord, TopicPartition
from pabal.clock import ManualClock
from pabal.codec import delivery_record, event_record
from pabal.groups import RECORDER_GROUP
from pabal.notification import EVENTS_TOPIC
from pabal.offsets.moving import read_skips
from pabal.recorder.rebuild import Rebuilt, rebuild
from tests.recorder.lab import CHANNELS, FlakyStore, Lab, until
from tests.waiting import eventually


async def rebuilt(lab: Lab, progress: list[tuple[int, int]] | None = None) -> Rebuilt:
    told = [] if progress is None else progress
    return await rebuild(
        broker=lab.broker,
        store=lab.store,
        channels=CHANNELS,
        by="Ada",
        clock=lab.clock,
        on_progress=lambda read, total: told.append((read, total)),
    )


async def test_a_new_store_is_filled_from_the_log(tmp_path: Path) -> None:
    async with Lab.opened(tmp_path) as lab:
        sent = [await lab.accept_and_send() for _ in range(3)]
        await lab.append(NewRecord(topic=EVENTS_TOPIC, key=None, value=b"\xff"))
        progress: list[tuple[int, int]] = []

        result = await rebuilt(lab, progress)

        assert result == Rebuilt(records=7, set_aside=1, taken_up=0, released=())
        assert progress[0] == (0, 7)
        assert progress[-1] == (7, 7)
        for delivery in sent:
            view = await lab.view(delivery)
            assert view is not None
            assert view.status == "sent"


async def test_what_the_log_has_forgotten_stays_in_the_store(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Lab.opened(tmp_path, clock=clock) as lab:
        old = await lab.accept_and_send()
        await rebuilt(lab)
        clock.advance(timedelta(days=9).total_seconds())
        await lab.broker.clean()
        fresh = await lab.accept_and_send()

        result = await rebuilt(lab)

        assert result.records == 2
        for delivery in (old, fresh):
            view = await lab.view(delivery)
            assert view is not None
            assert view.status == "sent"


async def test_what_was_set_aside_is_taken_up_when_it_can_be_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Lab.opened(tmp_path) as lab:
        sent = await lab.accept_and_send()
        await lab.append(NewRecord(topic=EVENTS_TOPIC, key=None, value=b"\xff"))
        with monkeypatch.context() as patching:
            patching.setattr(lab.store, "refuses", lambda fact: fact == lab.last_event)
            first = await rebuilt(lab)
        before = [each.error for each in await lab.store.aside(limit=9)]

        second = await rebuilt(lab)

        left = await lab.store.aside(limit=9)
        view = await lab.view(sent)
        assert (first.set_aside, first.taken_up, len(before)) == (2, 0, 2)
        assert (second.set_aside, second.taken_up) == (1, 1)
        assert [(each.topic, each.start, each.size) for each in left] == [(EVENTS_TOPIC, b"\xff", 1)]
        assert view is not None
        assert view.status == "sent"


async def test_twice_comes_to_the_same(tmp_path: Path) -> None:
    async with Lab.opened(tmp_path) as lab:
        delivery = await lab.accept_and_send()
        await rebuilt(lab)
        before = await lab.view(delivery)

        await rebuilt(lab)

        assert await lab.view(delivery) == before


@pytest.mark.parametrize("is_made_anew", [False, True])
async def test_a_rebuild_lets_a_recorder_go_on_that_stands_still_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_made_anew: bool
) -> None:
    clock = ManualClock()
    async with Lab.opened(tmp_path, clock=clock) as lab:
        await lab.accept_and_send()
        partitions = [TopicPartition(EVENTS_TOPIC, number) for number in (0, 1)]
        # Above the end as after the topic was deleted and created again; else below what retention leaves.
        await lab.broker.admin().reset_offsets(RECORDER_GROUP, dict.fromkeys(partitions, 1000 if is_made_anew else 0))
        clock.advance(timedelta(days=9).total_seconds())
        await lab.broker.clean()
        later = [lab.a_delivery(), lab.a_delivery()]
        told = [event_record(lab.event(each, "sent")) for each in later]

        async with lab.recording():
            await eventually(lambda: any("stands still" in each.getMessage() for each in caplog.records))
            other = lab.a_delivery()
            await lab.append(delivery_record(other))
            await until(lambda: lab.view(other))
            await lab.append(*(msgspec.structs.replace(each, partition=place) for place, each in enumerate(told)))
            result = await rebuilt(lab)

            await eventually(
                lambda: sum("goes on at" in each.getMessage() for each in caplog.records) == len(result.released)
            )

        committed = await lab.broker.admin().committed(RECORDER_GROUP, [EVENTS_TOPIC])
        marks = await lab.broker.admin().watermarks(EVENTS_TOPIC)
        assert committed == {each: mark.high for each, mark in marks.items()}
        for each in later:
            assert await lab.view(each) is not None
        assert {gap.topic for gap in result.released} == {EVENTS_TOPIC}
        assert len(result.released) == (2 if is_made_anew else 1)
        [first, *_] = await read_skips(lab.broker.reader())
        assert (first.fact.by, first.fact.reason) == ("Ada", "pabal recorder rebuild")


async def test_a_rebuild_may_go_on_beside_a_recorder(tmp_path: Path) -> None:
    async with Lab.opened(tmp_path) as lab:
        deliveries = [await lab.accept_and_send() for _ in range(5)]

        async with lab.recording():
            await rebuilt(lab)

        for delivery in deliveries:
            view = await lab.view(delivery)
            assert view is not None
            assert [entry.kind for entry in view.timeline] == ["sent"]


async def test_a_store_that_is_deleted_comes_back(tmp_path: Path) -> None:
    async with Lab.opened(tmp_path) as lab:
        delivery = await lab.accept_and_send()
        await rebuilt(lab)
        await lab.store.close()
        shutil.rmtree(tmp_path / "store")
        lab.store = FlakyStore(lab.url, clock=lab.clock)

        await rebuilt(lab)

        assert await lab.view(delivery) is not None

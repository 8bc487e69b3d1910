"""Samples that are written and read again are the samples that were taken; what did not change is not written."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pabal.lag import Sample
from pabal.monitor.sample_log import WHOLE_EVERY_SECONDS, SampleReplay, SampleWriter
from pabal.monitor.samples import Place, Sampled
from pabal.status.records import LagSample, read_status, sample_record
from tests.dlq.letters import in_the_log

BEGAN = datetime(2026, 12, 1, tzinfo=UTC)
PLACES = [Place("g", "pabal.events", partition) for partition in range(3)]


def sampled(at: float, samples: Mapping[Place, Sample]) -> Sampled:
    return Sampled(at=at, samples=samples, members={"g": 2})


def written(writer: SampleWriter, sample: Sampled) -> LagSample | None:
    record = writer.record_of(sample, at=BEGAN + timedelta(seconds=sample.at))
    if record is None:
        return None
    told = read_status(in_the_log(sample_record(record)))
    assert isinstance(told, LagSample)
    return told


def one(at: float, **changes: object) -> Sample:
    return msgspec.structs.replace(Sample(at=at, low=0, high=9, committed=9, owner="m", age_seconds=0.0), **changes)


@st.composite
def histories(draw: st.DrawFn) -> list[Sampled]:
    """Some samples of up to three partitions, two seconds apart. What waits grows older by two seconds each."""
    history: list[Sampled] = []
    head: dict[Place, int] = dict.fromkeys(PLACES, 0)
    since: dict[Place, float] = dict.fromkeys(PLACES, 0.0)
    for step in range(draw(st.integers(1, 14))):
        at = 2.0 * step
        samples = {}
        for place in (
            draw(st.lists(st.sampled_from(PLACES), unique=True)) if step % 5 == 0 else list(history[-1].samples)
        ):
            high = draw(st.integers(0, 3))
            if high:
                since[place], head[place] = at, head[place] + high
            waits = draw(st.booleans()) and head[place] > 0
            committed = head[place] - 1 if waits else head[place]
            samples[place] = one(
                at,
                high=head[place],
                committed=committed,
                owner=draw(st.sampled_from([None, "m"])),
                held=draw(st.sampled_from([None, "guard"])),
                age_seconds=at - since[place] if waits else 0.0,
            )
        history.append(sampled(at, samples))
    return history


@given(histories())
def test_the_samples_that_are_read_are_those_that_were_taken(history: list[Sampled]) -> None:
    writer, replay = SampleWriter("m1"), SampleReplay()
    for sample in history:
        told = written(writer, sample)
        if told is None:
            assert not any(each.lag for each in sample.samples.values())
            continue
        again = replay.take(told, at=sample.at)
        assert again is not None
        assert again.samples == sample.samples
        assert again.members == sample.members


def test_nothing_is_written_while_nothing_waits_and_nothing_changes_but_all_of_it_now_and_then() -> None:
    writer = SampleWriter("m1")
    began = 1_000.0
    times = [began + 2.0 * step for step in range(11)]

    told = [written(writer, sampled(at, {PLACES[0]: one(at)})) for at in times]

    assert [record is not None and record.is_whole for record in told] == [True] + [False] * 9 + [True]
    assert [record for record in told[1:-1] if record is not None] == []
    assert times[-1] - began == WHOLE_EVERY_SECONDS


def test_while_any_partition_waits_each_sample_is_written_with_no_more_than_what_changed() -> None:
    writer = SampleWriter("m1")
    waiting, idle = PLACES[0], PLACES[1]

    rows = []
    for at in (0.0, 2.0, 4.0):
        committed = 4 if at == 4.0 else 3
        told = written(writer, sampled(at, {waiting: one(at, committed=committed, age_seconds=at), idle: one(at)}))
        assert told is not None
        rows.append([row.partition for row in told.rows])

    assert rows == [[0, 1], [], [0]]


def test_a_partition_that_is_there_no_more_is_told_by_all_that_are() -> None:
    writer = SampleWriter("m1")
    written(writer, sampled(0.0, {PLACES[0]: one(0.0), PLACES[1]: one(0.0)}))

    told = written(writer, sampled(2.0, {PLACES[0]: one(2.0)}))

    assert told is not None
    assert told.is_whole
    assert [row.partition for row in told.rows] == [0]


def test_what_changed_since_a_sample_of_another_monitor_says_nothing() -> None:
    first, second, replay = SampleWriter("m1"), SampleWriter("m2"), SampleReplay()
    whole = written(first, sampled(0.0, {PLACES[0]: one(0.0)}))
    assert whole is not None
    written(second, sampled(0.0, {PLACES[0]: one(0.0)}))
    difference = written(second, sampled(2.0, {PLACES[0]: one(2.0, high=12)}))
    assert difference is not None

    assert replay.take(whole, at=0.0) is not None
    assert replay.take(difference, at=2.0) is None


def test_what_waits_grows_older_from_one_record_to_the_next() -> None:
    writer, replay = SampleWriter("m1"), SampleReplay()
    seen = []
    for at in (0.0, 2.0, 4.0):
        told = written(
            writer, sampled(at, {PLACES[0]: one(at, high=10, age_seconds=5.0 + at, overdue_seconds=1.0 + at)})
        )
        assert told is not None
        again = replay.take(told, at=at)
        assert again is not None
        seen.append((again.samples[PLACES[0]].age_seconds, again.samples[PLACES[0]].overdue_seconds))

    assert seen == [(5.0, 1.0), (7.0, 3.0), (9.0, 5.0)]


def test_what_does_not_wait_what_is_not_due_and_what_was_not_read_grows_no_older() -> None:
    writer, replay = SampleWriter("m1"), SampleReplay()
    for at in (0.0, 2.0):
        samples = {
            PLACES[0]: one(at, committed=3, age_seconds=5.0 + at, overdue_seconds=0.0),
            PLACES[1]: one(at, age_seconds=0.0, overdue_seconds=None),
            PLACES[2]: one(at, committed=3, age_seconds=None),
        }
        told = written(writer, sampled(at, samples))
        assert told is not None
        again = replay.take(told, at=at)

    assert again is not None
    assert [(each.age_seconds, each.overdue_seconds) for each in again.samples.values()] == [
        (7.0, 0.0),
        (0.0, None),
        (None, None),
    ]


def test_a_monitor_whose_wall_clock_was_set_back_makes_nothing_younger() -> None:
    writer, replay = SampleWriter("m1"), SampleReplay()
    for at, wall in ((0.0, BEGAN), (2.0, BEGAN - timedelta(hours=1))):
        record = writer.record_of(sampled(at, {PLACES[0]: one(at, committed=3, age_seconds=5.0)}), at=wall)
        assert record is not None
        again = replay.take(record, at=at)

    assert again is not None
    assert again.samples[PLACES[0]].age_seconds == 5.0

"""What one monitor makes of the records of `pabal.status`, its own and others', whatever stands in them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pabal.broker.port import NewRecord
from pabal.clock import ManualClock
from pabal.lag import Sample
from pabal.monitor.history import history_record, read_minute
from pabal.monitor.sample_log import SampleWriter
from pabal.monitor.samples import Place, Sampled
from pabal.monitor.watching import Watching
from pabal.monitor.windows import GroupView
from pabal.notification import STATUS_TOPIC
from pabal.status.records import (
    GroupStatus,
    LagSample,
    PartitionStatus,
    ProcessStatus,
    SampleRow,
    sample_record,
    status_record,
)
from pabal.telemetry.meter import MOST_COUNTED, HistogramSeries, NumberSeries, Snapshot
from tests.dlq.letters import in_the_log

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Place("g", "t", 0)
COUNTED = ("pabal_retries_total", ("webhook", "critical"))
OWNED = GroupStatus(group="g", held="brake", partitions=(PartitionStatus("t", 0, 3, 7),))


class Lab:
    """A monitor's sight, and what comes before it."""

    def __init__(self) -> None:
        self.clock = ManualClock(STARTED + timedelta(hours=1))
        self.watching = Watching(clock=self.clock)

    def read(self, record: NewRecord, *, seconds_ago: float = 0.0, **how: Any) -> None:
        """A record that was appended some time ago comes."""
        at = self.clock.now() - timedelta(seconds=seconds_ago)
        self.watching.note_record(in_the_log(record, at=at), **how)

    def tell(self, instance: str = "one", *, seconds_ago: float = 0.0, how: Mapping[str, Any] = {}, **own: Any) -> None:
        """A process's status comes."""
        values: dict[str, Any] = {"roles": ("worker",), "version": "1", "state": "running", "started_at": STARTED}
        status = ProcessStatus(instance=instance, at=self.clock.now(), **values | own)
        self.read(status_record(status), seconds_ago=seconds_ago, **how)

    def sample(self, **facts: Any) -> Sampled:
        """A sample of one partition, as of now."""
        values: dict[str, Any] = {"low": 0, "high": 9, "owner": "m"}
        sample = Sample(at=self.clock.boot_seconds(), **values | facts)
        return Sampled(at=sample.at, samples={PLACE: sample}, members={"g": 1})

    def group(self) -> GroupView:
        """The only group."""
        [group] = self.watching.windows.groups()
        return group


@pytest.fixture
def lab() -> Lab:
    return Lab()


def counted(value: float) -> Snapshot:
    return Snapshot(numbers=(NumberSeries(*COUNTED, value),))


def test_a_process_speaks_for_its_partitions_from_the_moment_its_status_was_appended(lab: Lab) -> None:
    lab.tell("fresh", groups=(OWNED,), seconds_ago=29)
    assert lab.watching.owners()[PLACE].held == "brake"

    lab.clock.advance(1.0)
    assert lab.watching.owners() == {}


def test_a_record_from_a_clock_that_is_ahead_of_ours_is_of_now(lab: Lab) -> None:
    lab.tell(seconds_ago=-300)

    [process] = lab.watching.fleet.processes()
    assert process.silent_for(lab.clock.boot_seconds()) == 0
    lab.clock.advance(30)
    assert not process.is_running(lab.clock.boot_seconds())


def test_what_was_deleted_unread_is_counted_once_as_it_grows_by_group_and_topic(lab: Lab) -> None:
    seen = []
    for committed, low in ((5, 5), (5, 6), (5, 8), (8, 8), (8, 12)):
        lab.watching.note_sample(lab.sample(committed=committed, low=low, high=20))
        seen.append(dict(lab.watching.losses))

    key = ("g", "t")
    assert seen == [{}, {key: 1}, {key: 3}, {key: 3}, {key: 7}]


def test_what_retention_took_from_two_partitions_of_a_topic_adds_up(lab: Lab) -> None:
    sampled = lab.sample(committed=5, low=8)
    both = {PLACE: sampled.samples[PLACE], PLACE._replace(partition=1): sampled.samples[PLACE]}

    lab.watching.note_sample(msgspec.structs.replace(sampled, samples=both))

    assert lab.watching.losses == {("g", "t"): 6}


def test_samples_of_others_are_taken_in_only_when_a_monitor_takes_over(lab: Lab) -> None:
    writer = SampleWriter("another")
    told = []
    for committed in (1, 2, 3):
        sample = writer.record_of(lab.sample(committed=committed, age_seconds=4.0), at=lab.clock.now())
        assert sample is not None
        told.append(sample_record(sample))
        lab.clock.advance(2.0)

    lab.read(told[0])
    assert lab.watching.windows.groups() == []
    lab.read(told[1], is_replayed=True)  # Says what has changed, and nothing says since when.
    assert lab.watching.windows.groups() == []
    for age, record in zip((6.0, 4.0, 2.0), told, strict=True):
        lab.read(record, seconds_ago=age, is_replayed=True)

    window = lab.watching.windows.window(PLACE)
    now = lab.clock.boot_seconds()
    assert [(now - each.at, each.committed) for each in window] == [(6.0, 1), (4.0, 2), (2.0, 3)]
    assert lab.group().out_per_second == pytest.approx(0.5)


def test_new_windows_know_nothing_of_the_samples_before(lab: Lab) -> None:
    lab.watching.note_sample(lab.sample(committed=1))
    lab.watching.forget_samples()

    assert lab.watching.windows.groups() == []
    assert lab.watching.windows.sampled_at is None


def test_a_minute_has_what_was_counted_after_the_last_one_what_runs_and_the_groups_at_their_worst(lab: Lab) -> None:
    last_minute = lab.clock.now() - timedelta(seconds=30)
    lab.tell("one", seconds_ago=40, figures=counted(3), how={"counted_from": last_minute})
    lab.tell("one", seconds_ago=30, figures=counted(5), how={"counted_from": last_minute})
    lab.tell("one", seconds_ago=20, figures=counted(9), how={"counted_from": last_minute})
    lab.tell("gone", state="stopped")
    lab.watching.note_sample(lab.sample(committed=1))
    lab.watching.note_groups(lab.watching.windows.groups())

    minute, following = lab.watching.take_minute(seconds=61.0), lab.watching.take_minute(seconds=60.0)

    assert (minute.at, minute.seconds, minute.processes) == (lab.clock.now(), 61.0, 1)
    assert minute.figures == counted(4)
    assert [(each.group, each.lag) for each in minute.groups] == [("g", 8)]
    assert (following.figures, following.groups) == (Snapshot(), ())


def test_a_process_of_yesterday_leaves_with_the_minute(lab: Lab) -> None:
    lab.tell(seconds_ago=86_400)
    assert len(lab.watching.fleet.processes()) == 1

    lab.watching.take_minute(seconds=60.0)

    assert lab.watching.fleet.processes() == []


HISTOGRAM = HistogramSeries("pabal_append_duration_seconds", (), (MOST_COUNTED + 1,), 0.0)
ROW = SampleRow("g", "t", 0, 0, 9, 0)


def of_a_process(**own: Any) -> NewRecord:
    values: dict[str, Any] = {"roles": ("worker",), "version": "1", "state": "running", "at": STARTED}
    return status_record(ProcessStatus(instance="odd", **values | {"started_at": STARTED} | own))


def of_a_monitor(row: SampleRow = ROW, **own: Any) -> NewRecord:
    return sample_record(LagSample(instance="odd", is_whole=True, rows=(row,), **{"at": STARTED} | own))


@pytest.mark.parametrize(
    "record",
    [
        NewRecord(topic=STATUS_TOPIC, key=b"k", value=b"{}"),
        NewRecord(topic=STATUS_TOPIC, key=b"k", value=None),
        msgspec.structs.replace(of_a_process(), value=b"\xff"),
        of_a_process(at=datetime.max.replace(tzinfo=UTC)),
        of_a_process(started_at=datetime.min.replace(tzinfo=UTC)),
        of_a_process(figures=Snapshot(histograms=(HISTOGRAM,))),
        of_a_process(figures=Snapshot(histograms=(msgspec.structs.replace(HISTOGRAM, counts=(-1,)),))),
        of_a_process(groups=(GroupStatus(group="g", partitions=(PartitionStatus("t", 0, -1),)),)),
        of_a_process(groups=(GroupStatus(group="g", partitions=(PartitionStatus("t", 0, 0, 2**63),)),)),
        of_a_process(groups=(GroupStatus(group="g", partitions=(PartitionStatus("t", 2**31, 0),)),)),
        of_a_process(ops_offset=-1),
        of_a_monitor(at=datetime.max.replace(tzinfo=UTC)),
        of_a_monitor(members={"g": 2**31}),
        *(
            of_a_monitor(msgspec.structs.replace(ROW, **{name: value}))
            for name in ("low", "high", "committed", "ended", "highest_ended")
            for value in (-1, 2**63, 10**400)
        ),
    ],
    ids=lambda record: (record.value or b"none")[-40:].decode(errors="replace"),
)
def test_what_no_process_can_have_told_is_counted_as_unreadable_and_passed_over(lab: Lab, record: NewRecord) -> None:
    lab.tell("one", figures=counted(3))
    lab.read(record, is_replayed=True)
    lab.tell("one", figures=counted(5))

    assert lab.watching.unreadable.count == 1
    assert [each.status.instance for each in lab.watching.fleet.processes()] == ["one"]
    assert lab.watching.windows.groups() == []
    assert lab.watching.take_minute(seconds=60.0).figures == counted(5)


def test_the_largest_figures_that_can_be_read_can_be_judged_and_written_again(lab: Lab) -> None:
    most = 2**63 - 1
    histogram = msgspec.structs.replace(HISTOGRAM, counts=(MOST_COUNTED,) * 2, sum=1e15)
    for instance in ("one", "two"):
        lab.tell(
            instance,
            figures=Snapshot(numbers=(NumberSeries(*COUNTED, 1e308),), histograms=(histogram,)),
            groups=(GroupStatus(group="g", partitions=(PartitionStatus("t", 0, most, most),)),),
        )
    rows = [msgspec.structs.replace(ROW, high=high, ended=most, age_seconds=1e308) for high in (1, most)]
    for age, row in zip((2.0, 0.0), rows, strict=True):
        lab.read(of_a_monitor(row), seconds_ago=age, is_replayed=True)

    group = lab.group()
    lab.watching.note_groups([group])
    minute = lab.watching.take_minute(seconds=60.0)

    assert group.lag == most
    assert read_minute(in_the_log(history_record(minute))) == minute
    assert minute.figures == Snapshot(
        numbers=(NumberSeries(*COUNTED, MOST_COUNTED),),
        histograms=(msgspec.structs.replace(histogram, sum=2e15),),
    )

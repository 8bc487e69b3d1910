"""What the processes count adds up by the minute, whatever they tell; and the groups at their worst."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from pabal.errors import DecodeError
from pabal.monitor.history import (
    MOST_INSTANCES,
    MOST_SERIES,
    Minute,
    Totals,
    WorstOfMinute,
    history_record,
    read_minute,
)
from pabal.monitor.windows import GroupView
from pabal.status.records import ProcessStatus
from pabal.telemetry.meter import MOST_COUNTED, HistogramSeries, NumberSeries, Snapshot
from pabal.telemetry.table import METRICS
from tests.dlq.letters import in_the_log

STARTED = datetime(2026, 12, 1, tzinfo=UTC)
COUNTER = ("pabal_retries_total", ("webhook", "critical"))
HISTOGRAM = ("pabal_append_duration_seconds", ())
BUCKETS = len(METRICS[HISTOGRAM[0]].buckets) + 1


def told(instance: str, *numbers: NumberSeries, later: float = 0.0, **more: Any) -> ProcessStatus:
    return ProcessStatus(
        instance=instance,
        roles=("worker",),
        version="1",
        state="running",
        at=STARTED,
        started_at=STARTED + timedelta(seconds=later),
        figures=Snapshot(numbers=numbers, **more),
    )


def counted(value: float) -> NumberSeries:
    return NumberSeries(*COUNTER, value)


def taken(totals: Totals) -> dict[str, float]:
    return {each.name: each.value for each in totals.take().numbers}


def test_what_two_processes_count_adds_up_and_is_handed_out_once() -> None:
    totals = Totals()
    for status in (told("one", counted(3)), told("two", counted(4)), told("one", counted(5))):
        totals.note(status)

    assert taken(totals) == {COUNTER[0]: 9.0}
    assert taken(totals) == {}


def test_a_process_that_was_started_anew_counts_from_zero() -> None:
    totals = Totals()
    totals.note(told("one", counted(100)))
    taken(totals)

    totals.note(told("one", counted(2), later=60))

    assert taken(totals) == {COUNTER[0]: 2.0}


def test_what_stands_in_the_history_already_is_only_where_the_next_difference_begins() -> None:
    totals = Totals()
    totals.note(told("one", counted(100)), is_counted=False)
    totals.note(told("one", counted(103)))

    assert taken(totals) == {COUNTER[0]: 3.0}


def test_a_status_without_figures_changes_nothing() -> None:
    totals = Totals()
    totals.note(told("one", counted(3)))
    totals.note(msgspec.structs.replace(told("one"), figures=None))
    totals.note(told("one", counted(4)))

    assert taken(totals) == {COUNTER[0]: 4.0}


def test_a_figure_that_went_back_takes_nothing_away() -> None:
    def seen(number: float, counts: tuple[int, ...], total: float) -> ProcessStatus:
        return told("one", counted(number), histograms=(HistogramSeries(*HISTOGRAM, counts, total),))

    totals = Totals()
    totals.note(seen(5, (5, 0), 5.0), is_counted=False)
    totals.note(seen(3, (3, 2), 3.0))

    snapshot = totals.take()
    assert snapshot.numbers == ()
    assert [(each.counts, each.sum) for each in snapshot.histograms] == [((0, 2), 0.0)]


def test_of_too_many_processes_the_figures_of_the_longest_silent_are_forgotten() -> None:
    totals = Totals()
    for number in range(MOST_INSTANCES + 1):
        totals.note(told(f"{number}", counted(1)), is_counted=False)

    totals.note(told(f"{MOST_INSTANCES}", counted(1)))
    totals.note(told("1", counted(1)))
    assert taken(totals) == {}
    totals.note(told("0", counted(1)))
    assert taken(totals) == {COUNTER[0]: 1.0}


def test_gauges_and_names_of_another_version_are_left_out() -> None:
    totals = Totals()
    totals.note(told("one", NumberSeries("pabal_in_flight", ("a", "b"), 7.0), NumberSeries("pabal_new_total", (), 7.0)))

    assert taken(totals) == {}


def test_histograms_add_up_bucket_by_bucket_and_those_of_other_buckets_are_no_difference() -> None:
    def seen(count: int, *, buckets: int = BUCKETS) -> ProcessStatus:
        return told("one", histograms=(HistogramSeries(*HISTOGRAM, (count,) * buckets, float(count)),))

    totals = Totals()
    for status in (seen(1), seen(3), seen(2, buckets=3)):
        totals.note(status)

    [histogram] = totals.take().histograms
    assert (histogram.counts, histogram.sum) == ((2,) * 3, 2.0)
    totals.note(seen(5))
    totals.note(seen(7))
    [histogram] = totals.take().histograms
    assert (histogram.counts, histogram.sum) == ((7,) * BUCKETS, 7.0)


def test_absurd_figures_stay_within_what_a_record_holds() -> None:
    totals = Totals()
    totals.note(told("one", *(NumberSeries(COUNTER[0], (str(number),), 1e300) for number in range(MOST_SERIES + 9))))
    totals.note(told("two", *(NumberSeries(COUNTER[0], (str(number),), 1e300) for number in range(MOST_SERIES + 9))))

    odd = (HistogramSeries(HISTOGRAM[0], (str(number),), (MOST_COUNTED,), 9e15) for number in range(MOST_SERIES + 9))
    histograms = tuple(odd)
    for instance in ("one", "two"):
        totals.note(
            told(
                instance,
                histograms=(HistogramSeries("pabal_http_request_duration_seconds", (), (1,), 1e300), *histograms),
            )
        )

    snapshot = totals.take()

    assert len(snapshot.numbers) == len(snapshot.histograms) == MOST_SERIES
    assert {(each.name, each.counts, each.sum) for each in snapshot.histograms} == {
        (HISTOGRAM[0], (MOST_COUNTED,), MOST_COUNTED)
    }
    assert {each.value for each in snapshot.numbers} == {MOST_COUNTED}


def view(**changes: Any) -> GroupView:
    values: dict[str, Any] = {
        "group": "g", "verdict": "ok", "reason": "", "completeness": 1.0, "members": 1, "lag": 0, "lost": 0,
        "age_seconds": 0.0, "in_per_second": 1.0, "out_per_second": 1.0, "drained_in_seconds": 0.0,
        "headroom_seconds": 9.0, "skew": 1.0, "partitions": (),
    }  # fmt: skip
    return GroupView(**values | changes)


def test_a_group_is_remembered_at_its_worst_and_with_its_last_rates() -> None:
    worst = WorstOfMinute()
    worst.note([view(verdict="stall", lag=9, age_seconds=8.0, lost=1, in_per_second=7.0)])
    worst.note([view(verdict="ok", lag=2, age_seconds=5.0)])

    [group] = worst.take()

    assert (group.verdict, group.lag, group.age_seconds, group.lost, group.in_per_second) == ("stall", 9, 8.0, 1, 1.0)
    assert worst.take() == ()


def test_a_minute_is_read_as_it_was_written_and_one_beyond_the_calendar_is_not_read() -> None:
    worst = WorstOfMinute()
    worst.note([view(verdict="warn")])
    minute = Minute(at=STARTED, seconds=60.0, processes=2, figures=Snapshot(numbers=(counted(3),)), groups=worst.take())

    assert read_minute(in_the_log(history_record(minute))) == minute
    with pytest.raises(DecodeError, match="schema"):
        read_minute(msgspec.structs.replace(in_the_log(history_record(minute)), headers=()))
    with pytest.raises(DecodeError, match="reckoning"):
        read_minute(in_the_log(history_record(msgspec.structs.replace(minute, at=datetime.max.replace(tzinfo=UTC)))))

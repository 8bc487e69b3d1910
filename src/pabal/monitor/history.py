"""What happened in one minute, over all processes: the records of `pabal.history`. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.lag import SEVERITY, LagVerdict
from pabal.monitor.windows import GroupView
from pabal.notification import HISTORY_TOPIC, Fact, Instant, is_reckoned
from pabal.status.records import ProcessStatus
from pabal.telemetry.meter import MOST_COUNTED, HistogramSeries, NumberSeries, Snapshot
from pabal.telemetry.table import METRICS

HISTORY_SCHEMA: Final = b"history/1"

MINUTE_SECONDS: Final = 60.0

MOST_SERIES: Final = 5_000
"""Of one minute. Figures come from the log, and the minute must fit into one record."""

MOST_INSTANCES: Final = 2_000
"""Whose figures are remembered, so that the next ones can be compared; the oldest are forgotten."""


class GroupMinute(Fact, frozen=True, kw_only=True):
    """A group in one minute: its worst verdict, its largest lag and oldest unread record, and its last rates."""

    group: str
    verdict: LagVerdict
    lag: int
    age_seconds: float
    lost: int
    in_per_second: float
    out_per_second: float


class Minute(Fact, frozen=True, kw_only=True):
    """One minute of an installation (schema `history/1`).

    `at` is its end, `seconds` its length. `figures` are what all processes counted in it: sums of counters and of
    histograms, no gauges. `processes`: how many ran at its end.
    """

    at: Instant
    seconds: float
    processes: int
    figures: Snapshot = Snapshot()
    groups: tuple[GroupMinute, ...] = ()


_decode = msgspec.json.Decoder(Minute).decode
_encode = msgspec.json.Encoder().encode


def history_record(minute: Minute) -> NewRecord:
    """The record that keeps it."""
    return NewRecord(
        topic=HISTORY_TOPIC, key=b"minute", value=_encode(minute), headers=((SCHEMA_HEADER, HISTORY_SCHEMA),)
    )


def read_minute(record: Record) -> Minute:
    """The minute in a record of `pabal.history`. Raises DecodeError."""
    check_schema(record, HISTORY_SCHEMA)
    minute = decoded(_decode, record.value, what="a minute of history")
    if not is_reckoned(minute.at):
        raise DecodeError("a time beyond all reckoning", error_class="undecodable")
    return minute


_Labels = tuple[str, tuple[str, ...]]


class Totals:
    """Adds up what the processes count, and hands it out by the minute.

    A process counts from its start, so that what it counted since its last status is the difference of two; a process
    that was started anew began at zero.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[datetime, Mapping[_Labels, float], Mapping[_Labels, HistogramSeries]]] = {}
        self._numbers: dict[_Labels, float] = {}
        self._histograms: dict[_Labels, HistogramSeries] = {}

    def note(self, status: ProcessStatus, *, is_counted: bool = True) -> None:
        """Take in a status. `is_counted`: whether what is new in it belongs to the coming minute; else it was told."""
        figures = status.figures
        if figures is None:
            return
        started, numbers, histograms = self._last.pop(status.instance, (status.started_at, {}, {}))
        if started != status.started_at:
            numbers, histograms = {}, {}
        now_numbers = {
            (each.name, each.labels): each.value for each in figures.numbers if _kind(each.name) == "counter"
        }
        now_histograms = {
            (each.name, each.labels): each
            for each in figures.histograms
            if _kind(each.name) == "histogram" and abs(each.sum) <= MOST_COUNTED
        }
        self._last[status.instance] = (status.started_at, now_numbers, now_histograms)
        while len(self._last) > MOST_INSTANCES:
            del self._last[next(iter(self._last))]
        if not is_counted:
            return
        for labels, value in now_numbers.items():
            grown = max(value - numbers.get(labels, 0.0), 0.0)
            if labels in self._numbers or len(self._numbers) < MOST_SERIES:
                self._numbers[labels] = min(self._numbers.get(labels, 0.0) + grown, MOST_COUNTED)
        for labels, histogram in now_histograms.items():
            if labels in self._histograms or len(self._histograms) < MOST_SERIES:
                more = _difference(histogram, histograms.get(labels))
                self._histograms[labels] = _sum(more, self._histograms.get(labels))

    def take(self) -> Snapshot:
        """What was counted since it was last taken; what was not counted at all is left out."""
        numbers, self._numbers = self._numbers, {}
        histograms, self._histograms = self._histograms, {}
        return Snapshot(
            numbers=tuple(NumberSeries(*labels, value) for labels, value in sorted(numbers.items()) if value),
            histograms=tuple(each for _, each in sorted(histograms.items()) if any(each.counts)),
        )


class WorstOfMinute:
    """The groups at their worst, since the last minute was taken."""

    def __init__(self) -> None:
        self._groups: dict[str, GroupMinute] = {}

    def note(self, groups: Sequence[GroupView]) -> None:
        """Take in how the groups stand."""
        for view in groups:
            now = GroupMinute(
                group=view.group,
                verdict=view.verdict,
                lag=view.lag,
                age_seconds=view.age_seconds,
                lost=view.lost,
                in_per_second=view.in_per_second,
                out_per_second=view.out_per_second,
            )
            before = self._groups.get(view.group, now)
            self._groups[view.group] = msgspec.structs.replace(
                now,
                verdict=max(before.verdict, now.verdict, key=SEVERITY.__getitem__),
                lag=max(before.lag, now.lag),
                age_seconds=max(before.age_seconds, now.age_seconds),
                lost=max(before.lost, now.lost),
            )

    def take(self) -> tuple[GroupMinute, ...]:
        """The groups, by name; the next minute begins."""
        groups, self._groups = self._groups, {}
        return tuple(groups[name] for name in sorted(groups))


def _kind(name: str) -> str | None:
    """The kind of a metric; None for a name that this version does not know."""
    metric = METRICS.get(name)
    return metric.kind if metric is not None else None


def _difference(after: HistogramSeries, before: HistogramSeries | None) -> HistogramSeries:
    if before is None or len(before.counts) != len(after.counts):
        return after
    counts = tuple(max(new - old, 0) for new, old in zip(after.counts, before.counts, strict=True))
    return HistogramSeries(after.name, after.labels, counts, max(after.sum - before.sum, 0.0))


def _sum(one: HistogramSeries, other: HistogramSeries | None) -> HistogramSeries:
    if other is None or len(other.counts) != len(one.counts):
        return one
    counts = tuple(min(a + b, MOST_COUNTED) for a, b in zip(one.counts, other.counts, strict=True))
    return HistogramSeries(one.name, one.labels, counts, min(one.sum + other.sum, MOST_COUNTED))

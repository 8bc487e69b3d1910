"""Counts what happens in one process, with plain numbers. No lock, no registry, no I/O.

A meter is handed down to the parts that count (Prometheus' word: a *series* is one metric with one set of label
values). A series is asked for once and kept; counting is then one addition. Everything runs in the event loop's thread.

A gauge is a function that is called when the meter is read: what a role knows of itself anyway is not counted twice.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Final, TypeVar

import msgspec

from pabal.telemetry.table import METRICS, CounterName, GaugeName, HistogramName, Metric

LabelValues = tuple[str, ...]

MOST_SERIES = 2_000
"""Of one metric. Labels are bounded by the configuration; a defect of ours must not fill the memory."""

MOST_COUNTED: Final = 2**53
"""A figure beyond this is no count: a floating-point number counts no further."""


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def add(self, count: int = 1) -> None:
        """Count."""
        self.value += count


class Histogram:
    """How often values fell under each bound; the last count is of what is above all of them."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value. A bound belongs to its bucket (Prometheus' `le`)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class NumberSeries(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One series of a counter or gauge: metric, label values in the table's order, value."""

    name: str
    labels: LabelValues
    value: float


class HistogramSeries(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One series of a histogram: metric, label values, how many values per bucket (not added up), their sum."""

    name: str
    labels: LabelValues
    counts: tuple[Annotated[int, msgspec.Meta(ge=0, le=MOST_COUNTED)], ...]
    sum: float


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a meter has counted since its process began, and what its gauges say now."""

    numbers: tuple[NumberSeries, ...] = ()
    histograms: tuple[HistogramSeries, ...] = ()


Gauge = Callable[[], Mapping[LabelValues, float]]
"""Tells the values of a gauge, by label values."""


class Meter:
    """The figures of one process."""

    def __init__(self) -> None:
        self._counters: dict[tuple[CounterName, LabelValues], Counter] = {}
        self._histograms: dict[tuple[HistogramName, LabelValues], Histogram] = {}
        self._gauges: list[tuple[GaugeName | CounterName, Gauge]] = []

    def counter(self, name: CounterName, *labels: str) -> Counter:
        """The series of a counter, from 0 on. Raises ValueError for label values that the table does not have."""
        found = self._counters.get((name, labels))
        if found is None:
            _check_new(METRICS[name], labels, known=self._counters)
            found = self._counters[name, labels] = Counter()
        return found

    def histogram(self, name: HistogramName, *labels: str) -> Histogram:
        """The series of a histogram. Raises ValueError for label values that the table does not have."""
        found = self._histograms.get((name, labels))
        if found is None:
            _check_new(METRICS[name], labels, known=self._histograms)
            found = self._histograms[name, labels] = Histogram(METRICS[name].buckets)
        return found

    def gauge(self, name: GaugeName | CounterName, read: Gauge) -> None:
        """Call `read` whenever the meter is read. A gauge may have several, each for its own label values.

        A counter whose part counts by itself is read like a gauge.
        """
        self._gauges.append((name, read))

    def read_gauge(self, name: GaugeName) -> Mapping[LabelValues, float]:
        """What one gauge says now."""
        return {labels: value for each, read in self._gauges if each == name for labels, value in read().items()}

    def snapshot(self) -> Snapshot:
        """What was counted, in the table's order."""
        numbers = [NumberSeries(name, labels, counter.value) for (name, labels), counter in self._counters.items()]
        numbers += [
            # A gauge may say True; as JSON that is no number.
            NumberSeries(name, _checked(METRICS[name], labels), float(value))
            for name, read in self._gauges
            for labels, value in read().items()
        ]
        histograms = [
            HistogramSeries(name, labels, tuple(histogram.counts), histogram.sum)
            for (name, labels), histogram in self._histograms.items()
        ]
        return Snapshot(numbers=tuple(_in_order(numbers)), histograms=tuple(_in_order(histograms)))


_PLACES = {name: place for place, name in enumerate(METRICS)}

AnySeries = TypeVar("AnySeries", NumberSeries, HistogramSeries)


def _in_order(series: Iterable[AnySeries]) -> list[AnySeries]:
    return sorted(series, key=lambda each: (_PLACES[each.name], each.labels))


def _check_new(metric: Metric, labels: LabelValues, *, known: Iterable[tuple[str, LabelValues]]) -> None:
    _checked(metric, labels)
    if sum(name == metric.name for name, _ in known) >= MOST_SERIES:
        raise ValueError(f"{metric.name} has {MOST_SERIES} series already: a label of it has no bound")


def _checked(metric: Metric, labels: LabelValues) -> LabelValues:
    if len(labels) != len(metric.labels):
        raise ValueError(f"{metric.name} has the labels {', '.join(metric.labels) or '(none)'}, not {labels}")
    return labels

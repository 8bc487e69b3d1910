"""What a meter counted, in Prometheus' text format or OpenMetrics. The only user of the client library."""

import itertools
from collections.abc import Iterable, Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UnknownMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from pabal.telemetry.meter import HistogramSeries, NumberSeries, Snapshot
from pabal.telemetry.table import METRICS


def expose(snapshot: Snapshot, *, accept: str = "") -> tuple[bytes, str]:
    """The body of an answer and its media type. `accept`: the request's `Accept`, which chooses the format.

    Beside the snapshot: this process's CPU, memory and descriptors, under the names that every client library has.
    """
    encode, media_type = choose_encoder(accept)
    return encode(_Snapshot(snapshot)), media_type


_PROCESS = ProcessCollector(registry=None)


class _Snapshot(Collector):
    """A snapshot as the library collects it. There is no registry: one answer, one snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        """Every metric that has a series, once."""
        for name, numbers in itertools.groupby(self._snapshot.numbers, key=lambda each: each.name):
            yield _of_numbers(name, numbers)
        for name, histograms in itertools.groupby(self._snapshot.histograms, key=lambda each: each.name):
            yield _of_histograms(name, histograms)
        yield from _PROCESS.collect()


def _of_numbers(name: str, series: Iterator[NumberSeries]) -> Metric:
    metric = METRICS[name]
    family: CounterMetricFamily | GaugeMetricFamily | UnknownMetricFamily
    match metric.kind:
        case "counter":
            family = CounterMetricFamily(name, metric.help, labels=metric.labels)
        case "untyped":
            family = UnknownMetricFamily(name, metric.help, labels=metric.labels)
        case _:
            family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for each in series:
        family.add_metric(each.labels, each.value)
    return family


def _of_histograms(name: str, series: Iterator[HistogramSeries]) -> Metric:
    metric = METRICS[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    bounds = [*(str(bound) for bound in metric.buckets), "+Inf"]
    for each in series:
        # The format counts what is at most a bound, so that the buckets are added up.
        added_up = itertools.accumulate(each.counts)
        family.add_metric(each.labels, list(zip(bounds, added_up, strict=True)), sum_value=each.sum)
    return family

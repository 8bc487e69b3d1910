"""The table of metrics, the meter that counts, and what Prometheus' own parsers read of it."""

import re
import subprocess
from collections.abc import Callable, Iterable
from typing import Any, get_args

import msgspec
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from pabal.telemetry.meter import MOST_SERIES, LabelValues, Meter, NumberSeries, Snapshot
from pabal.telemetry.prometheus import expose
from pabal.telemetry.table import METRICS, TABLE, CounterName, GaugeName, HistogramName, Metric
from tests.programs import needs_program

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def every_series() -> Meter:
    """A meter that counted each metric of the table once."""
    meter = Meter()
    for metric in TABLE:
        labels = tuple(f"a-{label}" for label in metric.labels)
        match metric.kind:
            case "counter":
                meter.counter(metric.name, *labels).add(3)  # type: ignore[arg-type]
            case "histogram":
                meter.histogram(metric.name, *labels).observe(0.2)  # type: ignore[arg-type]
            case _:
                meter.gauge(metric.name, lambda labels=labels: {labels: 2.5})  # type: ignore[arg-type, misc]
    return meter


def test_the_types_name_exactly_the_metrics_of_the_table() -> None:
    of_kind: dict[str, set[str]] = {"counter": set(), "gauge": set(), "histogram": set(), "untyped": set()}
    for metric in TABLE:
        of_kind[metric.kind].add(metric.name)

    assert of_kind["counter"] == set(get_args(CounterName))
    assert of_kind["gauge"] | of_kind["untyped"] == set(get_args(GaugeName))
    assert of_kind["histogram"] == set(get_args(HistogramName))
    assert len(METRICS) == len(TABLE)


@pytest.mark.parametrize("metric", TABLE, ids=[metric.name for metric in TABLE])
def test_a_metric_keeps_the_rules_of_names(metric: Metric) -> None:
    assert re.fullmatch(r"(kafka|pabal)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert bool(metric.buckets) == (metric.kind == "histogram")
    assert list(metric.buckets) == sorted(metric.buckets)
    assert metric.help.endswith(".")
    unbounded = {"tenant", "host", "recipient", "address", "delivery", "url", "instance"}
    assert not unbounded & set(metric.labels)


def test_a_series_is_asked_for_once_and_counts_on() -> None:
    meter = Meter()
    meter.counter("pabal_accepted_total", "email", "bulk").add()
    meter.counter("pabal_accepted_total", "email", "bulk").add(4)
    meter.counter("pabal_accepted_total", "email", "critical").add()

    assert meter.snapshot().numbers == (
        NumberSeries("pabal_accepted_total", ("email", "bulk"), 5),
        NumberSeries("pabal_accepted_total", ("email", "critical"), 1),
    )


def test_a_histogram_puts_a_bound_into_its_own_bucket() -> None:
    meter = Meter()
    append = meter.histogram("pabal_append_duration_seconds")
    for seconds in (0.001, 0.0011, 5.0, 7.0):
        append.observe(seconds)

    [series] = meter.snapshot().histograms

    assert (series.name, series.counts) == ("pabal_append_duration_seconds", (1, 1, *[0] * 9, 1, 1))
    assert series.sum == pytest.approx(12.0021)


def test_a_gauge_is_asked_when_somebody_looks() -> None:
    meter = Meter()
    held: dict[LabelValues, float] = {("email", "bulk", "guard"): 0.0}
    meter.gauge("pabal_intake_held", lambda: held)
    meter.gauge("pabal_intake_held", lambda: {("email", "critical", "guard"): 0.0})
    held["email", "bulk", "guard"] = 1.0

    assert [each.value for each in meter.snapshot().numbers] == [1.0, 0.0]


def test_a_gauge_that_says_yes_is_told_as_a_number() -> None:
    meter = Meter()
    meter.gauge("pabal_provider_open", lambda: {("email", "smtp"): True})

    told = msgspec.json.decode(msgspec.json.encode(meter.snapshot()), type=Snapshot)

    assert [each.value for each in told.numbers] == [1.0]


def test_wrong_label_values_and_a_label_without_bound_are_refused() -> None:
    meter = Meter()
    with pytest.raises(ValueError, match=r"pabal_retries_total has the labels channel, class, not \('email',\)"):
        meter.counter("pabal_retries_total", "email")
    for number in range(MOST_SERIES):
        meter.counter("pabal_dead_letters_total", "email", str(number))

    with pytest.raises(ValueError, match="a label of it has no bound"):
        meter.counter("pabal_dead_letters_total", "email", "one more")


@pytest.mark.parametrize(("accept", "read"), [("", read_text), (OPENMETRICS, read_openmetrics)])
def test_both_formats_are_read_back_as_they_were_counted(accept: str, read: Callable[[str], Iterable[Any]]) -> None:
    body, media_type = expose(every_series().snapshot(), accept=accept)

    families = {family.name: family for family in read(body.decode())}

    assert media_type.partition(";")[0] == (accept.partition(";")[0] or "text/plain")
    for metric in TABLE:
        family = families[metric.name.removesuffix("_total")]
        samples = {sample.name: sample for sample in family.samples}
        if metric.kind == "histogram":
            assert samples[f"{metric.name}_count"].value == 1
            assert samples[f"{metric.name}_sum"].value == pytest.approx(0.2)
        else:
            assert samples[metric.name].value == (3 if metric.kind == "counter" else 2.5)
            assert samples[metric.name].labels == {label: f"a-{label}" for label in metric.labels}


def test_promtool_finds_nothing_to_say() -> None:
    """`promtool check metrics` comes with Debian's package `prometheus`."""
    promtool = needs_program("promtool", package="prometheus")
    body, _ = expose(every_series().snapshot())

    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, timeout=60, check=False)

    assert checked.stdout + checked.stderr == b""
    assert checked.returncode == 0

"""One trace, from the request to the provider's call, over a failed attempt: as a collector receives it."""

import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pabal.simulator import HttpBehaviour
from tests.flow.installation import Installation
from tests.tracing.collector import Collector, attribute

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": "rojo=1,congo=t61rcWkgMzE"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    async with Collector.running() as collector:
        # OpenTelemetry reads the process's own environment, and nothing else.
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


async def send_at_the_second_attempt(
    pabal: Installation, *, trace: Mapping[str, str]
) -> tuple[str, list[dict[str, str]]]:
    """Returns the delivery's id, and the traces that the two calls carried."""
    await pabal.simulator.behave(HttpBehaviour(status=503))
    delivery = await pabal.ask_webhook(trace=trace)
    await pabal.until_told(delivery["id"], "deferred")
    await pabal.simulator.behave()
    await pabal.until_told(delivery["id"], "sent")
    carried = [
        {name: value for name, value in request.headers.items() if name in CALLER}
        for request in pabal.simulator.requests()
    ]
    return delivery["id"], carried


def by_attempt(spans: list[Span], *, delivery: str) -> tuple[Span, Span, Span]:
    [accept] = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    calls = [span for span in spans if span.kind == Span.SPAN_KIND_CONSUMER]
    first, second = sorted(
        # On a log that other tests have used, what they left there is called as well.
        (span for span in calls if attribute(span, "pabal.delivery.id") == delivery),
        key=lambda span: int(attribute(span, "pabal.attempt")),
    )
    return accept, first, second


@pytest.mark.parametrize("trace", [CALLER, {}])
async def test_request_failed_call_and_retry_are_one_trace(
    log_url: str, collector: Collector, trace: Mapping[str, str]
) -> None:
    async with Installation.running(log_url, environment=os.environ) as pabal:
        delivery, carried = await send_at_the_second_attempt(pabal, trace=trace)

    accept, first, second = by_attempt(collector.spans, delivery=delivery)
    assert collector.services == {"pabal"}
    assert accept.trace_id == first.trace_id == second.trace_id
    assert accept.parent_span_id == (bytes.fromhex("00f067aa0ba902b7") if trace else b"")
    assert not trace or accept.trace_id == bytes.fromhex(TRACE)
    assert first.parent_span_id == second.parent_span_id == accept.span_id
    assert [attribute(span, "pabal.outcome") for span in (first, second)] == ["deferred", "accepted"]
    assert [(link.trace_id, link.span_id) for link in second.links] == [(first.trace_id, first.span_id)]
    assert [*first.links] == []
    flags = carried[0]["traceparent"][-2:]
    assert [each["traceparent"] for each in carried] == [
        f"00-{span.trace_id.hex()}-{span.span_id.hex()}-{flags}" for span in (first, second)
    ]
    assert {each.get("tracestate") for each in carried} == {trace.get("tracestate")}
    assert {span.trace_state for span in (accept, first, second)} == {trace.get("tracestate", "")}


async def test_where_nobody_traces_every_call_carries_what_the_caller_sent(log_url: str) -> None:
    async with Installation.running(log_url) as pabal:
        _, carried = await send_at_the_second_attempt(pabal, trace=CALLER)

    assert carried == [CALLER, CALLER]


async def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")

    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", environment=os.environ) as pabal:
        delivery = await pabal.ask_webhook()
        events = await pabal.until_told(delivery["id"], "sent")

    assert [event.kind for event in events] == ["sent"]

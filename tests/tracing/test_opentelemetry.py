"""Spans as OpenTelemetry exports them."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from pabal.broker.port import Record
from pabal.notification import Delivery
from pabal.outcome import Accepted, Deferred, Outcome
from pabal.tracing.context import NO_TRACE, Trace, TraceContext
from pabal.tracing.opentelemetry import OpenTelemetryTracing
from pabal.tracing.port import SendSpan, Tracing

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = CALLER[:-1] + "0"
ORIGIN = Record(topic="pabal.deliveries.webhook.bulk", partition=1, offset=7, timestamp=0.0, key=b"k", value=b"v")


class Lab:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing: Tracing = OpenTelemetryTracing([SimpleSpanProcessor(self.exporter)], log="kafka")

    def spans(self) -> list[ReadableSpan]:
        return [*self.exporter.get_finished_spans()]

    def send(self, delivery: Delivery, *, attempt: int = 1) -> SendSpan:
        return self.tracing.send(delivery, attempt=attempt, provider="hooks", origin=ORIGIN, group="g")


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    return Lab()


def a_delivery(**changes: object) -> Delivery:
    delivery = Delivery(
        id=UUID("f6c1e2a4-8d0b-5b8e-9c53-0d2b6a1f7e11"),
        notification_id=UUID("0e2a1c34-5b6d-5f70-8a9b-1c2d3e4f5a6b"),
        tenant="shop",
        channel="webhook",
        address="https://hooks.example.com/secret-path",
        class_="bulk",
        accepted_at=NOW,
        expires_at=NOW + timedelta(days=1),
    )
    return msgspec.structs.replace(delivery, **changes)


def ids(traceparent: str) -> TraceContext:
    context = TraceContext.read(traceparent)
    assert context is not None
    return context


def test_without_a_callers_trace_one_begins_with_the_request(lab: Lab) -> None:
    span = lab.tracing.accept("/v1/notifications", trace=NO_TRACE)
    span.end(status=202)

    [told] = lab.spans()
    assert told.parent is None
    assert told.kind is SpanKind.SERVER
    assert (told.name, dict(told.attributes or {})) == (
        "POST /v1/notifications",
        {"http.request.method": "POST", "http.route": "/v1/notifications", "http.response.status_code": 202},
    )
    assert told.context is not None
    assert ids(span.traceparent).span_id == told.context.span_id


def test_a_callers_trace_is_continued(lab: Lab) -> None:
    span = lab.tracing.accept("/v1/notifications", trace=Trace(CALLER))
    span.end(status=202)

    [told] = lab.spans()
    assert told.parent is not None
    assert (told.parent.trace_id, told.parent.span_id) == ids(CALLER)[:2]
    assert ids(span.traceparent).trace_id == ids(CALLER).trace_id


def test_the_callers_tracestate_goes_through_request_and_call(lab: Lab) -> None:
    accept = lab.tracing.accept("/v1/notifications", trace=Trace(CALLER, "rojo=1,congo=t61rcWkgMzE"))
    accept.end(status=202)
    send = lab.send(a_delivery(traceparent=accept.traceparent, tracestate=accept.tracestate))
    send.end(Accepted())

    assert accept.tracestate == send.tracestate == "rojo=1,congo=t61rcWkgMzE"
    for told in lab.spans():
        assert told.context is not None
        assert told.context.trace_state.to_header() == "rojo=1,congo=t61rcWkgMzE"


def test_without_a_tracestate_none_is_made(lab: Lab) -> None:
    accept = lab.tracing.accept("/v1/notifications", trace=Trace(CALLER))
    send = lab.send(a_delivery(traceparent=accept.traceparent))

    assert accept.tracestate is send.tracestate is None


@pytest.mark.parametrize(("status", "is_error"), [(202, False), (422, False), (503, True), (None, True)])
def test_a_request_is_an_error_when_it_is_ours(lab: Lab, status: int | None, is_error: bool) -> None:
    lab.tracing.accept("/v1/notifications", trace=NO_TRACE).end(status=status)

    [told] = lab.spans()
    assert not told.status.is_ok if is_error else told.status.is_unset


def test_each_call_is_below_the_request_and_points_to_the_call_before_it(lab: Lab) -> None:
    accept = lab.tracing.accept("/v1/notifications", trace=NO_TRACE)
    accept.end(status=202)
    delivery = a_delivery(traceparent=accept.traceparent)

    # Two workers, of which neither knows what the other did.
    lab.send(delivery, attempt=1).end(Deferred(reason="the endpoint answered 503"))
    other = Lab()
    other.send(delivery, attempt=2).end(Accepted())

    [accepted, first], [second] = lab.spans(), other.spans()
    assert accepted.context is not None
    assert first.context is not None
    assert second.context is not None
    assert {accepted.context.trace_id} == {first.context.trace_id} == {second.context.trace_id}
    for sent in (first, second):
        assert sent.parent is not None
        assert sent.parent.span_id == accepted.context.span_id
    assert [link.context.span_id for link in first.links] == []
    assert [link.context.span_id for link in second.links] == [first.context.span_id]
    assert second.links[0].context.trace_id == first.context.trace_id


def test_a_call_says_what_is_called_and_what_came_of_it(lab: Lab) -> None:
    span = lab.send(a_delivery(traceparent=CALLER), attempt=3)
    span.end(Accepted())

    [told] = lab.spans()
    assert told.kind is SpanKind.CONSUMER
    assert told.name == "process pabal.deliveries.webhook.bulk"
    assert dict(told.attributes or {}) == {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "pabal.deliveries.webhook.bulk",
        "messaging.destination.partition.id": "1",
        "messaging.consumer.group.name": "g",
        "messaging.kafka.offset": 7,
        "pabal.delivery.id": "f6c1e2a4-8d0b-5b8e-9c53-0d2b6a1f7e11",
        "pabal.notification.id": "0e2a1c34-5b6d-5f70-8a9b-1c2d3e4f5a6b",
        "pabal.tenant": "shop",
        "pabal.channel": "webhook",
        "pabal.class": "bulk",
        "pabal.provider": "hooks",
        "pabal.attempt": 3,
        "pabal.outcome": "accepted",
    }
    assert told.context is not None
    assert ids(span.traceparent)[:2] == (told.context.trace_id, told.context.span_id)


@pytest.mark.parametrize(
    ("outcome", "word"), [(Deferred(reason="ana@example.com is over quota"), "deferred"), (None, "given_up")]
)
def test_a_call_that_was_not_taken_is_an_error_without_words_of_others(
    lab: Lab, outcome: Outcome | None, word: str
) -> None:
    lab.send(a_delivery()).end(outcome)

    [told] = lab.spans()
    attributes = dict(told.attributes or {})
    assert not told.status.is_ok
    assert attributes["pabal.outcome"] == attributes["error.type"] == word
    assert "example.com" not in told.to_json()


def test_what_was_accepted_without_tracing_has_a_trace_named_by_the_delivery(lab: Lab) -> None:
    delivery = a_delivery()

    lab.send(delivery, attempt=1).end(Deferred(reason="503"))
    lab.send(delivery, attempt=2).end(Accepted())

    first, second = lab.spans()
    assert first.context is not None
    assert second.context is not None
    assert first.context.trace_id == second.context.trace_id == delivery.id.int
    assert second.links[0].context.span_id == first.context.span_id


def test_what_its_caller_does_not_sample_is_not_exported_and_stays_so(lab: Lab) -> None:
    accept = lab.tracing.accept("/v1/notifications", trace=Trace(UNSAMPLED))
    accept.end(status=202)
    send = lab.send(a_delivery(traceparent=accept.traceparent))
    send.end(Accepted())

    assert lab.spans() == []
    assert ids(send.traceparent).trace_id == ids(UNSAMPLED).trace_id
    assert ids(send.traceparent).flags & 1 == 0


def test_chosen_ids_are_those_of_one_span(lab: Lab) -> None:
    lab.send(a_delivery()).end(Accepted())
    lab.tracing.accept("/v1/notifications", trace=NO_TRACE).end(status=202)

    sent, accepted = lab.spans()
    assert sent.context is not None
    assert accepted.context is not None
    assert sent.context.trace_id != accepted.context.trace_id
    assert sent.context.span_id != accepted.context.span_id


def test_the_environment_names_the_service_and_we_do_where_it_does_not(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "notifications")
    named = Lab()

    for each in (lab, named):
        each.send(a_delivery()).end(Accepted())

    [ours], [theirs] = lab.spans(), named.spans()
    assert ours.resource.attributes["service.name"] == "pabal"
    assert ours.resource.attributes["deployment.environment.name"] == "test"
    assert theirs.resource.attributes["service.name"] == "notifications"


async def test_a_collector_that_never_answers_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.tracing.opentelemetry._CLOSE_SECONDS", 0.1)
    asked, over, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await over.wait()
        writer.close()
        await writer.wait_closed()
        closed.set()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "5")
    tracing = OpenTelemetryTracing.exporting(["otlp"], log="kafka")
    tracing.accept("/v1/notifications", trace=NO_TRACE).end(status=202)

    closing = asyncio.create_task(tracing.close())
    await asyncio.wait_for(asked.wait(), 10.0)
    await asyncio.wait([closing], timeout=4.0)

    assert closing.done()
    server.close()
    over.set()
    await closed.wait()

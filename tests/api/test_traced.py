"""Which trace the deliveries of a request belong to."""

from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pabal.api.traced import TracedEndpoint, traced
from pabal.notification import Delivery
from pabal.tracing.opentelemetry import OpenTelemetryTracing
from tests.api.lab import Lab

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASKED = {
    "to": [
        {"channel": "webhook", "address": "https://example.com/1"},
        {"channel": "email", "address": "a@example.com"},
    ],
    "content": {"title": "Hello", "body": "World"},
}


def traces(deliveries: Sequence[Delivery]) -> list[str | None]:
    return [delivery.traceparent for delivery in deliveries]


def states(deliveries: Sequence[Delivery]) -> list[str | None]:
    return [delivery.tracestate for delivery in deliveries]


@pytest.mark.parametrize(("path", "body"), [("", ASKED), ("/batch", {"notifications": [ASKED]})])
async def test_every_delivery_carries_the_callers_trace(path: str, body: object) -> None:
    lab = Lab()

    reply = await lab.post(body, path=f"/v1/notifications{path}", headers=[("traceparent", TRACE)])

    assert reply.status == 202
    assert traces(lab.log.deliveries) == [TRACE, TRACE]


STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"


@pytest.mark.parametrize(("path", "body"), [("", ASKED), ("/batch", {"notifications": [ASKED]})])
async def test_the_callers_tracestate_goes_with_it(path: str, body: object) -> None:
    lab = Lab()

    await lab.post(body, path=f"/v1/notifications{path}", headers=[("traceparent", TRACE), ("tracestate", STATE)])

    assert states(lab.log.deliveries) == [STATE, STATE]


async def test_several_tracestate_fields_are_one_list() -> None:
    lab = Lab()

    await lab.post(ASKED, headers=[("tracestate", "a=1"), ("traceparent", TRACE), ("tracestate", " b=2,c=3")])

    assert states(lab.log.deliveries) == ["a=1,b=2,c=3"] * 2


@pytest.mark.parametrize(
    ("headers", "traceparent"),
    [
        ([("tracestate", STATE)], None),
        ([("traceparent", TRACE.upper()), ("tracestate", STATE)], None),
        ([("traceparent", TRACE), ("tracestate", "no list")], TRACE),
        ([("traceparent", TRACE), ("tracestate", "")], TRACE),
        ([("traceparent", TRACE), ("tracestate", "a=é")], TRACE),
    ],
)
async def test_a_tracestate_that_is_malformed_or_alone_is_none_and_leaves_the_trace_as_it_is(
    headers: list[tuple[str, str]], traceparent: str | None
) -> None:
    lab = Lab()

    reply = await lab.post(ASKED, headers=headers)

    assert reply.status == 202
    assert traces(lab.log.deliveries) == [traceparent] * 2
    assert states(lab.log.deliveries) == [None, None]


async def test_white_space_around_it_does_not_matter() -> None:
    lab = Lab()

    await lab.post(ASKED, headers=[("traceparent", f" {TRACE}\t")])

    assert traces(lab.log.deliveries) == [TRACE, TRACE]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "")],
        [("traceparent", TRACE.upper())],
        [("traceparent", "00-é")],
        [("traceparent", TRACE), ("traceparent", TRACE)],
    ],
)
async def test_a_trace_that_is_missing_malformed_or_given_twice_is_none(headers: list[tuple[str, str]]) -> None:
    lab = Lab()

    reply = await lab.post(ASKED, headers=headers)

    assert reply.status == 202
    assert traces(lab.log.deliveries) == [None, None]


class Called:
    """Calls an endpoint in an installation that traces; keeps the spans, and the headers that the endpoint saw."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = OpenTelemetryTracing([SimpleSpanProcessor(self._exporter)], log="kafka")

    async def call(self, endpoint: ASGIApp, *headers: tuple[bytes, bytes]) -> None:
        async def receive() -> Message:
            return {"type": "http.request"}

        async def send(message: Message) -> None:
            del message

        around = TracedEndpoint(endpoint, route="/v1/notifications", tracing=self.tracing)
        await around({"type": "http", "headers": [*headers]}, receive, send)

    @property
    def span(self) -> ReadableSpan:
        [span] = self._exporter.get_finished_spans()
        return span


async def test_the_endpoint_sees_the_requests_span_in_the_place_of_the_callers() -> None:
    called = Called()
    seen: list[list[tuple[bytes, bytes]]] = []

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        del receive
        seen.append(scope["headers"])
        await send({"type": "http.response.start", "status": 202, "headers": []})

    await called.call(endpoint, (b"accept", b"*/*"), (b"traceparent", TRACE.encode()), (b"tracestate", STATE.encode()))

    [[accept, traceparent, tracestate]] = seen
    context = called.span.context
    assert context is not None
    assert accept == (b"accept", b"*/*")
    assert traceparent == (b"traceparent", f"00-{context.trace_id:032x}-{context.span_id:016x}-01".encode())
    assert f"{context.trace_id:032x}" in TRACE
    assert tracestate == (b"tracestate", STATE.encode())
    assert (called.span.attributes or {})["http.response.status_code"] == 202


async def test_a_request_that_ends_in_a_defect_ends_its_span() -> None:
    called = Called()

    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await called.call(endpoint)

    assert (called.span.attributes or {})["error.type"] == "no_answer"


def test_where_nobody_traces_there_is_nothing_around_the_endpoint() -> None:
    async def endpoint(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError

    assert traced(endpoint, route="/", tracing=None) is endpoint

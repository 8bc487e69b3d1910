"""Tracing by OpenTelemetry: the only module that imports it.

Its own variables hold: `OTEL_EXPORTER_OTLP_*`, `OTEL_TRACES_SAMPLER`, `OTEL_BSP_*`, `OTEL_SERVICE_NAME`,
`OTEL_RESOURCE_ATTRIBUTES`. Attributes follow its semantic conventions for HTTP and messaging; what is ours is named
`pabal.*`. None holds an address or a content.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Sequence
from uuid import UUID

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from pabal import __version__
from pabal.broker.port import Record
from pabal.notification import Delivery
from pabal.outcome import Accepted, Outcome
from pabal.tracing.context import Trace, TraceContext
from pabal.tracing.environment import Exporter

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 3.0
"""How long a process that ends waits for a collector that does not answer."""


class OpenTelemetryTracing:
    """See `Tracing`. Touches nothing global: a program that Pabal is a part of keeps its own provider."""

    def __init__(self, processors: Sequence[SpanProcessor], *, log: str) -> None:
        """`processors`: where ended spans go. `log`: what the conventions call the log (`messaging.system`)."""
        self._log = log
        self._ids = _Ids()
        ours = Resource.create({SERVICE_NAME: "pabal", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(
            resource=ours.merge(OTELResourceDetector().detect()), id_generator=self._ids, shutdown_on_exit=False
        )
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("pabal", __version__)

    @classmethod
    def exporting(cls, exporters: Sequence[Exporter], *, log: str) -> "OpenTelemetryTracing":
        """Spans go to these exporters in batches, from a thread of their own."""
        made = [OTLPSpanExporter() if exporter == "otlp" else ConsoleSpanExporter() for exporter in exporters]
        return cls([BatchSpanProcessor(exporter) for exporter in made], log=log)

    def accept(self, route: str, *, trace: Trace) -> "OpenTelemetryAcceptSpan":
        """See `Tracing.accept`."""
        caller = TraceContext.read(trace.traceparent or "")
        attributes = {"http.request.method": "POST", "http.route": route}
        return OpenTelemetryAcceptSpan(
            self._tracer.start_span(
                f"POST {route}",
                context=_below(caller, tracestate=trace.tracestate),
                kind=SpanKind.SERVER,
                attributes=attributes,
            )
        )

    def send(
        self, delivery: Delivery, *, attempt: int, provider: str, origin: Record, group: str
    ) -> "OpenTelemetrySendSpan":
        """See `Tracing.send`. A delivery that was accepted without tracing gets a trace named by its own id."""
        parent = TraceContext.read(delivery.traceparent or "")
        trace_id = parent.trace_id if parent else delivery.id.int
        former = SpanContext(
            trace_id,
            _span_id(delivery.id, attempt - 1),
            is_remote=True,
            trace_flags=TraceFlags(parent.flags if parent else TraceFlags.SAMPLED),
        )
        self._ids.choose(trace_id=trace_id, span_id=_span_id(delivery.id, attempt))
        return OpenTelemetrySendSpan(
            self._tracer.start_span(
                f"process {origin.topic}",
                context=_below(parent, tracestate=delivery.tracestate),
                kind=SpanKind.CONSUMER,
                links=[Link(former)] if attempt > 1 else [],
                attributes={
                    "messaging.system": self._log,
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.destination.name": origin.topic,
                    "messaging.destination.partition.id": str(origin.partition),
                    "messaging.consumer.group.name": group,
                    "messaging.kafka.offset": origin.offset,
                    "pabal.delivery.id": str(delivery.id),
                    "pabal.notification.id": str(delivery.notification_id),
                    "pabal.tenant": delivery.tenant,
                    "pabal.channel": delivery.channel,
                    "pabal.class": delivery.class_,
                    "pabal.provider": provider,
                    "pabal.attempt": attempt,
                },
            )
        )

    async def close(self) -> None:
        """See `Tracing.close`."""
        # A thread that ends with the process: the SDK waits up to 30 s for a collector, a stop must not.
        closing = threading.Thread(target=self._provider.shutdown, name="pabal-tracing-close", daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, _CLOSE_SECONDS)
        if closing.is_alive():
            logger.warning("the last spans were not exported within %.0f s", _CLOSE_SECONDS)


class OpenTelemetryAcceptSpan:
    """See `AcceptSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.traceparent, self.tracestate = _context_of(span)

    def end(self, *, status: int | None) -> None:
        """See `AcceptSpan.end`. A 4xx is the caller's error, not ours (conventions for HTTP servers)."""
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            self._span.set_attribute("error.type", "no_answer" if status is None else str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class OpenTelemetrySendSpan:
    """See `SendSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.traceparent, self.tracestate = _context_of(span)

    def end(self, outcome: Outcome | None) -> None:
        """See `SendSpan.end`. The reason is left to the delivery's event: it may quote an address."""
        word = "given_up" if outcome is None else type(outcome).__name__.lower()
        self._span.set_attribute("pabal.outcome", word)
        if not isinstance(outcome, Accepted):
            self._span.set_attribute("error.type", word)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


class _Ids(RandomIdGenerator):
    """Random ids, but for those of the next span when they were chosen. One thread starts spans: the event loop's."""

    def __init__(self) -> None:
        self._trace_id: int | None = None
        self._span_id: int | None = None

    def choose(self, *, trace_id: int, span_id: int) -> None:
        """Ids of the span that is started right after this; the trace's only if that span is its first."""
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        """Called before the span's own id is asked for, and only for a span without a parent."""
        return self._trace_id or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """The last thing asked of each span."""
        span_id, self._trace_id, self._span_id = self._span_id, None, None
        return span_id or super().generate_span_id()


def _span_id(delivery: UUID, attempt: int) -> int:
    """The id of the span of one attempt: the same wherever it is asked for, so that the next can link to it."""
    digest = hashlib.sha256(b"span:%s:%d" % (delivery.bytes, attempt)).digest()
    return int.from_bytes(digest[:8]) or 1


def _below(parent: TraceContext | None, *, tracestate: str | None) -> Context:
    """Where a span stands: below its parent, or at the top of a trace (never below what happens to be current)."""
    if parent is None:
        return Context()
    above = SpanContext(
        parent.trace_id,
        parent.span_id,
        is_remote=True,
        trace_flags=TraceFlags(parent.flags),
        trace_state=TraceState.from_header([tracestate]) if tracestate else None,
    )
    return set_span_in_context(NonRecordingSpan(above), Context())


def _context_of(span: Span) -> tuple[str, str | None]:
    """What follows the span carries. Samplers hand on the parent's state, and may add to it."""
    context = span.get_span_context()
    traceparent = str(TraceContext(context.trace_id, context.span_id, context.trace_flags))
    return traceparent, context.trace_state.to_header() or None

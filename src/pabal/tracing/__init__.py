"""Traces: one OpenTelemetry trace from the caller's request to the provider's call, across retries.

Overview. A request that is accepted gets a span (`accept`); its context travels as `traceparent` (W3C Trace Context)
in every record of the deliveries it made. Each call of a provider gets a span of its own, a child of `accept`, with a
link to the call before it. The outgoing request carries the context of its own span.

State. None. The id of a call's span is derived from delivery and attempt, so that the next attempt can point to it,
in another process, after a crash, after a redrive, without anyone having passed it on.

Off by default. Roles are handed a `Tracing` or None; only `opentelemetry.py` imports OpenTelemetry, and only an
exporter in the environment makes `compose/parts.py` import it. Without it the caller's `traceparent` goes on unchanged.
"""

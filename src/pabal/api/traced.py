"""The trace that a request belongs to, and a span around the endpoint where the installation traces."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pabal.api.asgi import Head, count_fields, read_head
from pabal.tracing.context import NO_TRACE, Trace
from pabal.tracing.port import Tracing

_TRACEPARENT = b"traceparent"
_TRACESTATE = b"tracestate"


def traced(endpoint: ASGIApp, *, route: str, tracing: Tracing | None) -> ASGIApp:
    """The endpoint, inside a span where the installation traces."""
    return endpoint if tracing is None else TracedEndpoint(endpoint, route=route, tracing=tracing)


class TracedEndpoint:
    """Runs an endpoint inside a span, which takes the caller's place in the request's trace."""

    def __init__(self, endpoint: ASGIApp, *, route: str, tracing: Tracing) -> None:
        self._endpoint = endpoint
        self._route = route
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        status: int | None = None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        span = self._tracing.accept(self._route, trace=caller_trace(scope, read_head(scope)))
        fields = [field for field in scope["headers"] if field[0] not in (_TRACEPARENT, _TRACESTATE)]
        fields.append((_TRACEPARENT, span.traceparent.encode("ascii")))
        if span.tracestate is not None:
            fields.append((_TRACESTATE, span.tracestate.encode("ascii")))
        traced = {**scope, "headers": fields}
        try:
            await self._endpoint(traced, receive, sending)
        finally:
            span.end(status=status)


def caller_trace(scope: Scope, head: Head) -> Trace:
    """The trace that a request belongs to. `NO_TRACE`: the request names no trace, several, or a malformed one."""
    given = head.get(_TRACEPARENT)
    if given is None or count_fields(scope, _TRACEPARENT) != 1:
        return NO_TRACE
    # Of a list, several fields are one (RFC 9110 §5.3).
    states = b",".join(value for name, value in scope["headers"] if name == _TRACESTATE)
    # Some servers leave white space around a field's value (RFC 9110 §5.5).
    return Trace.read(given.strip(b" \t").decode("latin-1"), states.decode("latin-1"))

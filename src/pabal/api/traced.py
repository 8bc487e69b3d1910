"""A request's trace: which one it belongs to, and a span around the endpoint where the installation traces."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pabal.api.asgi import Head, count_fields, read_head
from pabal.tracing.context import read_traceparent
from pabal.tracing.port import Tracing

_TRACEPARENT = b"traceparent"


def traced(endpoint: ASGIApp, *, route: str, tracing: Tracing | None) -> ASGIApp:
    """The endpoint, inside a span where the installation traces."""
    return endpoint if tracing is None else TracedEndpoint(endpoint, route=route, tracing=tracing)


class TracedEndpoint:
    """Runs an endpoint inside a span, which takes the caller's place in the request's `traceparent`."""

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

        span = self._tracing.accept(self._route, traceparent=caller_traceparent(scope, read_head(scope)))
        others = [field for field in scope["headers"] if field[0] != _TRACEPARENT]
        traced = {**scope, "headers": [*others, (_TRACEPARENT, span.traceparent.encode("ascii"))]}
        try:
            await self._endpoint(traced, receive, sending)
        finally:
            span.end(status=status)


def caller_traceparent(scope: Scope, head: Head) -> str | None:
    """The trace a request belongs to; None when it says none, none that can be read, or several (they cancel out)."""
    given = head.get(_TRACEPARENT)
    if given is None or count_fields(scope, _TRACEPARENT) != 1:
        return None
    # Some servers leave white space around a field's value (RFC 9110 §5.5).
    return read_traceparent(given.strip(b" \t").decode("latin-1"))

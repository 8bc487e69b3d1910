"""What roles know of tracing: a span around each accepted request, and one around each call of a provider.

A role that is handed no `Tracing` (None) does not trace. Belongs to one event loop; spans may overlap and end in any
order. Nothing here waits, fails, or holds anything up: what cannot be exported is dropped.
"""

from typing import Protocol

from pabal.broker.port import Record
from pabal.notification import Delivery
from pabal.outcome import Outcome
from pabal.tracing.context import Trace


class AcceptSpan(Protocol):
    """A request that is being answered."""

    traceparent: str
    """What the deliveries it makes carry."""

    tracestate: str | None
    """What they carry with it."""

    def end(self, *, status: int | None) -> None:
        """It was answered with this HTTP status; None: it was not answered."""
        ...


class SendSpan(Protocol):
    """A call that is under way."""

    traceparent: str
    """What the call itself carries."""

    tracestate: str | None
    """What it carries with it."""

    def end(self, outcome: Outcome | None) -> None:
        """It came to this; None: it was given up before it came to anything."""
        ...


class Tracing(Protocol):
    """Begins spans."""

    def accept(self, route: str, *, trace: Trace) -> AcceptSpan:
        """A request begins; `trace` is the caller's, if it sent a good one. Without a `traceparent` one begins here."""
        ...

    def send(self, delivery: Delivery, *, attempt: int, provider: str, origin: Record, group: str) -> SendSpan:
        """A call begins: `attempt` of `delivery`, which was read from `origin` by a member of `group`."""
        ...

    async def close(self) -> None:
        """Export what has ended, within a few seconds, and let go."""
        ...

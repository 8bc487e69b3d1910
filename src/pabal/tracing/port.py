"""What roles know of tracing: a span around each accepted request, and one around each call of a provider.

A role that is handed no `Tracing` (None) does not trace. Belongs to one event loop; spans may overlap and end in any
order. Nothing here waits, fails, or holds anything up: what cannot be exported is dropped.
"""

from typing import Protocol

from pabal.broker.port import Record
from pabal.notification import Delivery
from pabal.outcome import Outcome


class AcceptSpan(Protocol):
    """A request that is being answered."""

    traceparent: str
    """What the deliveries it makes carry."""

    def end(self, *, status: int | None) -> None:
        """It was answered with this HTTP status; None: it was not answered."""
        ...


class SendSpan(Protocol):
    """A call that is under way."""

    traceparent: str
    """What the call itself carries."""

    def end(self, outcome: Outcome | None) -> None:
        """It came to this; None: it was given up before it came to anything."""
        ...


class Tracing(Protocol):
    """Begins spans."""

    def accept(self, route: str, *, traceparent: str | None) -> AcceptSpan:
        """A request begins; `traceparent` is the caller's, if it sent a good one. Else a trace begins here."""
        ...

    def send(self, delivery: Delivery, *, attempt: int, provider: str, origin: Record, group: str) -> SendSpan:
        """A call begins: `attempt` of `delivery`, which was read from `origin` by a member of `group`."""
        ...

    async def close(self) -> None:
        """Export what has ended, within a few seconds, and let go."""
        ...

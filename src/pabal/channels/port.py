"""What a medium can carry: which addresses it knows, what it says, and what it keeps in order. Pure."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from pabal.notification import Content, Delivery


class Rendered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a provider hands over: a body, and the head fields its medium has (an e-mail's subject).

    `body` is the medium's main text (JSON text for webhooks), `html` an alternative where the medium has one.
    `traceparent` is the trace that the call belongs to (W3C Trace Context), for media that can say so; `tracestate`
    goes with it, if there is one.
    """

    body: str
    subject: str | None = None
    html: str | None = None
    headers: Mapping[str, str] = {}
    traceparent: str | None = None
    tracestate: str | None = None


class Channel(Protocol):
    """One medium."""

    name: str

    def canonical(self, address: str) -> str:
        """The one spelling of an address that ids and suppressions use. Raises InvalidAddress saying why."""
        ...

    def order_key(self, address: str) -> str | None:
        """The default order key of a canonical address; None: no order (one address is a whole system)."""
        ...

    def check(self, content: Content) -> str | None:
        """Why this content cannot be sent on this channel (it has neither text nor data, …), or None."""
        ...

    def render(self, delivery: Delivery, content: Content) -> Rendered:
        """What to hand to the provider. `content` is the delivery's own or its template's."""
        ...

"""What a medium can carry: which addresses it knows, what it says, and what it keeps in order. Pure."""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from pabal.channels.part import ContentPart
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
    """One medium. Every method is pure and quick: it is called in an event loop, for each delivery.

    Third parties add a channel by an entry point in the group `pabal.channels`: its name, and a callable without
    arguments that makes it. `pabal.testing.ChannelContract` says what it must keep.
    """

    name: str
    """Its word in requests, topics and the configuration: lower-case letters and digits, the entry point's name."""

    default_provider: str
    """The provider that carries it, where the configuration names none."""

    default_concurrency: int
    """How many calls may be under way at once in one worker, where the configuration says nothing."""

    @property
    def part(self) -> ContentPart | None:
        """What it alone says, beside the generic parts of a content; None: nothing."""
        ...

    def canonical(self, address: str) -> str:
        """The one spelling of an address, which ids are made from. Raises InvalidAddress saying why."""
        ...

    def suppressed_as(self, address: str) -> str:
        """What a canonical address is suppressed as. Addresses that reach one recipient have one such spelling."""
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

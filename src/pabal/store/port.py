"""The store tells what happened: a projection of the log.

The recorder folds records into it; every other role only reads. It can be deleted, and built again from what the log
still holds.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

import msgspec

from pabal.notification import Delivery, DeliveryEvent, Fact, NotificationClass, Receipt

DeliveryStatus = Literal[
    "accepted",
    "scheduled",
    "deferred",
    "sent",
    "delivered",
    "bounced",
    "complained",
    "rejected",
    "expired",
    "suppressed",
    "cancelled",
    "dead_lettered",
    "discarded",
    "unaccounted",
]
"""Where a delivery stands. `unaccounted`: its time is over and no record says how it ended; it would be a loss."""


class TimelineEntry(Fact, frozen=True, kw_only=True):
    """One thing that happened: the kind of an event or receipt, and what is known of it."""

    kind: str
    at: datetime
    attempt: int | None = None
    provider: str | None = None
    provider_id: str | None = None
    latency_seconds: float | None = None
    detail: str | None = None
    response: str | None = None
    due: datetime | None = None


class DeliveryView(Fact, frozen=True, kw_only=True, rename={"class_": "class"}):
    """A delivery as it stands. `timeline` is given when one delivery is asked for, oldest first; in a list it is empty.

    A delivery of which only events were seen yet has no `accepted_at`, `expires_at` and `tags`.
    """

    id: UUID
    notification_id: UUID
    tenant: str
    channel: str
    address: str
    class_: NotificationClass
    status: DeliveryStatus
    updated_at: datetime
    attempt: int
    accepted_at: datetime | None = None
    expires_at: datetime | None = None
    send_at: datetime | None = None
    next_due: datetime | None = None
    tags: tuple[str, ...] = ()
    timeline: tuple[TimelineEntry, ...] = ()


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries to list; what is None does not matter. `since`: accepted at or after."""

    recipient: str | None = None
    status: DeliveryStatus | None = None
    channel: str | None = None
    class_: NotificationClass | None = None
    tag: str | None = None
    since: datetime | None = None


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries, newest first; `next_cursor` continues after them (null: that was all)."""

    deliveries: tuple[DeliveryView, ...]
    next_cursor: str | None = None


class DeadLettered(Fact, frozen=True, kw_only=True):
    """A record of a dead topic, as the store keeps it. `delivery` is None when its bytes cannot be read."""

    topic: str
    partition: int
    offset: int
    at: datetime
    error_class: str
    message: str
    delivery: Delivery | None = None


class RecordPlace(NamedTuple):
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


class SetAside(Fact, frozen=True, kw_only=True):
    """A record that could be neither decoded nor folded: where it stands, since when, why, how large its value is, and
    how that begins (at most 4 KB)."""

    topic: str
    partition: int
    offset: int
    at: datetime
    error: str
    size: int
    start: bytes


StoredFact = Delivery | DeliveryEvent | Receipt | DeadLettered
"""What the recorder folds. A `Delivery` is one as it stands in `pabal.deliveries.*`."""


class Reprocessed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known of a delivery that was dead-lettered: when first, when it was first sent and discarded (None: it
    was not)."""

    channel: str
    first_dead_lettered_at: datetime
    sent_at: datetime | None = None
    discarded_at: datetime | None = None


class ReprocessingSource(Protocol):
    """Tells what became of dead letters; a store does."""

    async def reprocessed(self, *, since: datetime, until: datetime) -> Sequence[Reprocessed]:
        """The deliveries of all tenants first dead-lettered in [`since`, `until`). Raises StoreUnavailable."""
        ...


class Store(Protocol):
    """See the module. Any number of tasks may call at once; every call raises StoreUnavailable.

    A tenant sees its own alone: what belongs to another is as good as not there.
    """

    async def fold(self, facts: Sequence[StoredFact]) -> None:
        """Take facts in, in one transaction. In any order and any number of times the result is the same.

        Raises StoreRefused when one of them can never be taken; then none was.
        """
        ...

    async def reported(self, facts: Sequence[StoredFact]) -> Sequence[tuple[Receipt, DeliveryView]]:
        """What facts that were folded already make known of receipts: each receipt with the delivery it speaks of.

        These are the receipts among the facts whose delivery is known, and the receipts that waited for one of the
        facts (a receipt by the provider's id waits for its `sent` event). Of any tenant: a receipt does not name its.
        """
        ...

    async def notification(self, notification: UUID, *, tenant: str) -> Sequence[DeliveryView]:
        """The deliveries of a notification, without timelines; empty when none was recorded (yet)."""
        ...

    async def delivery(self, delivery: UUID, *, tenant: str) -> DeliveryView | None:
        """One delivery with its timeline; None when it was not recorded (yet)."""
        ...

    async def deliveries(
        self, wanted: DeliveryFilter, *, tenant: str, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """A page of deliveries. Raises InvalidCursor for a cursor that this did not give out."""
        ...

    async def set_aside(self, records: Sequence[SetAside]) -> None:
        """Keep what could be neither decoded nor folded, by topic, partition and offset. Safe to repeat; what is said
        last of a record holds."""
        ...

    async def take_up(self, places: Sequence[RecordPlace]) -> int:
        """These records were folded: none of them is set aside any more. Returns how many were."""
        ...

    async def aside(self, *, limit: int) -> Sequence[SetAside]:
        """Records that are set aside, the oldest first."""
        ...

    async def unaccounted(self, *, now: datetime, limit: int) -> Sequence[DeliveryView]:
        """Deliveries past their expiry without a final fact, oldest expiry first."""
        ...

    async def dead_letters_open(self) -> Mapping[str, int]:
        """How many deliveries of each channel are dead-lettered, neither redriven nor discarded; 0 is left out."""
        ...

    async def prune(self, *, before: datetime) -> int:
        """Forget deliveries that expired and were last heard of before an instant, in small steps; returns how many.

        What was appended before it and is set aside is forgotten too.
        """
        ...

    async def close(self) -> None:
        """Let go; idempotent."""
        ...

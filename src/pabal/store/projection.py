"""What facts come to: the fold from records to one row per delivery. Pure.

Facts arrive in any order, and some arrive twice: deliveries, events, receipts and dead letters stand in different
topics and partitions. So every fact becomes a small row of its own (`gather`), and rows of one delivery are merged by
rules that are commutative, associative and idempotent: for each column a maximum, a minimum, or the value of the row
with the higher rank.
The store's upsert is the same merge written in SQL (`pabal.store.writing`); a property test compares the two.

**The merge order** of statuses is one number, the *standing*, and the higher one wins:

1. *The family.* Sent beats taken back, which beats everything else: a provider that took it cannot un-take it, and
   once taken back nothing is called again, whatever attempt wrote it down.
2. *The attempt*, among what was not sent: a later attempt knows more. Among what was sent it says nothing (a receipt
   does not know which attempt it speaks of).
3. *The rank* within an attempt, in the order in which things can follow one another.

docs/store.md lists the ranks with their reasons.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple, assert_never, get_args
from uuid import UUID

import msgspec

from pabal.notification import (
    FIRST_INSTANT,
    LAST_INSTANT,
    Delivery,
    DeliveryEvent,
    EventKind,
    Receipt,
    ReceiptKind,
)
from pabal.plan import MAX_TIME_TO_LIVE
from pabal.store.port import DeadLettered, DeliveryStatus, StoredFact, TimelineEntry

OPEN_STATUSES: Final[tuple[DeliveryStatus, ...]] = ("accepted", "scheduled", "deferred")
"""Something is still to come. Every other status says how it ended."""

UNACCOUNTED_GRACE_SECONDS: Final = 900.0
"""How long past its expiry, and after the last word of it, a delivery may still be on its way to a final fact: the
longest park (600 s), the smallest rung with its poll, a session time and a lease; the rest is for a recorder that is
behind."""

_FAMILY: Final = 1 << 40
_ATTEMPT: Final = 1 << 8
_TAKEN_BACK: Final = 1 * _FAMILY
_SENT: Final = 2 * _FAMILY

_RANKS: Final[Mapping[str, tuple[int, DeliveryStatus]]] = {
    "scheduled": (0, "scheduled"),
    "redriven": (1, "deferred"),
    "queued": (2, "accepted"),
    "parked": (3, "deferred"),
    "deferred": (4, "deferred"),
    "unknown": (5, "deferred"),
    "expired": (6, "expired"),
    "suppressed": (7, "suppressed"),
    "rejected": (8, "rejected"),
    "dead_lettered": (9, "dead_lettered"),
    "discarded": (10, "discarded"),
}
"""Rank and status of what was not sent. `queued` is no event: the delivery's record in its own topic. `redriven` bears
the attempt that it makes possible, `discarded` that of the dead letter."""

_SENT_RANKS: Final[Mapping[ReceiptKind, tuple[int, DeliveryStatus]]] = {
    "deferred": (0, "sent"),
    "delivered": (1, "delivered"),
    "opened": (1, "delivered"),
    "clicked": (1, "delivered"),
    "unsubscribed": (1, "delivered"),
    "bounced": (2, "bounced"),
    "rejected": (2, "bounced"),
    "complained": (3, "complained"),
}
"""Rank and status of what a receipt says; every receipt says that the provider took it."""

_FIRST_SECONDS: Final = FIRST_INSTANT.timestamp()
_LAST_SECONDS: Final = LAST_INSTANT.timestamp()

_encode = msgspec.json.Encoder().encode
_read_entry = msgspec.json.Decoder(TimelineEntry).decode
_read_tags = msgspec.json.Decoder(tuple[str, ...]).decode


class Projected(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"class_": "class"}):
    """What some facts tell of one delivery: a row of the store. Instants are seconds since 1970.

    `tenant`, `channel`, `address`, `class_` are empty while only receipts are known. `accepted_at` is None until its
    own record was seen (or the `scheduled` event, which says the same); `listed_at` (what lists are sorted by) is then
    the time of the first event, and `ends_by` a time by which it must have expired, else they are the acceptance and
    the expiry.
    """

    id: bytes
    notification_id: bytes = b""
    tenant: str = ""
    channel: str = ""
    address: str = ""
    class_: str = ""
    tags: str = ""
    attempt: int = 0
    standing: int
    status: str
    next_due: float | None = None
    accepted_at: float | None = None
    send_at: float | None = None
    listed_at: float
    ends_by: float
    updated_at: float
    first_dead_lettered_at: float | None = None
    succeeded_at: float | None = None
    discarded_at: float | None = None


class Happened(NamedTuple):
    """A line of a delivery's timeline; `entry` is a TimelineEntry in JSON. Of two with one id the earlier is kept: a
    replay after a crash writes the same event later, and knows less."""

    at: float
    entry: str


class Gathered:
    """Facts of one batch, merged: what one transaction writes. The keys are the tables' keys."""

    def __init__(self) -> None:
        self.deliveries: dict[bytes, Projected] = {}
        self.timeline: dict[tuple[bytes, bytes], Happened] = {}
        self.tags: dict[tuple[bytes, str, str], float] = {}
        """Delivery, tenant and tag; when it was accepted."""
        self.sent_as: set[tuple[str, str, bytes]] = set()
        """Provider, its id, and the delivery."""
        self.receipts: dict[tuple[bytes, float], Receipt] = {}
        """By id and time: told again, a receipt may bear another."""
        self.dead_letters: dict[tuple[str, int, int], DeadLettered] = {}

    def add(self, projected: Projected) -> None:
        """Merge a row in."""
        known = self.deliveries.get(projected.id)
        self.deliveries[projected.id] = projected if known is None else merge(known, projected)

    def add_receipt(self, receipt: Receipt, *, delivery: bytes) -> None:
        """A receipt of a delivery."""
        self.add(_of_receipt(receipt, delivery=delivery))
        self._note(
            delivery,
            receipt.id,
            TimelineEntry(
                kind=receipt.kind,
                at=receipt.at,
                provider=receipt.provider,
                provider_id=receipt.provider_id,
                detail=receipt.detail,
            ),
        )

    def add_event(self, event: DeliveryEvent) -> None:
        """An event."""
        projected = _of_event(event)
        self.add(projected)
        self._add_tags(projected, event.tags, accepted_at=event.at.timestamp())
        self._note(
            event.delivery_id.bytes,
            event.id,
            TimelineEntry(
                kind=event.kind,
                at=event.at,
                attempt=event.attempt,
                provider=event.provider,
                provider_id=event.provider_id,
                latency_seconds=event.latency_seconds,
                detail=event.detail,
                response=event.response,
                due=event.due,
            ),
        )
        if event.kind == "sent" and event.provider and event.provider_id:
            self.sent_as.add((stored_text(event.provider), stored_text(event.provider_id), event.delivery_id.bytes))

    def add_delivery(self, projected: Projected, delivery: Delivery) -> None:
        """A delivery's own record, or the one in a dead letter."""
        self.add(projected)
        self._add_tags(projected, delivery.tags, accepted_at=delivery.accepted_at.timestamp())

    def _add_tags(self, projected: Projected, tags: Iterable[str], *, accepted_at: float) -> None:
        for tag in tags:
            key = (projected.id, projected.tenant, stored_text(tag))
            self.tags[key] = min(accepted_at, self.tags.get(key, accepted_at))

    def _note(self, delivery: bytes, event: UUID, entry: TimelineEntry) -> None:
        happened = Happened(entry.at.timestamp(), _encode(entry).decode())
        key = (delivery, event.bytes)
        known = self.timeline.get(key)
        self.timeline[key] = happened if known is None else min(known, happened)


def gather(facts: Iterable[StoredFact]) -> Gathered:
    """Merge a batch of facts."""
    gathered = Gathered()
    for fact in facts:
        match fact:
            case Delivery():
                gathered.add_delivery(_of_delivery(fact, kind="queued"), fact)
            case DeliveryEvent():
                gathered.add_event(fact)
            case Receipt():
                gathered.receipts[fact.id.bytes, fact.at.timestamp()] = fact
                if fact.delivery_id is not None:
                    gathered.add_receipt(fact, delivery=fact.delivery_id.bytes)
            case DeadLettered():
                gathered.dead_letters[fact.topic, fact.partition, fact.offset] = fact
                if fact.delivery is not None:
                    gathered.add_delivery(_of_dead_letter(fact, fact.delivery), fact.delivery)
            case _ as never:
                assert_never(never)
    return gathered


def merge(one: Projected, other: Projected) -> Projected:
    """What both know together."""
    ahead = other if (other.standing, other.next_due or 0.0) > (one.standing, one.next_due or 0.0) else one
    newer = other if _version(other) > _version(one) else one
    own = other if _acceptance(other) < _acceptance(one) else one
    listed = other if _listing(other) < _listing(one) else one
    ending = other if _ending(other) > _ending(one) else one
    return Projected(
        id=one.id,
        notification_id=max(one.notification_id, other.notification_id),
        tenant=max(one.tenant, other.tenant),
        channel=max(one.channel, other.channel),
        address=newer.address,
        class_=newer.class_,
        attempt=newer.attempt,
        tags=own.tags,
        accepted_at=own.accepted_at,
        send_at=_latest(one.send_at, other.send_at),
        listed_at=listed.listed_at,
        ends_by=ending.ends_by,
        standing=ahead.standing,
        status=ahead.status,
        next_due=ahead.next_due,
        updated_at=max(one.updated_at, other.updated_at),
        first_dead_lettered_at=_earliest(one.first_dead_lettered_at, other.first_dead_lettered_at),
        succeeded_at=_earliest(one.succeeded_at, other.succeeded_at),
        discarded_at=_earliest(one.discarded_at, other.discarded_at),
    )


def is_unaccounted(*, status: str, ends_by: float, updated_at: float, cutoff: float) -> bool:
    """Whether a delivery should have ended by now. `cutoff` is the present less UNACCOUNTED_GRACE_SECONDS."""
    return status in OPEN_STATUSES and ends_by < cutoff and updated_at < cutoff


def read_entry(entry: str) -> TimelineEntry:
    """A line of a timeline as it is stored."""
    return _read_entry(entry)


def read_tags(tags: str) -> tuple[str, ...]:
    """Tags as they are stored."""
    return _read_tags(tags) if tags else ()


def instant(seconds: float) -> datetime:
    """An instant as it is stored. What lies near an end of the calendar is brought to where it can be reckoned with:
    a provider may date a receipt as it likes, and seconds in a double round it past the last year."""
    return datetime.fromtimestamp(min(max(seconds, _FIRST_SECONDS), _LAST_SECONDS), UTC)


def stored_text(text: str) -> str:
    """A text as it can be stored: PostgreSQL takes no NUL."""
    return text.replace("\0", "\ufffd") if "\0" in text else text


def _of_delivery(delivery: Delivery, *, kind: str) -> Projected:
    standing, status = _unsent(kind, attempt=delivery.attempt)
    accepted_at = delivery.accepted_at.timestamp()
    return Projected(
        id=delivery.id.bytes,
        notification_id=delivery.notification_id.bytes,
        tenant=stored_text(delivery.tenant),
        channel=stored_text(delivery.channel),
        address=stored_text(delivery.address),
        class_=delivery.class_,
        tags=_encode(delivery.tags).decode() if delivery.tags else "",
        attempt=delivery.attempt,
        standing=standing,
        status=status,
        accepted_at=accepted_at,
        send_at=_seconds(delivery.send_at),
        listed_at=accepted_at,
        ends_by=delivery.expires_at.timestamp(),
        updated_at=accepted_at,
    )


def _of_event(event: DeliveryEvent) -> Projected:
    at = event.at.timestamp()
    due = _seconds(event.due)
    standing: int
    status: DeliveryStatus
    if event.kind == "sent":
        standing, status = _SENT, "sent"
    elif event.kind == "cancelled":
        standing, status = _TAKEN_BACK, "cancelled"
    else:
        standing, status = _unsent(event.kind, attempt=event.attempt)
    # Of what waits for its `send_at` the event says all that the delivery's own record will.
    expires_at = _seconds(event.expires_at)
    return Projected(
        id=event.delivery_id.bytes,
        notification_id=event.notification_id.bytes,
        tenant=stored_text(event.tenant),
        channel=stored_text(event.channel),
        address=stored_text(event.address),
        class_=event.class_,
        tags=_encode(event.tags).decode() if event.tags else "",
        attempt=event.attempt,
        standing=standing,
        status=status,
        next_due=due if status in OPEN_STATUSES else None,
        accepted_at=None if expires_at is None else at,
        send_at=None if expires_at is None else due,
        listed_at=at,
        ends_by=expires_at or (at if due is None else due) + MAX_TIME_TO_LIVE.total_seconds(),
        updated_at=at,
        first_dead_lettered_at=at if event.kind == "dead_lettered" else None,
        succeeded_at=at if event.kind == "sent" else None,
        discarded_at=at if event.kind == "discarded" else None,
    )


def _of_receipt(receipt: Receipt, *, delivery: bytes) -> Projected:
    at = receipt.at.timestamp()
    rank, status = _SENT_RANKS[receipt.kind]
    return Projected(
        id=delivery,
        standing=_SENT + rank * _ATTEMPT,
        status=status,
        listed_at=at,
        ends_by=at,
        updated_at=at,
        succeeded_at=at if status in ("delivered", "complained") else None,
    )


def _of_dead_letter(dead: DeadLettered, delivery: Delivery) -> Projected:
    at = dead.at.timestamp()
    projected = _of_delivery(delivery, kind="dead_lettered")
    return msgspec.structs.replace(projected, first_dead_lettered_at=at, updated_at=max(at, projected.updated_at))


def _unsent(kind: str, *, attempt: int) -> tuple[int, DeliveryStatus]:
    rank, status = _RANKS[kind]
    if kind == "queued" and attempt > 1:
        status = "deferred"
    return attempt * _ATTEMPT + rank, status


def _version(row: Projected) -> tuple[int, str, str]:
    """An operator may edit the address; the attempt then goes up."""
    return row.attempt, row.address, row.class_


def _acceptance(row: Projected) -> tuple[bool, float, str]:
    """Asked for twice under one key, a delivery has several; the first holds."""
    return row.accepted_at is None, row.accepted_at or 0.0, row.tags


def _listing(row: Projected) -> tuple[bool, float]:
    return row.accepted_at is None, row.listed_at


def _ending(row: Projected) -> tuple[bool, float]:
    return row.accepted_at is not None, row.ends_by


def _earliest(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else min(one, other)


def _latest(one: float | None, other: float | None) -> float | None:
    return other if one is None else one if other is None else max(one, other)


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


assert _RANKS.keys() | {"sent", "cancelled"} == {*get_args(EventKind), "queued"}
assert _SENT_RANKS.keys() == set(get_args(ReceiptKind))

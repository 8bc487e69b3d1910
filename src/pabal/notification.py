"""The facts of the product: what is asked, what is to be sent, and how both are named.

A *notification* is what a caller asked. A *delivery* is notification × recipient × channel: the unit of work,
of retry and of dead-lettering. Both have derived ids, so that asking twice names the same things.
"""

import hashlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Protocol, get_args

import msgspec
from typing_extensions import TypeVar

NotificationClass = Literal["critical", "standard", "bulk"]
"""How urgent: three bells, two, one."""

CLASSES: tuple[NotificationClass, ...] = get_args(NotificationClass)

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pabal.dev/ids/1").bytes


Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware instant; a record with a naive one is unreadable."""

Counter = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]

Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
"""An offset as a log can have it: 64 bits with a sign, and never below 0."""

PartitionNumber = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
"""The number of a partition as a log can have it."""

FIRST_INSTANT = datetime(1970, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(9000, 12, 31, 23, 59, 59, tzinfo=UTC)
"""The instants that are reckoned with: nearer to an end of the calendar, a day more or less overflows it."""


def is_reckoned(instant: datetime | None) -> bool:
    """Whether an instant (None: there is none) lies within those that can be reckoned with."""
    return instant is None or FIRST_INSTANT.year <= instant.year <= LAST_INSTANT.year


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """Base of the values that travel in records: frozen, compared by content, absent keys mean defaults."""


class Address(Fact, frozen=True, kw_only=True):
    """Where, on one channel (RFC 5321's word). `address` is in its channel's canonical form once planned."""

    channel: str
    address: str


class Content(Fact, frozen=True, kw_only=True, eq=False):
    """What to say: generic parts that every channel can carry, and what single channels say instead."""

    # What a single channel says, the channel declares (`channels/part.py`). A content that is read, or that has such a
    # part, is of a subclass with a field for each installed channel (`channels/content.py`).

    title: str | None = None
    body: str | None = None
    data: dict[str, Any] | None = None

    def part(self, channel: str) -> Any:
        """What is said on this channel alone, as the struct that the channel declares; None: nothing."""
        return getattr(self, channel, None)

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, whichever channels were installed where they were made."""
        return _said(self) == _said(other) if isinstance(other, Content) else NotImplemented

    def __ne__(self, other: object) -> bool:
        """The opposite; the one of msgspec's structs compares their types."""
        return not self == other

    def __hash__(self) -> int:
        """Equal for equal contents."""
        return hash((self.title, self.body))


def _said(content: Content) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(content).items() if value is not None}


ContentT = TypeVar("ContentT", bound=Content, default=Content)
"""What a content is read as: with the parts of the channels that are installed."""


class TemplateRef(Fact, frozen=True, kw_only=True):
    """A template pinned by name and content hash, so that a retry renders what was accepted."""

    name: str
    hash: str
    data: dict[str, Any] = {}


class Delivery(Fact, Generic[ContentT], frozen=True, kw_only=True, rename={"class_": "class"}):
    """One recipient on one channel: the value of a record in `pabal.deliveries.*` (schema `delivery/1`).

    `attempt` counts calls for ever, `rung` is the place on the class's ladder, `parks` counts waits that were
    no call since the last call. All three travel in the record; the API writes 1, 0, 0. `edit` counts what an
    operator changed, who may also have named the one `provider` to use; `redrives` counts how often it came back from
    the dead letters. `traceparent` and `tracestate` are the caller's trace (W3C Trace Context); the second never
    stands alone.
    """

    id: uuid.UUID
    notification_id: uuid.UUID
    tenant: str
    channel: str
    address: str
    class_: NotificationClass
    accepted_at: Instant
    expires_at: Instant
    content: ContentT | None = None
    template: TemplateRef | None = None
    order_key: str | None = None
    send_at: Instant | None = None
    tags: tuple[str, ...] = ()
    attempt: Counter = 1
    rung: Counter = 0
    parks: Counter = 0
    first_failed_at: Instant | None = None
    edit: Counter = 0
    provider: str | None = None
    redrives: Counter = 0
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def idempotency_key(self) -> str:
        """What providers (and `webhook-id`) know the delivery by: its id for all attempts and redrives. An edit that
        changes what is sent makes it a new one."""
        return f"{self.id}.{self.edit}" if self.edit else str(self.id)

    @property
    def lane(self) -> str:
        """The order key; without one the delivery stands in a line of its own."""
        return self.order_key or self.id.hex

    @property
    def record_key(self) -> bytes:
        """The key of the delivery's records: one order key of one tenant stays in one partition."""
        return f"{self.tenant}/{self.lane}".encode()


EventKind = Literal[
    "sent",
    "deferred",
    "unknown",
    "parked",
    "scheduled",
    "rejected",
    "expired",
    "suppressed",
    "cancelled",
    "dead_lettered",
    "redriven",
    "discarded",
]
"""What happened to a delivery; the status words of the glossary, plus `unknown` for a call without an answer, and
what an operator did with a dead letter."""


class DeliveryEvent(Fact, frozen=True, kw_only=True, rename={"class_": "class"}):
    """A fact about a delivery in `pabal.events`: the truth about its status (schema `delivery-event/1`).

    `id` is derived (see `event_id`), so that appending it twice is harmless. `traceparent` is the delivery's.
    `expires_at` and `tags` are told by `scheduled` alone: until it is due, the delivery's own record stands where
    nobody looks for it. That event's `at` is the acceptance, its `due` is `send_at`.
    """

    id: uuid.UUID
    kind: EventKind
    delivery_id: uuid.UUID
    notification_id: uuid.UUID
    tenant: str
    channel: str
    address: str
    class_: NotificationClass
    attempt: Counter
    at: Instant
    provider: str | None = None
    detail: str | None = None
    provider_id: str | None = None
    response: str | None = None
    latency_seconds: float | None = None
    due: Instant | None = None
    traceparent: str | None = None
    expires_at: Instant | None = None
    tags: tuple[str, ...] = ()


ReceiptKind = Literal["delivered", "deferred", "bounced", "rejected", "complained", "unsubscribed", "opened", "clicked"]
"""A provider's later report in django-anymail's normalised words."""


class Receipt(Fact, frozen=True, kw_only=True):
    """What a provider reported later about something it took: in `pabal.events` (schema `receipt/1`).

    It names the delivery by our key (`delivery_id`), or by the provider's own id, which a `sent` event maps.
    `is_permanent`: the address will never take anything (a hard bounce). `raw` is the callback as it came, cut.
    `channel` is the one that the provider carries; a receipt suppresses no address of another.
    """

    id: uuid.UUID
    provider: str
    kind: ReceiptKind
    at: Instant
    delivery_id: uuid.UUID | None = None
    provider_id: str | None = None
    is_permanent: bool = False
    detail: str | None = None
    raw: str | None = None
    channel: str | None = None


SuppressionReason = Literal["bounced", "complained", "unsubscribed", "manual"]


class Suppression(Fact, frozen=True, kw_only=True):
    """An address that must not be written to, in the compacted `pabal.suppressions` (schema `suppression/1`).

    Its key there is `suppression_key`; a tombstone lifts it.
    """

    tenant: str
    channel: str
    address: str
    reason: SuppressionReason
    since: Instant
    detail: str | None = None


def notification_id(*, tenant: str, idempotency_key: str) -> uuid.UUID:
    """The id of what this key asked for: equal for equal tenant and key, whatever the body."""
    return _derive("notification", tenant, idempotency_key)


def delivery_id(notification: uuid.UUID, to: Address) -> uuid.UUID:
    """The id of one delivery of a notification; `to` must be in canonical form."""
    return _derive("delivery", notification.hex, to.channel, to.address)


def event_id(delivery: uuid.UUID, *, attempt: int, kind: str) -> uuid.UUID:
    """The id of an event that an attempt gave rise to."""
    return _derive("event", delivery.hex, str(attempt), kind)


class NamesDelivery(Protocol):
    """What an event repeats of its delivery. A `Delivery` has it, and so has a delivery as the store shows it."""

    @property
    def id(self) -> uuid.UUID:
        """The delivery's id."""

    @property
    def notification_id(self) -> uuid.UUID:
        """The id of its notification."""

    @property
    def tenant(self) -> str:
        """The tenant that asked for it."""

    @property
    def channel(self) -> str:
        """The channel that carries it."""

    @property
    def address(self) -> str:
        """Where it goes."""

    @property
    def class_(self) -> NotificationClass:
        """Its class."""


def event_about(
    delivery: NamesDelivery,
    kind: EventKind,
    *,
    attempt: int,
    at: datetime,
    occasion: str | None = None,
    provider: str | None = None,
    detail: str | None = None,
    provider_id: str | None = None,
    response: str | None = None,
    latency_seconds: float | None = None,
    traceparent: str | None = None,
) -> DeliveryEvent:
    """The event that something of this kind happened to a delivery.

    `occasion` tells events of one kind at one attempt apart; without it an attempt has one event of each kind.
    """
    return DeliveryEvent(
        id=event_id(delivery.id, attempt=attempt, kind=occasion or kind),
        kind=kind,
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address=delivery.address,
        class_=delivery.class_,
        attempt=attempt,
        at=at,
        provider=provider,
        detail=detail,
        provider_id=provider_id,
        response=response,
        latency_seconds=latency_seconds,
        traceparent=traceparent,
    )


def receipt_id(*, provider: str, event: str) -> uuid.UUID:
    """The id of a receipt: `event` is the provider's own id of what it reports."""
    return _derive("receipt", provider, event)


def _derive(*parts: str) -> uuid.UUID:
    """The UUID of a tuple, version 5 (RFC 9562 §5.5): each part is preceded by its length, so no two tuples collide."""
    name = "".join([f"{len(part)}:{part}" for part in parts])
    digest = int.from_bytes(hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    return uuid.UUID(int=digest & _VARIANT_AND_VERSION_OFF | _VARIANT_AND_VERSION)


# uuid.uuid5 does the same in twice the time, and an accepted delivery needs three of them.
_VARIANT_AND_VERSION_OFF = ~(0xF000 << 64 | 0xC000 << 48)
_VARIANT_AND_VERSION = 0x5000 << 64 | 0x8000 << 48


def deliveries_topic(channel: str, class_: str) -> str:
    """Where deliveries of one channel and class wait for a worker."""
    return f"pabal.deliveries.{channel}.{class_}"


def delay_topic(class_: str, seconds: int) -> str:
    """Where deliveries of one class wait for one constant delay (a rung)."""
    return f"pabal.delay.{class_}.{seconds}"


def dead_topic(channel: str) -> str:
    """Where deliveries of one channel that need a person are kept."""
    return f"pabal.dead.{channel}"


UNKNOWN_CHANNEL = "unknown"
"""Names the dead topic of bytes that do not even tell their channel."""

EVENTS_TOPIC = "pabal.events"
OPS_TOPIC = "pabal.ops"
SUPPRESSIONS_TOPIC = "pabal.suppressions"
AUDIT_TOPIC = "pabal.audit"
STATUS_TOPIC = "pabal.status"
HISTORY_TOPIC = "pabal.history"

RUNGS_SECONDS: Sequence[int] = (5, 30, 120, 600, 1800, 7200, 21600)
"""The delays that have a topic of their own, per class. Ladders use some, longer waits use several in a row."""

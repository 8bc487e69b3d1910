"""What the API's bodies look like, beside `plan.NotificationRequest`: batches, and answers."""

from datetime import datetime
from typing import Annotated, Final, Generic, Literal
from uuid import UUID

import msgspec

from pabal.api.problems import Problem
from pabal.ledger.protocol import CancelAnswer
from pabal.notification import NotificationClass, SuppressionReason
from pabal.plan import AskedT, NotificationRequest
from pabal.store.port import DeliveryView

MAX_BATCH_ITEMS: Final = 500

IdempotencyKey = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=255,
        description="1 to 255 visible ASCII characters; the same key within a tenant is the same notification.",
        extra_json_schema={"pattern": "^[!-~]+$"},
    ),
]


class BatchItem(NotificationRequest[AskedT], Generic[AskedT], frozen=True, kw_only=True, rename={"class_": "class"}):
    """One notification of a batch, with a key of its own."""

    idempotency_key: IdempotencyKey | None = None


class BatchRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Several notifications, each judged by itself; one append carries all that are good."""

    notifications: Annotated[tuple[BatchItem, ...], msgspec.Meta(min_length=1, max_length=MAX_BATCH_ITEMS)]


class RawBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A `BatchRequest` on arrival: its items are decoded one by one, so that a bad one spoils no other."""

    notifications: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(min_length=1, max_length=MAX_BATCH_ITEMS)]


class AcceptedDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename={"class_": "class"}):
    """One delivery that was made. `address` is in its channel's canonical spelling."""

    id: UUID
    channel: str
    address: str
    class_: NotificationClass


class Links(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where to go from here, relative to the API's own address: `status` tells what became of the notification,
    `cancel` (by POST) takes it back."""

    status: str
    cancel: str
    docs: str = "/docs"


def links_of(notification: UUID) -> Links:
    """Where a notification can be asked about."""
    status = f"/v1/notifications/{notification}"
    return Links(status=status, cancel=f"{status}/cancel")


class AcceptedNotification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A notification whose every delivery stands in the log."""

    id: UUID
    deliveries: tuple[AcceptedDelivery, ...]
    links: Links


class BatchResult(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What became of one item: `accepted` with status 202, else `problem`, whose status it is."""

    status: int
    idempotency_key: str | None = None
    accepted: AcceptedNotification | None = None
    problem: Problem | None = None


class BatchAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One result per item, in the order of the items."""

    results: tuple[BatchResult, ...]


class BatchProblem(Problem, frozen=True, kw_only=True, omit_defaults=True):
    """A batch whose append is in doubt: send it again with the keys of `results`, and nothing is sent twice."""

    results: tuple[BatchResult, ...] = ()


class NotificationView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A notification: its deliveries, as far as they are recorded, without their timelines."""

    id: UUID
    deliveries: tuple[DeliveryView, ...]


class CancelledDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What taking a delivery back came to.

    `cancelled`: it is not sent, or not again. `in_flight`: a call is under way; it ends as it ends, and none follows.
    `too_late`: it was sent, or has ended otherwise.
    """

    id: UUID
    answer: CancelAnswer


class CancelledNotification(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What taking a notification back came to, delivery by delivery."""

    id: UUID
    deliveries: tuple[CancelledDelivery, ...]


class TakenReceipts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many receipts of a callback stand in the log."""

    receipts: int


class SuppressionView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An address that nothing is sent to, why and since when."""

    channel: str
    address: str
    reason: SuppressionReason
    since: datetime
    detail: str | None = None


class SuppressionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Suppressions by channel and address; `next_cursor` continues after them (null: that was all)."""

    suppressions: tuple[SuppressionView, ...]
    next_cursor: str | None = None


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The process is alive, or ready for requests."""

    status: Literal["alive", "ready"]

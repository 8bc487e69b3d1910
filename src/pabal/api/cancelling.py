"""Cancels take back deliveries that were not sent yet. The ledger decides, whatever a worker does at the same time.

The order matters. The ledger answers first, durably; then the `cancelled` event makes it visible at once. A worker
that meets the delivery's record later finds the row and appends the same event (its id is derived).
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import ApiResponse
from pabal.api.codes import Code
from pabal.api.lazy_ledger import LazyLedger
from pabal.api.lookups import FIND_ABOUT, FIND_CODES, Lookups, Waiting
from pabal.api.messages import CancelledDelivery, CancelledNotification
from pabal.api.operation import UUID_TEXT, Operation, Part, Success
from pabal.api.request import ApiRequest
from pabal.clock import Clock
from pabal.codec import event_record
from pabal.ledger.protocol import CancelAnswer
from pabal.notification import DeliveryEvent, event_about
from pabal.plan import MAX_SEND_AHEAD, MAX_TIME_TO_LIVE
from pabal.store.port import DeliveryView

KEPT_AFTER_EXPIRY: Final = timedelta(days=1)
"""A record that is still on its way is never later than its expiry by more than this. The worker keeps its rows as
long."""

_ENDED: Final = frozenset(
    {"sent", "delivered", "bounced", "complained", "rejected", "expired", "suppressed", "discarded", "unaccounted"}
)
"""Statuses in which a delivery cannot be taken back. The store knows them; the ledger forgets old rows. An
unaccounted delivery is an alarm, and taking it back would only end the alarm."""


_CODES: Final[tuple[Code, ...]] = (*FIND_CODES, "topics_missing", "ledger_unavailable")

_ABOUT: Final = f"""Asking twice is safe. `cancelled`: it is not sent, or not again. `in_flight`: a call is under
way; it ends as it ends, and none follows. `too_late`: it was sent, or has ended otherwise. {FIND_ABOUT}
Needs the scope `send`."""


class Cancelling:
    """`POST /v1/notifications/{id}/cancel` and `/v1/deliveries/{id}/cancel`."""

    def __init__(self, *, lookups: Lookups, acceptance: Acceptance, ledger: LazyLedger, clock: Clock) -> None:
        self._lookups = lookups
        self._acceptance = acceptance
        self._ledger = ledger
        self._clock = clock

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        return (
            Operation(
                method="POST",
                path="/v1/notifications/{id:uuid}/cancel",
                scope="send",
                respond=self.notification,
                parts={"id": Part(description="The notification's id.", schema=UUID_TEXT)},
                query=Waiting,
                answers={200: Success("What it came to.", CancelledNotification)},
                codes=_CODES,
                name="cancelNotification",
                summary="Take a notification back",
                about=f"Take a notification back as far as it was not sent yet. {_ABOUT}",
            ),
            Operation(
                method="POST",
                path="/v1/deliveries/{id:uuid}/cancel",
                scope="send",
                respond=self.delivery,
                parts={"id": Part(description="The delivery's id.", schema=UUID_TEXT)},
                query=Waiting,
                answers={200: Success("What it came to.", CancelledDelivery)},
                codes=_CODES,
                name="cancelDelivery",
                summary="Take a delivery back",
                about=f"Take a delivery back as far as it was not sent yet. {_ABOUT}",
            ),
        )

    async def notification(self, request: ApiRequest[Waiting, None]) -> ApiResponse:
        """Take back every recorded delivery of a notification."""
        notification, wait_seconds = request.id(), request.query().wait
        views = await self._lookups.find_notification(
            notification, tenant=request.caller.tenant, wait_seconds=wait_seconds
        )
        body = CancelledNotification(id=notification, deliveries=await self._cancel(views))
        return ApiResponse(status=200, body=body)

    async def delivery(self, request: ApiRequest[Waiting, None]) -> ApiResponse:
        """Take back one delivery."""
        delivery, wait_seconds = request.id(), request.query().wait
        view = await self._lookups.find_delivery(delivery, tenant=request.caller.tenant, wait_seconds=wait_seconds)
        [answer] = await self._cancel([view])
        return ApiResponse(status=200, body=answer)

    async def _cancel(self, views: Sequence[DeliveryView]) -> tuple[CancelledDelivery, ...]:
        open_ones = [view for view in views if view.status not in _ENDED and view.status != "cancelled"]
        answers: dict[object, CancelAnswer] = {
            view.id: "cancelled" if view.status == "cancelled" else "too_late" for view in views
        }
        if open_ones:
            ledger = await self._ledger.get()
            asked = await asyncio.gather(
                *(ledger.cancel(view.id, prune_after=self._prune_after(view)) for view in open_ones)
            )
            answers |= {view.id: answer for view, answer in zip(open_ones, asked, strict=True)}
            taken_back = [view for view in open_ones if answers[view.id] == "cancelled"]
            if taken_back:
                await self._acceptance.append([event_record(self._event(view)) for view in taken_back])
        return tuple(CancelledDelivery(id=view.id, answer=answers[view.id]) for view in views)

    def _prune_after(self, view: DeliveryView) -> float:
        """Until when the row must stand: as long as a record of the delivery may come. If only events told of the
        delivery, its expiry is not known, and the longest life of any delivery counts."""
        expires_at = view.expires_at or self._clock.now() + MAX_SEND_AHEAD + MAX_TIME_TO_LIVE
        return (expires_at + KEPT_AFTER_EXPIRY).timestamp()

    def _event(self, view: DeliveryView) -> DeliveryEvent:
        return event_about(
            view, "cancelled", attempt=view.attempt, at=self._clock.now(), detail="taken back by the caller"
        )

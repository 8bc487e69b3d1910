"""Taking back what was not sent yet: through the ledger, so that it holds whatever a worker does at the same time.

The order matters. The ledger answers first, durably; then the `cancelled` event makes it visible at once. A worker
that meets the delivery's record later finds the row and appends the same event (its id is derived).
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import Answer
from pabal.api.endpoint import Call
from pabal.api.keys import Keyring
from pabal.api.ledger import LedgerAtNeed
from pabal.api.lookups import Lookups, Waiting
from pabal.api.messages import CancelledDelivery, CancelledNotification
from pabal.api.projection import Projection
from pabal.clock import Clock
from pabal.codec import event_record
from pabal.ledger.protocol import CancelAnswer
from pabal.notification import DeliveryEvent, event_id
from pabal.plan import MAX_SEND_AHEAD, MAX_TIME_TO_LIVE
from pabal.store.port import DeliveryView

KEPT_AFTER_EXPIRY: Final = timedelta(days=1)
"""As the worker keeps its rows: a record that is still on its way is never later than its expiry by more than this."""

_ENDED: Final = frozenset(
    {"sent", "delivered", "bounced", "complained", "rejected", "expired", "suppressed", "discarded", "unaccounted"}
)
"""Where nothing can be taken back any more. Known from the store, because the ledger forgets old rows. Of what is
unaccounted nobody knows what became of it, and taking it back would only end the alarm."""


class Cancelling:
    """`POST /v1/notifications/{id}/cancel` and `/v1/deliveries/{id}/cancel`."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        projection: Projection,
        lookups: Lookups,
        acceptance: Acceptance,
        ledger: LedgerAtNeed,
        clock: Clock,
    ) -> None:
        self._keyring = keyring
        self._projection = projection
        self._lookups = lookups
        self._acceptance = acceptance
        self._ledger = ledger
        self._clock = clock

    async def notification(self, call: Call) -> Answer:
        """Take back every delivery of a notification, as far as they are recorded."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="send").tenant
        notification, wait_seconds = call.id(), call.query(Waiting).wait
        store = self._projection.store
        views = await self._projection.find(
            lambda: store.notification(notification, tenant=tenant),
            what="notification",
            tenant=tenant,
            wait_seconds=wait_seconds,
        )
        return Answer(status=200, body=CancelledNotification(id=notification, deliveries=await self._cancel(views)))

    async def delivery(self, call: Call) -> Answer:
        """Take back one delivery."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="send").tenant
        delivery, wait_seconds = call.id(), call.query(Waiting).wait
        view = await self._lookups.find_delivery(delivery, tenant=tenant, wait_seconds=wait_seconds)
        [answer] = await self._cancel([view])
        return Answer(status=200, body=answer)

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
        """Until when the row must stand: as long as a record of the delivery may come. Of one that only events told of
        the expiry is not known; none lives longer than this."""
        expires_at = view.expires_at or self._clock.now() + MAX_SEND_AHEAD + MAX_TIME_TO_LIVE
        return (expires_at + KEPT_AFTER_EXPIRY).timestamp()

    def _event(self, view: DeliveryView) -> DeliveryEvent:
        return DeliveryEvent(
            id=event_id(view.id, attempt=view.attempt, kind="cancelled"),
            kind="cancelled",
            delivery_id=view.id,
            notification_id=view.notification_id,
            tenant=view.tenant,
            channel=view.channel,
            address=view.address,
            class_=view.class_,
            attempt=view.attempt,
            at=self._clock.now(),
            detail="taken back by the caller",
        )

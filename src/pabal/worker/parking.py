"""What is decided without a call: deliveries that are parked, and deliveries whose provider is not configured."""

import asyncio
from collections.abc import Callable

import msgspec

from pabal.clock import Clock
from pabal.guard import Callee
from pabal.ledger.protocol import Held
from pabal.outcome import DeadLetter, Park, Verdict
from pabal.retry import end_of_park
from pabal.worker.deliver import Deliverer
from pabal.worker.errand import End
from pabal.worker.intake import Item
from pabal.worker.tasks import Backlog, Tasks

FEWEST_PARKED = 8
"""Deliveries that are parked at once. They are few, so that calls in between hardly wait for the event loop; they are
more when so many are to be parked that they stand in the way of others."""


class _Refusal(msgspec.Struct, frozen=True, gc=False):
    item: Item
    verdict: Verdict
    provider: str | None


class Parking:
    """Takes items that the guard refuses. They need no call slot, which is left to items that are called."""

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        channel: str,
        tasks: Tasks,
        clock: Clock,
        on_end: Callable[[Item, End | Held | None], None],
    ) -> None:
        """`on_end` is called with what follows for an item, as after a call."""
        self._deliverer = deliverer
        self._channel = channel
        self._clock = clock
        self._on_end = on_end
        self._refusals = Backlog(self._store, most=lambda waiting: max(FEWEST_PARKED, waiting // 8), tasks=tasks)
        self._is_stopped = False

    def park(self, item: Item, callee: Callee) -> None:
        """Park for a callee, for as long as that has no room."""
        seconds = callee.park_seconds(parks=item.delivery.parks, now=self._clock.boot_seconds())
        self.park_for(item, seconds, by=callee.name)

    def park_for(self, item: Item, seconds: float, *, by: str) -> None:
        """Park for so long. `by` names the callee that does not take the delivery for now."""
        due = end_of_park(seconds=seconds, now=self._clock.now(), expires_at=item.delivery.expires_at)
        self._refuse(item, Park(due=due, reason=f"not taken for now by {by}", callee=by), provider=None)

    def give_up(self, item: Item, provider: str) -> None:
        """The only provider that may carry the delivery is not configured (any more): a person must look."""
        message = f"it must be carried by provider {provider!r}, which is not configured for {self._channel}"
        self._refuse(item, DeadLetter(error_class="no_such_provider", message=message), provider=provider)

    def stop(self) -> None:
        """Decide nothing more."""
        self._is_stopped = True
        self._refusals.clear()

    def _refuse(self, item: Item, verdict: Verdict, *, provider: str | None) -> None:
        if not self._is_stopped:
            self._refusals.add(_Refusal(item, verdict, provider))

    async def _store(self, refusals: list[_Refusal]) -> None:
        ends = await asyncio.gather(
            *(
                self._deliverer.refuse(
                    each.item.delivery,
                    each.verdict,
                    provider=each.provider,
                    origin=each.item.origin,
                    group=each.item.intake.group,
                )
                for each in refusals
            )
        )
        for each, end in zip(refusals, ends, strict=True):
            self._on_end(each.item, end)

"""The call slots of one channel: a free slot takes the item that goes next, and what that comes to is told."""

import asyncio
import logging
from collections.abc import Collection, Mapping

import msgspec

from pabal.clock import Clock
from pabal.guard import Guard, Permit
from pabal.ledger.protocol import Held
from pabal.notification import NotificationClass
from pabal.worker.deliver import Deliverer
from pabal.worker.effects import end_of_unreadable
from pabal.worker.errand import End
from pabal.worker.intake import InFlight, Intake, Item, UnreadableItem
from pabal.worker.lookout import Lookout
from pabal.worker.parking import Parking
from pabal.worker.tasks import Backlog, Tasks
from pabal.worker.telling import Teller
from pabal.worker.waiting import WaitingRoom

logger = logging.getLogger(__name__)

MOST_TOLD = 200
"""Verdicts that share an append: enough to make it cheap, few enough to fit its deadline after an outage."""


class Dispatch:
    """One channel: fills call slots with what waits, runs each item to its stored verdict, and has that told."""

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        teller: Teller,
        guard: Guard,
        channel: str,
        concurrency: int,
        most_in_queues: int,
        weights: Mapping[str, int],
        clock: Clock,
    ) -> None:
        """`most_in_queues`: how many may wait in memory for callees that are well before any of them is parked."""
        self._deliverer = deliverer
        self._teller = teller
        self._guard = guard
        self._free = concurrency
        self._clock = clock
        self._tasks = Tasks()
        self._untold: Backlog[tuple[InFlight, End]] = Backlog(self._tell, most=lambda _: MOST_TOLD, tasks=self._tasks)
        self._parking = Parking(
            deliverer=deliverer, channel=channel, tasks=self._tasks, clock=clock, on_end=self._after
        )
        self._waiting = WaitingRoom(
            guard=guard,
            parking=self._parking,
            bury=self._bury,
            on_refused=lambda: self._lookout.look_soon(),
            most_in_queues=most_in_queues,
            weights=weights,
            clock=clock,
        )
        self._lookout = Lookout(
            guard=guard,
            waiting=self._waiting,
            start=self._start,
            has_free_slot=lambda: self._free > 0,
            clock=clock,
        )
        self.failure = self._tasks.failure
        """Ends with what makes the worker fail."""

    def attend(self, intakes: Collection[Intake]) -> None:
        """Take the items of these intakes. While every provider refuses, the intakes read nothing."""
        self._lookout.attend(intakes)

    def put(self, items: Collection[InFlight]) -> None:
        """Let items wait, each behind the items of its order key, and start what can be started."""
        self._waiting.put(items)
        self._start()

    def hold(self, class_: NotificationClass) -> None:
        """Start nothing more of this class, until `let_go`: what waits goes on waiting, in its order.

        What has a call slot by now, or is about to be parked, goes on to its end.
        """
        self._waiting.hold(class_)

    def let_go(self, class_: NotificationClass) -> None:
        """Go on with this class. Harmless when it was not held."""
        self._waiting.let_go(class_)
        self._start()

    def stop(self) -> None:
        """Start nothing more."""
        self._waiting.stop()
        self._parking.stop()

    async def drain(self, *, deadline_seconds: float) -> int:
        """Let what was started end, and be told; returns how many had not by the deadline (they are cancelled)."""
        return await self._tasks.drain(deadline_seconds=deadline_seconds)

    def _start(self) -> None:
        """Fill the free call slots."""
        while self._free > 0 and (ready := self._waiting.next()) is not None:
            self._free -= 1
            self._tasks.spawn(self._occupy_slot(*ready))

    async def _occupy_slot(self, item: Item, permit: Permit) -> None:
        """One item to its stored verdict, then the next, as long as there are any: a task for each would cost more."""
        ready: tuple[Item, Permit] | None = (item, permit)
        try:
            while ready is not None:
                item, permit = ready
                try:
                    end = await self._deliverer.call(
                        item.delivery, origin=item.origin, group=item.intake.group, permit=permit
                    )
                finally:
                    permit.release(self._clock.boot_seconds())
                    self._waiting.stir(permit.callees)
                    if self._guard.is_shut():
                        self._lookout.look_soon()
                self._after(item, end)
                ready = self._waiting.next()
        finally:
            self._free += 1

    def _after(self, item: Item, end: End | Held | None) -> None:
        """What follows one look at an item: it is over, it is looked at again, or its records are told."""
        match end:
            case None:
                self._waiting.end(item)
            case Held(seconds=seconds, provider=provider):
                if provider is not None:
                    bound = msgspec.structs.replace(item.delivery, provider=provider)
                    item = msgspec.structs.replace(item, delivery=bound)
                asyncio.get_running_loop().call_later(seconds, self._ask_again, item)
            case End():
                self._untold.add((item, end))

    def _ask_again(self, item: Item) -> None:
        self._waiting.put_back(item)
        self._start()

    def _bury(self, item: UnreadableItem) -> None:
        """What cannot be read goes to the dead topic as it is."""
        logger.warning("dead-lettered %s/%d@%d: %s", *item.origin.topic_partition, item.origin.offset, item.error)
        end = end_of_unreadable(
            item.origin,
            item.error,
            channel=item.intake.channel,
            class_=item.intake.class_,
            group=item.intake.group,
            at=self._clock.now(),
        )
        self._untold.add((item, end))

    async def _tell(self, told: list[tuple[InFlight, End]]) -> None:
        """Tell all that wait at once."""
        await self._teller.tell([end for _, end in told])
        for item, _ in told:
            self._waiting.end(item)
        self._start()

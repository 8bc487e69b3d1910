"""What waits in the memory of one channel for a call slot, and which item goes next."""

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import assert_never

from pabal.clock import Clock
from pabal.guard import Callee, Full, Guard, InQueue, NoSuchProvider, ParkFor, Permit, Shut
from pabal.lanes import Lanes
from pabal.notification import NotificationClass
from pabal.worker.callee_queues import CalleeQueues
from pabal.worker.intake import InFlight, Item, UnreadableItem
from pabal.worker.parking import Parking

PARKED_PER_LOOK = 10
"""How many leave the queues at a look while there is no crowd: no hurry then, and each costs what a call costs us."""


class WaitingRoom:
    """Items in lanes, and what has left its lane and may not be called yet.

    An item leaves its lane by class weight, tenants in turn. Then the guard is asked. An item that is refused alone
    waits in its callee's queue or is parked. If the whole channel is refused, nothing leaves its lane. Items
    of a held class stay in their lanes; items that had left their lane before are set aside until the class is let go.
    """

    def __init__(
        self,
        *,
        guard: Guard,
        parking: Parking,
        bury: Callable[[UnreadableItem], None],
        on_refused: Callable[[], None],
        most_in_queues: int,
        weights: Mapping[str, int],
        clock: Clock,
    ) -> None:
        """`on_refused` hears that the guard must be asked again soon. `most_in_queues`: how many may wait for callees
        that are well before any of them is parked."""
        self._guard = guard
        self._parking = parking
        self._bury = bury
        self._on_refused = on_refused
        self._most_in_queues = most_in_queues
        self._clock = clock
        self._lanes: Lanes[InFlight] = Lanes(weights)
        self._again: deque[Item] = deque()
        self._queues: CalleeQueues[Item] = CalleeQueues()
        # Of each class that is held: what had left its lane and had no call slot yet.
        self._held: dict[NotificationClass, list[Item]] = {}
        self.is_stopped = False
        self.is_refused = False
        """Whether the whole channel was refused when it was asked last."""

    @property
    def awaits_guard(self) -> bool:
        """Whether anything waits that the guard has refused."""
        return self.is_refused or bool(self._queues)

    def put(self, items: Collection[InFlight]) -> None:
        """Let items wait, each behind the items of its order key."""
        for item in items:
            self._lanes.put(item, class_=item.intake.class_, key=item.lane, tenant=item.tenant)

    def put_back(self, item: Item) -> None:
        """Let an item that had a call slot wait again, before all that is in lanes."""
        self._held.get(item.intake.class_, self._again).append(item)

    def end(self, item: InFlight) -> None:
        """Everything about an item is in the log: the next of its lane may go."""
        item.intake.done(item)
        self._lanes.leave(class_=item.intake.class_, key=item.lane, tenant=item.tenant)

    def hold(self, class_: NotificationClass) -> None:
        """Let no item of this class go, until `let_go`. Safe to repeat."""
        if class_ in self._held:
            return
        self._lanes.hold(class_)
        put_by = [item for item in self._again if item.intake.class_ == class_]
        self._again = deque(item for item in self._again if item.intake.class_ != class_)
        put_by += self._queues.take_out(lambda item: item.intake.class_ == class_)
        self._held[class_] = put_by

    def let_go(self, class_: NotificationClass) -> None:
        """Let this class go on. Harmless when it was not held."""
        if class_ in self._held:
            self._again.extend(self._held.pop(class_))
            self._lanes.let_go(class_)

    def stop(self) -> None:
        """Let nothing more go."""
        self.is_stopped = True

    def next(self) -> tuple[Item, Permit] | None:
        """The item that goes next, if any may, and the permit for its call."""
        while not self.is_stopped:
            if self._queues.stirred and (ready := self._next_in_queues()) is not None:
                return ready
            item = self._again.popleft() if self._again else self._lanes.take()
            if item is None:
                return None
            if not item.intake.is_current(item):
                self.end(item)  # Its partition has gone to another member, which has it too.
            elif isinstance(item, UnreadableItem):
                self._bury(item)
            else:
                match self._admit(item):
                    case Permit() as permit:
                        return item, permit
                    case Full() | Shut():
                        self._again.appendleft(item)
                        self.is_refused = True
                        self._on_refused()
                        return None
                    case refusal:
                        self._put_aside(item, refusal)
        return None

    def stir(self, callees: Collection[Callee]) -> None:
        """Calls of these have ended: they may have room again."""
        if self._queues:
            for callee in callees:
                self._queues.stir(callee)

    def look(self, *, held_back: int | None) -> None:
        """Time has passed: circuits reopen and rates go on by that alone, so whatever waits may go.

        What finds no room in its callee's queue is parked. `held_back` is how many records keep their partitions from
        being read; None: it is not the moment to judge queues.
        """
        self.is_refused = False
        if held_back is not None:
            self._trim(held_back=held_back)
        self._queues.stir_all()

    def _trim(self, *, held_back: int) -> None:
        now = self._clock.boot_seconds()
        too_many = self._queues.total() - self._most_in_queues

        def room(callee: Callee) -> int:
            # A callee that is merely busy keeps its queue until there is a crowd.
            return callee.room(now) if too_many > 0 or not callee.is_answering(now) else self._most_in_queues

        for callee, item in self._queues.trim(room, limit=max(too_many, held_back, PARKED_PER_LOOK)):
            self._parking.park(item, callee)

    def _admit(self, item: Item) -> Permit | InQueue | ParkFor | Full | Shut | NoSuchProvider:
        delivery = item.delivery
        return self._guard.admit(
            tenant=delivery.tenant,
            address=delivery.address,
            pinned=delivery.provider,
            parks=delivery.parks,
            now=self._clock.boot_seconds(),
        )

    def _next_in_queues(self) -> tuple[Item, Permit] | None:
        """The head of a queue whose callee may have room again."""
        while (head := self._queues.next_head()) is not None:
            callee, item = head
            if not item.intake.is_current(item):
                self._queues.take_head(callee)
                self.end(item)
                continue
            answer = self._admit(item)
            if isinstance(answer, Permit):
                self._queues.take_head(callee)
                return item, answer
            if isinstance(answer, Full | Shut) or (isinstance(answer, InQueue) and answer.callee is callee):
                self._queues.settle(callee)
                continue
            # The item is refused for another callee now: it leaves this queue, and blocks no item behind it.
            self._queues.take_head(callee)
            self._put_aside(item, answer)
        return None

    def _put_aside(self, item: Item, refusal: InQueue | ParkFor | NoSuchProvider) -> None:
        """The item is refused alone, and not the whole channel with it."""
        match refusal:
            case InQueue(callee):
                # The next look judges how long the queue of a callee that answers may be: calls may end until then.
                if callee.state == "closed" or self._queues.length(callee) < callee.room(self._clock.boot_seconds()):
                    self._queues.join(callee, item)
                    self._on_refused()
                else:
                    self._parking.park(item, callee)
            case ParkFor(seconds, by):
                self._parking.park_for(item, seconds, by=by)
            case NoSuchProvider(name):
                self._parking.give_up(item, name)
            case _ as never:
                assert_never(never)

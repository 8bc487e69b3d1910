"""One channel of a worker: which delivery goes next, and what becomes of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, assert_never

import msgspec

from pabal.clock import Clock
from pabal.codec import dead_record
from pabal.errors import DecodeError
from pabal.guard import Callee, Full, Guard, InLine, NoSuchProvider, ParkFor, Permit, Shut
from pabal.lanes import Lanes
from pabal.ledger.protocol import Held
from pabal.notification import Delivery, NotificationClass
from pabal.outcome import DeadLetter, Park, Verdict
from pabal.retry import end_of_park
from pabal.worker.deliver import Deliverer, End
from pabal.worker.intake import Intake, Item
from pabal.worker.lines import Lines

logger = logging.getLogger(__name__)

MOST_TOLD = 200
"""Verdicts that share an append: enough to make it cheap, few enough to fit its deadline after an outage."""

FEWEST_PARKED = 8
"""Deliveries that are parked at once: few enough that those called in between hardly wait for the event loop, unless
so many are to be parked that they stand in everybody's way."""

PARKED_PER_LOOK = 10
"""How many leave the lines at a look while there is no crowd: no hurry then, and each costs what a call costs us."""

LOOK_EVERY_SECONDS = 0.05
"""How often the guard is asked again while something waits for it."""


class Dispatch:
    """One channel: takes the next item by class weight while a call slot is free, and runs it to its end.

    Before an item gets a slot the guard is asked; what it refuses waits in a line of its own, is parked, or, if it is
    the whole channel that is refused, stops the taking.
    """

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        guard: Guard,
        channel: str,
        concurrency: int,
        most_in_line: int,
        weights: Mapping[str, int],
        clock: Clock,
    ) -> None:
        """`most_in_line`: how many may wait in memory for callees that are well before any of them is parked."""
        self._deliverer = deliverer
        self._guard = guard
        self._channel = channel
        self._most_in_line = most_in_line
        self._free = concurrency
        self._clock = clock
        self._lanes: Lanes[Item] = Lanes(weights)
        self._again: deque[Item] = deque()
        self._lines: Lines[Item] = Lines()
        self._refused: list[tuple[Item, Verdict, str | None]] = []
        self._is_refusing = False
        # Of each class that is held: what had left its lane and had no call slot yet.
        self._held: dict[NotificationClass, list[Item]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._untold: list[tuple[Item, End]] = []
        self._is_telling = False
        self._stopped = False
        self._is_refused = False
        self._look_at: float | None = None
        self._intakes: Collection[Intake] = ()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def feed_from(self, intakes: Collection[Intake]) -> None:
        """These put items here; they are held back while every provider refuses."""
        self._intakes = intakes

    def put(self, items: Collection[Item]) -> None:
        """Queue items behind those of their order keys, and start what can be started."""
        for item in items:
            self._lanes.put(item, class_=item.intake.class_, key=item.lane, tenant=item.tenant)
        self._start()

    async def drain(self, *, deadline_seconds: float) -> int:
        """Let what was started end, and be told; returns how many had not by the deadline (they are cancelled)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_seconds
        # What ends may start the telling of its verdict, so one wait is not enough.
        while self._running and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        late = [*self._running]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def cancel_overdue(self) -> None:
        """See `Deliverer.cancel_overdue`."""
        self._deliverer.cancel_overdue()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopped = True

    def hold(self, class_: NotificationClass) -> None:
        """Start nothing more of this class, until `let_go`: what waits here goes on waiting, in its order.

        What has a call slot by now, or is about to be parked, goes on to its end.
        """
        if class_ in self._held:
            return
        self._lanes.hold(class_)
        of_class = [item for item in self._again if item.intake.class_ == class_]
        self._again = deque(item for item in self._again if item.intake.class_ != class_)
        of_class += self._lines.take_out(lambda item: item.intake.class_ == class_)
        self._held[class_] = of_class

    def let_go(self, class_: NotificationClass) -> None:
        """Go on with this class. Harmless when it was not held."""
        if class_ in self._held:
            self._again.extend(self._held.pop(class_))
            self._lanes.let_go(class_)
            self._start()

    def _start(self) -> None:
        """Fill the free call slots."""
        while self._free > 0 and (ready := self._next()) is not None:
            self._free -= 1
            self._spawn(self._occupy_slot(*ready))

    def _next(self) -> tuple[Item, Permit | None] | None:
        """The item that goes next, if any may, and the permit for its call (bytes nobody can read need none)."""
        while not self._stopped:
            if self._lines.stirred and (ready := self._next_in_line()) is not None:
                return ready
            item = self._again.popleft() if self._again else self._lanes.take()
            if item is None:
                return None
            if not item.intake.is_current(item):
                self._end(item)  # Its partition has gone to another member, who has it too.
            elif isinstance(item.delivery, DecodeError):
                return item, None
            else:
                match self._admit(item.delivery):
                    case Permit() as permit:
                        return item, permit
                    case Full() | Shut():
                        self._again.appendleft(item)
                        self._is_refused = True
                        self._look_soon()
                        return None
                    case refusal:
                        self._put_aside(item, refusal)
        return None

    def _admit(self, delivery: Delivery) -> Permit | InLine | ParkFor | Full | Shut | NoSuchProvider:
        return self._guard.admit(
            tenant=delivery.tenant,
            address=delivery.address,
            pinned=delivery.provider,
            parks=delivery.parks,
            now=self._clock.boot_seconds(),
        )

    def _next_in_line(self) -> tuple[Item, Permit] | None:
        """The head of a line whose callee may have room again."""
        while (head := self._lines.next_head()) is not None:
            callee, item = head
            if not item.intake.is_current(item):
                self._lines.take_head(callee)
                self._end(item)
                continue
            assert isinstance(item.delivery, Delivery)
            answer = self._admit(item.delivery)
            if isinstance(answer, Permit):
                self._lines.take_head(callee)
                return item, answer
            if isinstance(answer, Full | Shut) or (isinstance(answer, InLine) and answer.callee is callee):
                self._lines.settle(callee)
                continue
            # Refused by another than whom it waited for: those behind it are not held up.
            self._lines.take_head(callee)
            self._put_aside(item, answer)
        return None

    def _put_aside(self, item: Item, refusal: InLine | ParkFor | NoSuchProvider) -> None:
        """What is refused alone, and not the whole channel with it."""
        match refusal:
            case InLine(callee):
                # How long a line that is served may be is judged at the next look: calls may have ended by now.
                now = self._clock.boot_seconds()
                if callee.state == "closed" or self._lines.length(callee) < callee.room(now):
                    self._lines.join(callee, item)
                    self._look_soon()
                else:
                    self._park(item, callee, now=now)
            case ParkFor(seconds, by):
                self._refuse(item, self._park_for(item, seconds, by=by), provider=None)
            case NoSuchProvider(name):
                message = f"it must be carried by provider {name!r}, which is not configured for {self._channel}"
                self._refuse(item, DeadLetter(error_class="no_such_provider", message=message), provider=name)
            case _ as never:
                assert_never(never)

    def _park(self, item: Item, callee: Callee, *, now: float) -> None:
        assert isinstance(item.delivery, Delivery)
        seconds = callee.park_seconds(parks=item.delivery.parks, now=now)
        self._refuse(item, self._park_for(item, seconds, by=callee.name), provider=None)

    def _park_for(self, item: Item, seconds: float, *, by: str) -> Park:
        assert isinstance(item.delivery, Delivery)
        due = end_of_park(seconds=seconds, now=self._clock.now(), expires_at=item.delivery.expires_at)
        return Park(due=due, reason=f"not taken for now by {by}", callee=by)

    def _refuse(self, item: Item, verdict: Verdict, *, provider: str | None) -> None:
        self._refused.append((item, verdict, provider))
        if not self._is_refusing:
            self._is_refusing = True
            self._spawn(self._decide_refused())

    async def _decide_refused(self) -> None:
        """Store and tell what is decided without a call: outside the call slots, which those who are called need."""
        while self._refused and not self._stopped:
            many = max(FEWEST_PARKED, len(self._refused) // 8)
            batch, self._refused = self._refused[:many], self._refused[many:]
            ends = await asyncio.gather(
                *(
                    self._deliverer.refuse(
                        item.delivery, verdict, provider=provider, origin=item.origin, group=item.intake.group
                    )
                    for item, verdict, provider in batch
                    if isinstance(item.delivery, Delivery)
                )
            )
            for (item, _, _), end in zip(batch, ends, strict=True):
                self._after(item, end)
        self._is_refusing = False

    def _look_soon(self) -> None:
        """Ask the guard again in a moment: circuits reopen and rates go on by time alone."""
        if self._look_at is None and not self._stopped:
            loop = asyncio.get_running_loop()
            self._look_at = loop.time() + LOOK_EVERY_SECONDS
            loop.call_at(self._look_at, self._look)

    def _look(self) -> None:
        loop_time = asyncio.get_running_loop().time()
        assert self._look_at is not None
        was_late = loop_time - self._look_at > LOOK_EVERY_SECONDS
        self._look_at = None
        self._is_refused = False
        if not was_late:  # Else it is we who were busy or stopped, and calls may have ended that we have not seen.
            now = self._clock.boot_seconds()
            too_many = self._lines.total() - self._most_in_line
            # Partitions that are not read any more: as many as that are in somebody's way.
            held_back = sum(intake.held_back for intake in self._intakes)
            over = self._lines.trim(
                lambda callee: self._room(callee, is_crowded=too_many > 0, now=now),
                limit=max(too_many, held_back, PARKED_PER_LOOK),
            )
            for callee, item in over:
                self._park(item, callee, now=now)
        self._lines.stir_all()
        self._start()
        is_shut = self._guard.is_shut()
        is_held = is_shut and not self._lacks_probe()
        for intake in self._intakes:
            intake.hold("guard") if is_held else intake.let_go("guard")
        if is_shut or self._is_refused or self._lines:
            self._look_soon()

    def _lacks_probe(self) -> bool:
        """Whether nothing is at hand that could find out whether a shut provider is back. Then some must be read."""
        # Who stands in a line was asked just now, and cannot.
        return self._free > 0 and not self._is_refused and self._guard.lets_probe(self._clock.boot_seconds())

    def _room(self, callee: Callee, *, is_crowded: bool, now: float) -> int:
        """How long its line may be. Who is merely busy keeps it, but where others need the place."""
        return callee.room(now) if is_crowded or not callee.is_answering(now) else self._most_in_line

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _occupy_slot(self, item: Item, permit: Permit | None) -> None:
        """One item to its stored verdict, then the next, as long as there are any: a task for each would cost more."""
        ready: tuple[Item, Permit | None] | None = (item, permit)
        try:
            while ready is not None:
                await self._call(*ready)
                ready = self._next()
        finally:
            self._free += 1

    async def _call(self, item: Item, permit: Permit | None) -> None:
        if permit is None or isinstance(item.delivery, DecodeError):
            assert isinstance(item.delivery, DecodeError)
            self._after(item, self._burial(item, item.delivery))
            return
        try:
            end = await self._deliverer.call(item.delivery, origin=item.origin, group=item.intake.group, permit=permit)
        finally:
            permit.release(self._clock.boot_seconds())
            if self._lines:
                for callee in permit.callees:
                    self._lines.stir(callee)
            if self._guard.is_shut():
                self._look_soon()
        self._after(item, end)

    def _after(self, item: Item, end: End | Held | None) -> None:
        """What follows one look at an item: it is over, it is looked at again, or its records are told."""
        match end:
            case None:
                self._end(item)
            case Held(seconds=seconds, provider=provider):
                if provider is not None:
                    assert isinstance(item.delivery, Delivery)
                    item = msgspec.structs.replace(
                        item, delivery=msgspec.structs.replace(item.delivery, provider=provider)
                    )
                asyncio.get_running_loop().call_later(seconds, self._ask_again, item)
            case End():
                self._untold.append((item, end))
                if not self._is_telling:
                    self._is_telling = True
                    self._spawn(self._tell())

    async def _tell(self) -> None:
        """Append what the verdicts mean, all that wait at once: while one append is under way the next gathers."""
        while self._untold:
            told, self._untold = self._untold[:MOST_TOLD], self._untold[MOST_TOLD:]
            await self._deliverer.tell([end for _, end in told])
            for item, _ in told:
                self._end(item)
            self._start()
        self._is_telling = False

    def _burial(self, item: Item, error: DecodeError) -> End:
        """What cannot be read goes to the dead topic as it is."""
        record = dead_record(
            item.origin,
            channel=self._channel,
            delivery=None,
            error_class=error.error_class,
            message=str(error),
            at=self._clock.now(),
            group=item.intake.group,
        )
        logger.warning("dead-lettered %s/%d@%d: %s", *item.origin.topic_partition, item.origin.offset, error)
        return End(records=[record])

    def _end(self, item: Item) -> None:
        item.intake.done(item)
        self._lanes.leave(class_=item.intake.class_, key=item.lane, tenant=item.tenant)

    def _ask_again(self, item: Item) -> None:
        self._held.get(item.intake.class_, self._again).append(item)
        self._start()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

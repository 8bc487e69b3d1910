"""One channel of a worker: which delivery goes next, and what becomes of it."""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Coroutine, Mapping
from typing import Any

from pabal.clock import Clock
from pabal.codec import dead_record
from pabal.errors import DecodeError
from pabal.lanes import Lanes
from pabal.protocol import Held
from pabal.worker.deliver import Deliverer, End
from pabal.worker.intake import Item

logger = logging.getLogger(__name__)

MOST_TOLD = 200
"""Verdicts that share an append: enough to make it cheap, few enough to fit its deadline after an outage."""


class Dispatch:
    """One channel: takes the next item by class weight while a call slot is free, and runs it to its end."""

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        channel: str,
        concurrency: int,
        weights: Mapping[str, int],
        clock: Clock,
    ) -> None:
        self._deliverer = deliverer
        self._channel = channel
        self._free = concurrency
        self._clock = clock
        self._lanes: Lanes[Item] = Lanes(weights)
        self._again: deque[Item] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._untold: list[tuple[Item, End]] = []
        self._is_telling = False
        self._stopped = False
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def put(self, items: Collection[Item]) -> None:
        """Queue items behind those of their order keys, and start what can be started."""
        for item in items:
            self._lanes.put(item, class_=item.intake.class_, key=item.lane)
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

    def _start(self) -> None:
        """Fill the free call slots."""
        while self._free > 0 and (item := self._next()) is not None:
            self._free -= 1
            self._spawn(self._occupy_slot(item))

    def _next(self) -> Item | None:
        """The item that goes next, if any may."""
        while not self._stopped:
            item = self._again.popleft() if self._again else self._lanes.take()
            if item is None or item.intake.is_current(item):
                return item
            self._end(item)  # Its partition has gone to another member, who has it too.
        return None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _occupy_slot(self, item: Item) -> None:
        """One item to its stored verdict, then the next, as long as there are any: a task for each would cost more."""
        following: Item | None = item
        try:
            while following is not None:
                await self._call(following)
                following = self._next()
        finally:
            self._free += 1

    async def _call(self, item: Item) -> None:
        if isinstance(item.delivery, DecodeError):
            end: End | Held | None = self._burial(item, item.delivery)
        else:
            end = await self._deliverer.call(item.delivery, origin=item.origin, group=item.intake.group)
        match end:
            case None:
                self._end(item)
            case Held(seconds=seconds):
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
        self._lanes.leave(class_=item.intake.class_, key=item.lane)

    def _ask_again(self, item: Item) -> None:
        self._again.append(item)
        self._start()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

"""A process that sends: intakes for each class of its channels, a dispatch per channel, commits, an orderly stop."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any

from pabal.broker.port import Broker
from pabal.clock import Clock
from pabal.codec import dead_record
from pabal.config import ChannelSettings, WorkerSettings
from pabal.errors import DecodeError
from pabal.lanes import Lanes
from pabal.notification import CLASSES, Content, NotificationClass, TemplateRef
from pabal.policy import ClassSettings
from pabal.protocol import Held
from pabal.runtime import insist
from pabal.store.port import Ledger
from pabal.worker.deliver import Carrier, Deliverer, End
from pabal.worker.intake import COMMIT_EVERY_SECONDS, Intake, Item

logger = logging.getLogger(__name__)

_PRUNE_EVERY_SECONDS = 600.0


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
        """Let what is running end; returns how many had not by the deadline (they are cancelled)."""
        late: set[asyncio.Task[None]] = set()
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=deadline_seconds)
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
        while self._free > 0 and not self._stopped:
            item = self._again.popleft() if self._again else self._lanes.take()
            if item is None:
                return
            if not item.intake.is_current(item):
                self._end(item)
                continue
            self._free -= 1
            self._spawn(self._run(item))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _run(self, item: Item) -> None:
        """One item to its stored verdict; its call slot is free again from then on."""
        try:
            if isinstance(item.delivery, DecodeError):
                end: End | Held | None = self._burial(item, item.delivery)
            else:
                end = await self._deliverer.call(item.delivery, origin=item.origin, group=item.intake.group)
        finally:
            self._free += 1
            self._start()
        match end:
            case None:
                self._end(item)
            case Held(seconds=seconds):
                asyncio.get_running_loop().call_later(seconds, self._ask_again, item)
            case End():
                self._untold.append((item, end))
                if len(self._untold) == 1 and not self._is_telling:
                    self._is_telling = True
                    self._spawn(self._tell())

    async def _tell(self) -> None:
        """Append what the verdicts mean, all that wait at once: while one append is under way the next gathers."""
        while self._untold:
            told, self._untold = self._untold, []
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


class Worker:
    """Sends the deliveries of the channels it is given. `run` once."""

    def __init__(
        self,
        *,
        broker: Broker,
        ledger: Ledger,
        carriers: Mapping[str, Carrier],
        channels: Mapping[str, ChannelSettings],
        classes: Mapping[NotificationClass, ClassSettings],
        settings: WorkerSettings,
        find_template: Callable[[TemplateRef], Awaitable[Content]],
        clock: Clock,
        name: str | None = None,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._producer = broker.producer()
        weights: dict[str, int] = {class_: classes[class_].weight for class_ in CLASSES}
        self._dispatches: list[Dispatch] = []
        self._intakes: list[Intake] = []
        for channel, carrier in carriers.items():
            deliverer = Deliverer(
                carrier=carrier,
                classes=classes,
                ledger=ledger,
                producer=self._producer,
                find_template=find_template,
                clock=clock,
            )
            dispatch = Dispatch(
                deliverer=deliverer,
                channel=channel,
                concurrency=channels[channel].concurrency,
                weights=weights,
                clock=clock,
            )
            self._dispatches.append(dispatch)
            self._intakes += [
                Intake(
                    broker=broker,
                    channel=channel,
                    class_=class_,
                    window=settings.window,
                    put=dispatch.put,
                    instance=name,
                )
                for class_ in CLASSES
            ]

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping` is set, then drain, commit and leave. Raises what made it fail."""
        try:
            async with asyncio.TaskGroup() as group:
                for intake in self._intakes:
                    group.create_task(intake.run(stopping))
                upkeep = [group.create_task(self._tick()), group.create_task(self._prune_regularly())]
                upkeep += [group.create_task(_raise(dispatch.failure)) for dispatch in self._dispatches]
                await stopping.wait()
                await self._drain(deadline_seconds=self._settings.drain_seconds)
                for task in upkeep:
                    task.cancel()
        finally:
            await self._drain(deadline_seconds=0.0)
            await asyncio.gather(*(intake.close() for intake in self._intakes))
            await self._producer.close()

    async def _drain(self, *, deadline_seconds: float) -> None:
        for dispatch in self._dispatches:
            dispatch.stop()
        drains = [dispatch.drain(deadline_seconds=deadline_seconds) for dispatch in self._dispatches]
        if late := sum(await asyncio.gather(*drains)):
            logger.warning("%d deliveries had not ended after %.0f s; they come again", late, deadline_seconds)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_SECONDS)
            for dispatch in self._dispatches:
                dispatch.cancel_overdue()
            for intake in self._intakes:
                await intake.commit()

    async def _prune_regularly(self) -> None:
        while True:
            pruned = await insist(lambda: self._ledger.prune(now=self._clock.now()))
            if pruned:
                logger.info("forgot %d deliveries whose time is over", pruned)
            await asyncio.sleep(_PRUNE_EVERY_SECONDS)


async def _raise(failure: "asyncio.Future[None]") -> None:
    await failure

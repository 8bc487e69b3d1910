"""A process that sends: intakes for each class of its channels, a dispatch per channel, commits, an orderly stop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from pabal.broker.port import Broker
from pabal.clock import Clock
from pabal.config import ChannelSettings, WorkerSettings
from pabal.notification import CLASSES, Content, NotificationClass, TemplateRef
from pabal.policy import ClassSettings
from pabal.runtime import insist
from pabal.store.port import Ledger
from pabal.tracing.port import Tracing
from pabal.worker.deliver import Carrier, Deliverer
from pabal.worker.dispatch import Dispatch
from pabal.worker.intake import COMMIT_EVERY_SECONDS, Intake

logger = logging.getLogger(__name__)

_PRUNE_EVERY_SECONDS = 600.0
_WATCH_EVERY_SECONDS = 1.0


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
        tracing: Tracing | None = None,
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
                tracing=tracing,
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
        """Send until `stopping` is set, then drain, commit and leave. Raises what made it fail, in order as well."""
        drained = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                for intake in self._intakes:
                    group.create_task(intake.run(stopping, drained))
                upkeep = [group.create_task(each()) for each in (self._commit, self._watch_calls, self._prune)]
                upkeep += [group.create_task(_raise(dispatch.failure)) for dispatch in self._dispatches]
                await stopping.wait()
                await self._drain()
                drained.set()
                for task in upkeep:
                    task.cancel()
        finally:
            await self._drain()
            closed = await asyncio.gather(*(intake.close() for intake in self._intakes), return_exceptions=True)
            for error in filter(None, closed):
                logger.error("leaving a group: %s", error)
            await self._producer.close()

    async def _drain(self) -> None:
        for dispatch in self._dispatches:
            dispatch.stop()
        deadline = self._settings.drain_seconds
        late = sum(await asyncio.gather(*(dispatch.drain(deadline_seconds=deadline) for dispatch in self._dispatches)))
        if late:
            logger.warning("%d deliveries had not ended after %.0f s; they come again", late, deadline)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_SECONDS)
            for intake in self._intakes:
                await intake.commit()

    async def _watch_calls(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_EVERY_SECONDS)
            for dispatch in self._dispatches:
                dispatch.cancel_overdue()

    async def _prune(self) -> None:
        while True:
            pruned = await insist(lambda: self._ledger.prune(now=self._clock.now()))
            if pruned:
                logger.info("forgot %d deliveries whose time is over", pruned)
            await asyncio.sleep(_PRUNE_EVERY_SECONDS)


async def _raise(failure: "asyncio.Future[None]") -> None:
    await failure

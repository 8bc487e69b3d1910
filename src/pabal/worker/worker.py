"""A process that sends: its channels, and what they need done beside: commits, pruning, an orderly stop."""

import asyncio
import functools
import itertools
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence

from pabal.broker.port import Broker
from pabal.clock import Clock
from pabal.config import ChannelSettings, WorkerSettings
from pabal.guard import DEFAULT_GUARD, Callee, GuardSettings
from pabal.ledger.port import Ledger
from pabal.notification import Content, NotificationClass, TemplateRef
from pabal.ops.follower import OpsFollower
from pabal.policy import ClassSettings
from pabal.runtime import insist
from pabal.tracing.port import Tracing
from pabal.worker.carrier import Carrier
from pabal.worker.channel import Shared, WorkerChannel
from pabal.worker.class_brakes import ClassBrakes
from pabal.worker.deed import Observer
from pabal.worker.intake import COMMIT_EVERY_SECONDS
from pabal.worker.recovery_notices import RecoveryNotices

logger = logging.getLogger(__name__)

_PRUNE_EVERY_SECONDS = 600.0
_WATCH_EVERY_SECONDS = 1.0
_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+>?")
_REASON_SHOWN = 200


class Worker:
    """Sends the deliveries of the channels it is given. `run` once. `channels` can be held and slowed meanwhile."""

    def __init__(
        self,
        *,
        broker: Broker,
        ops: OpsFollower,
        ledger: Ledger,
        carriers: Mapping[str, Carrier],
        channels: Mapping[str, ChannelSettings],
        classes: Mapping[NotificationClass, ClassSettings],
        settings: WorkerSettings,
        find_template: Callable[[TemplateRef], Awaitable[Content]],
        clock: Clock,
        name: str | None = None,
        tracing: Tracing | None = None,
        observers: Sequence[Observer] = (),
        guard: GuardSettings = DEFAULT_GUARD,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._producer = broker.producer()
        self._admin = broker.admin()
        self._ops = ops
        self._brakes = ClassBrakes(producer=self._producer, clock=clock)
        ops.attend(self._brakes.fold)
        self._recoveries = RecoveryNotices(producer=self._producer, clock=clock)
        shared = Shared(
            broker=broker,
            producer=self._producer,
            ledger=ledger,
            classes=classes,
            find_template=find_template,
            clock=clock,
            tracing=tracing,
            observers=observers,
            guard=guard,
            window=settings.window,
            instance=name,
            random=random,
        )
        self.channels: Mapping[str, WorkerChannel] = {
            channel: WorkerChannel(
                channel,
                carrier=carrier,
                concurrency=channels[channel].concurrency,
                shared=shared,
                on_change=functools.partial(self._on_change, channel),
                on_braked=self._brakes.on_braked,
            )
            for channel, carrier in carriers.items()
        }
        for each in self.channels.values():
            self._brakes.attend(each)

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping` is set or something fails; then drain, commit and leave. Raises what failed."""
        drained = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                # What was braked before this start is braked from the first record on.
                await self._ops.catch_up()
                group.create_task(self._ops.run(stopping))
                for channel in self.channels.values():
                    group.create_task(channel.run(stopping, drained))
                duties = (self._commit, self._watch_calls, self._prune, self._brakes.run, self._recoveries.run)
                upkeep = [group.create_task(each()) for each in duties]
                upkeep += [group.create_task(each.follow_rates(self._admin)) for each in self.channels.values()]
                await stopping.wait()
                await self._drain()
                drained.set()
                for task in upkeep:
                    task.cancel()
        finally:
            await self._drain()
            closed = await asyncio.gather(*(channel.close() for channel in self.channels.values()))
            for error in itertools.chain(*closed):
                logger.error("leaving a group: %s", error)
            await self._producer.close()
            await self._admin.close()

    def _on_change(self, channel: str, callee: Callee, now: float) -> None:
        _say_change(callee, now)
        self._recoveries.on_change(channel, callee)

    async def _drain(self) -> None:
        deadline = self._settings.drain_seconds
        drains = [channel.drain(deadline_seconds=deadline) for channel in self.channels.values()]
        late = sum(await asyncio.gather(*drains))
        if late:
            logger.warning("%d deliveries had not ended after %.0f s; they come again", late, deadline)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_SECONDS)
            for channel in self.channels.values():
                await channel.commit()

    async def _watch_calls(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_EVERY_SECONDS)
            for channel in self.channels.values():
                channel.watch()

    async def _prune(self) -> None:
        while True:
            pruned = await insist(lambda: self._ledger.prune(now=self._clock.now()))
            if pruned:
                logger.info("forgot %d deliveries whose time is over", pruned)
            await asyncio.sleep(_PRUNE_EVERY_SECONDS)


def _say_change(callee: Callee, now: float) -> None:
    if callee.state == "open":
        # In one line, whatever the far side said, and without the recipient that it may have repeated.
        why = _ADDRESS.sub("<address>", " ".join((callee.last_reason or "").split()))[:_REASON_SHOWN]
        seconds = callee.circuit.reopens_in(now)
        logger.warning("circuit open: %s is not called for %.0f s: %s", callee.name, seconds, why)
    else:
        logger.warning("circuit closed: %s is called again, slowly at first", callee.name)

"""A process that sends: intakes for each class of its channels, a dispatch per channel, commits, an orderly stop."""

import asyncio
import functools
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping

from pabal.broker.port import Broker
from pabal.clock import Clock
from pabal.config import ChannelSettings, WorkerSettings
from pabal.guard import DEFAULT_GUARD, BrakeTrigger, Callee, Guard, Guarded, GuardSettings
from pabal.ledger.port import Ledger
from pabal.notification import CLASSES, Content, NotificationClass, TemplateRef
from pabal.ops.follower import OpsFollower
from pabal.policy import ClassSettings
from pabal.providers.port import KnowsHosts
from pabal.runtime import insist
from pabal.tracing.port import Tracing
from pabal.worker.class_brakes import ClassBrakes
from pabal.worker.deliver import Carrier, Deliverer
from pabal.worker.dispatch import Dispatch
from pabal.worker.intake import COMMIT_EVERY_SECONDS, Intake
from pabal.worker.rates import SharedRates
from pabal.worker.recovery_notices import RecoveryNotices

logger = logging.getLogger(__name__)

_PRUNE_EVERY_SECONDS = 600.0
_WATCH_EVERY_SECONDS = 1.0
_ADDRESS = re.compile(r"<?[^\s<>]+@[^\s<>]+>?")
_REASON_SHOWN = 200


class Worker:
    """Sends the deliveries of the channels it is given. `run` once."""

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
        guard: GuardSettings = DEFAULT_GUARD,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._producer = broker.producer()
        weights: dict[str, int] = {class_: classes[class_].weight for class_ in CLASSES}
        self._admin = broker.admin()
        self._ops = ops
        self._brakes = ClassBrakes(producer=self._producer, clock=clock)
        ops.attend(self._brakes.fold)
        self._recoveries = RecoveryNotices(producer=self._producer, clock=clock)
        self._dispatches: list[Dispatch] = []
        self._guards: list[Guard] = []
        self._rates: list[SharedRates] = []
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
            channel_guard = Guard(
                providers={name: _guarded(each) for name, each in carrier.by_name.items()},
                concurrency=channels[channel].concurrency,
                settings=guard,
                random=random,
                on_change=functools.partial(self._on_change, channel),
            )
            dispatch = Dispatch(
                deliverer=deliverer,
                guard=channel_guard,
                channel=channel,
                concurrency=channels[channel].concurrency,
                most_in_line=settings.window // 2,
                weights=weights,
                clock=clock,
            )
            rates = SharedRates(channel_guard)
            intakes = [
                Intake(
                    broker=broker,
                    channel=channel,
                    class_=class_,
                    window=settings.window,
                    put=dispatch.put,
                    instance=name,
                    brake=BrakeTrigger(ratio=guard.brake_ratio, records=guard.brake_records),
                    on_braked=self._brakes.on_braked,
                    on_owned=rates.settle,
                    ledger=ledger,
                    clock=clock,
                )
                for class_ in CLASSES
            ]
            dispatch.feed_from(intakes)
            rates.attend(intakes)
            self._brakes.attend(intakes, dispatch)
            self._dispatches.append(dispatch)
            self._guards.append(channel_guard)
            self._rates.append(rates)
            self._intakes += intakes

    async def run(self, stopping: asyncio.Event) -> None:
        """Send until `stopping` is set, then drain, commit and leave. Raises what made it fail, in order as well."""
        drained = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                # What was braked before this start is braked from the first record on.
                await self._ops.catch_up()
                group.create_task(self._ops.run(stopping))
                for intake in self._intakes:
                    group.create_task(intake.run(stopping, drained))
                duties = (self._commit, self._watch_calls, self._prune, self._brakes.run, self._recoveries.run)
                upkeep = [group.create_task(each()) for each in duties]
                upkeep += [group.create_task(rates.follow(self._admin)) for rates in self._rates]
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
            await self._admin.close()

    def _on_change(self, channel: str, callee: Callee, now: float) -> None:
        _say_change(callee, now)
        self._recoveries.on_change(channel, callee)

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
            for guard in self._guards:
                guard.forget_idle(self._clock.boot_seconds())

    async def _prune(self) -> None:
        while True:
            pruned = await insist(lambda: self._ledger.prune(now=self._clock.now()))
            if pruned:
                logger.info("forgot %d deliveries whose time is over", pruned)
            await asyncio.sleep(_PRUNE_EVERY_SECONDS)


def _guarded(carrier: Carrier) -> Guarded:
    provider = carrier.provider
    return Guarded(
        host_of=provider.host_of if isinstance(provider, KnowsHosts) else None,
        weight=carrier.weight,
        rate_per_second=carrier.rate_per_second,
    )


def _say_change(callee: Callee, now: float) -> None:
    if callee.state == "open":
        # In one line, whatever the far side said, and without the recipient that it may have repeated.
        why = _ADDRESS.sub("<address>", " ".join((callee.last_reason or "").split()))[:_REASON_SHOWN]
        seconds = callee.circuit.reopens_in(now)
        logger.warning("circuit open: %s is not called for %.0f s: %s", callee.name, seconds, why)
    else:
        logger.warning("circuit closed: %s is called again, slowly at first", callee.name)


async def _raise(failure: "asyncio.Future[None]") -> None:
    await failure

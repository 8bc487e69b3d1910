"""One channel of a worker: its intakes, dispatch, guard and rates, behind one handle."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

import msgspec

from pabal.broker.port import Admin, Broker, Producer
from pabal.clock import Clock
from pabal.errors import DecodeError
from pabal.guard import BrakeTrigger, Callee, Guard, Guarded, GuardSettings, ProviderStanding
from pabal.ledger.port import Ledger
from pabal.notification import CLASSES, Content, NotificationClass, TemplateRef
from pabal.policy import ClassSettings
from pabal.providers.port import KnowsHosts
from pabal.tracing.port import Tracing
from pabal.worker.carrier import Carrier
from pabal.worker.deed import Observer
from pabal.worker.deliver import Deliverer
from pabal.worker.dispatch import Dispatch
from pabal.worker.holds import HoldReason, IdleReason
from pabal.worker.intake import Intake
from pabal.worker.rates import SharedRates
from pabal.worker.sending import Sender
from pabal.worker.telling import Teller


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """What the channels of one worker share.

    `instance` is the worker's name in its consumer groups; `window` is the most records of a class in memory; `random`
    (0 to 1) spreads what would come back together.
    """

    broker: Broker
    producer: Producer
    ledger: Ledger
    classes: Mapping[NotificationClass, ClassSettings]
    find_template: Callable[[TemplateRef], Awaitable[Content]]
    clock: Clock
    tracing: Tracing | None
    observers: Sequence[Observer]
    guard: GuardSettings
    window: int
    instance: str | None
    random: Callable[[], float]


class WorkerChannel:
    """Sends the deliveries of one channel, and can be told to hold a class, to slow a provider down, or to pause.

    A class may be held for several reasons at once; it goes on when the last of them is let go. While it is held, no
    further call of that class begins: neither of what is in the log nor of what this worker has read before. What has a
    call slot by then goes on to its end. Nothing is lost: what is held is not committed. Nothing is sent late: what
    expires while it is held is told as `expired` when the class goes on.

    `on_change` is called with each change of a circuit, `on_braked` for each class that this channel has braked by
    itself.
    """

    def __init__(
        self,
        name: str,
        *,
        carrier: Carrier,
        concurrency: int,
        shared: Shared,
        on_change: Callable[[Callee, float], None],
        on_braked: Callable[["WorkerChannel", NotificationClass, str], None],
    ) -> None:
        self.name = name
        self._clock = shared.clock
        self._on_braked = on_braked
        self._guard = Guard(
            providers={each: _guarded(own) for each, own in carrier.by_name.items()},
            concurrency=concurrency,
            settings=shared.guard,
            random=shared.random,
            on_change=on_change,
        )
        self._rates = SharedRates(self._guard)
        self._sender = Sender(clock=shared.clock, tracing=shared.tracing)
        self._dispatch = _dispatch(
            name, carrier=carrier, concurrency=concurrency, guard=self._guard, sender=self._sender, shared=shared
        )
        self.intakes: Mapping[NotificationClass, Intake] = {
            class_: Intake(
                broker=shared.broker,
                channel=name,
                class_=class_,
                window=shared.window,
                put=self._dispatch.put,
                instance=shared.instance,
                brake=BrakeTrigger(ratio=shared.guard.brake_ratio, records=shared.guard.brake_records),
                on_braked=functools.partial(self._brake, class_),
                on_owned=self._rates.settle,
                ledger=shared.ledger,
                clock=shared.clock,
            )
            for class_ in CLASSES
        }
        self._dispatch.attend(self.intakes.values())
        self._rates.attend([*self.intakes.values()])

    def hold(self, class_: NotificationClass, reason: HoldReason) -> None:
        """Begin no further call of this class, until `let_go` for the same reason. Safe to repeat."""
        self.intakes[class_].hold(reason)
        self._dispatch.hold(class_)

    def let_go(self, class_: NotificationClass, reason: HoldReason) -> None:
        """Go on with this class, unless it is held for another reason. Harmless when it was not held."""
        intake = self.intakes[class_]
        intake.let_go(reason)
        if not {*intake.holds} - {"guard"}:
            self._dispatch.let_go(class_)

    def holds(self, class_: NotificationClass) -> Collection[IdleReason]:
        """Why this class takes nothing from the log at the moment; empty: it does."""
        return self.intakes[class_].holds

    def standings(self) -> Sequence[ProviderStanding]:
        """How each of its providers stands."""
        return self._guard.standings()

    def pause(self, reason: HoldReason) -> None:
        """Hold every class of the channel."""
        for class_ in self.intakes:
            self.hold(class_, reason)

    def resume(self, reason: HoldReason) -> None:
        """Let every class of the channel go."""
        for class_ in self.intakes:
            self.let_go(class_, reason)

    def throttle(self, provider: str, per_second: float | None) -> None:
        """Call a provider at most so often, all workers together; None: as often as its configuration allows.

        A configured rate that is lower stays. Raises KeyError for a provider that this channel does not have.
        """
        self._rates.throttle(provider, per_second)

    def trust(self, class_: NotificationClass, *, until: float) -> None:
        """A person has looked: do not brake this class by what cannot be read, until a time of the boot clock."""
        self.intakes[class_].brake.release(until=until)

    async def run(self, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        """Send until `stopping`, and stay a member of the groups until `drained`. Raises what makes that impossible."""
        async with asyncio.TaskGroup() as group:
            failing = group.create_task(_raise(self._dispatch.failure))
            reading = [group.create_task(intake.run(stopping, drained)) for intake in self.intakes.values()]
            await asyncio.wait(reading)
            failing.cancel()

    async def follow_rates(self, admin: Admin) -> None:
        """Know this worker's share of the providers' rates, for ever."""
        await self._rates.follow(admin)

    def watch(self) -> None:
        """End calls that are overdue, and forget callees that are not called any more. To be called once a second."""
        self._sender.end_overdue()
        self._guard.forget_idle(self._clock.boot_seconds())

    async def commit(self) -> None:
        """Commit what is done."""
        for intake in self.intakes.values():
            await intake.commit()

    async def drain(self, *, deadline_seconds: float) -> int:
        """Begin no further call; let what has begun end, and be told. Returns how many had not by the deadline."""
        self._dispatch.stop()
        return await self._dispatch.drain(deadline_seconds=deadline_seconds)

    async def close(self) -> Sequence[BaseException]:
        """Commit and leave the groups. Returns what went wrong with that, for each group of which it did."""
        ends = await asyncio.gather(*(intake.close() for intake in self.intakes.values()), return_exceptions=True)
        return [error for error in ends if error is not None]

    def _brake(self, class_: NotificationClass, error: DecodeError) -> None:
        """Too much of what this class reads is unreadable."""
        self.hold(class_, "brake")
        brake = self.intakes[class_].brake
        self._on_braked(self, class_, f"{brake.unreadable} of {brake.read} records cannot be read, such as: {error}")


def _dispatch(
    name: str, *, carrier: Carrier, concurrency: int, guard: Guard, sender: Sender, shared: Shared
) -> Dispatch:
    deliverer = Deliverer(
        carrier=carrier,
        classes=shared.classes,
        ledger=shared.ledger,
        find_template=shared.find_template,
        clock=shared.clock,
        sender=sender,
        is_observed=bool(shared.observers),
    )
    return Dispatch(
        deliverer=deliverer,
        teller=Teller(producer=shared.producer, ledger=shared.ledger, observers=shared.observers),
        guard=guard,
        channel=name,
        concurrency=concurrency,
        most_in_queues=shared.window // 2,
        weights={class_: shared.classes[class_].weight for class_ in CLASSES},
        clock=shared.clock,
    )


def _guarded(carrier: Carrier) -> Guarded:
    provider = carrier.provider
    return Guarded(
        host_of=provider.host_of if isinstance(provider, KnowsHosts) else None,
        weight=carrier.weight,
        rate_per_second=carrier.rate_per_second,
    )


async def _raise(failure: "asyncio.Future[None]") -> None:
    await failure

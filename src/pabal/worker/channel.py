"""One channel of a worker: its intakes, dispatch, guard and rates, behind one handle."""

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from pabal.broker.port import Broker, Producer
from pabal.clock import Clock
from pabal.errors import DecodeError
from pabal.guard import Brake, Callee, Guard, Guarded, GuardSettings
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


class WorkerChannel:
    """Sends the deliveries of one channel, and can be told to hold a class, to slow a provider down, or to pause.

    A class may be held for several reasons at once; it goes on when the last of them is let go. While it is held no
    further call of that class begins, neither of what is in the log nor of what this worker has read before; what has a
    call slot by then goes on to its end. Nothing is lost by that: what is held is not committed. Its deadlines hold:
    what expired meanwhile is told as `expired` when the class goes on.

    `on_change` hears each change of a circuit, `on_braked` of each class that this channel has braked by itself.
    """

    def __init__(
        self,
        name: str,
        *,
        carrier: Carrier,
        concurrency: int,
        window: int,
        classes: Mapping[NotificationClass, ClassSettings],
        broker: Broker,
        producer: Producer,
        ledger: Ledger,
        find_template: Callable[[TemplateRef], Awaitable[Content]],
        clock: Clock,
        tracing: Tracing | None,
        observers: Sequence[Observer],
        guard: GuardSettings,
        random: Callable[[], float],
        on_change: Callable[[Callee, float], None],
        on_braked: Callable[["WorkerChannel", NotificationClass, str], None],
        instance: str | None,
    ) -> None:
        """`window` is the most records of each class in memory; `instance` is the worker's name in its groups."""
        self.name = name
        self._clock = clock
        self._on_braked = on_braked
        self._guard = Guard(
            providers={each: _guarded(own) for each, own in carrier.by_name.items()},
            concurrency=concurrency,
            settings=guard,
            random=random,
            on_change=on_change,
        )
        self._rates = SharedRates(self._guard)
        self._sender = Sender(clock=clock, tracing=tracing)
        self._dispatch = Dispatch(
            deliverer=Deliverer(
                carrier=carrier,
                classes=classes,
                ledger=ledger,
                find_template=find_template,
                clock=clock,
                sender=self._sender,
                is_observed=bool(observers),
            ),
            teller=Teller(producer=producer, ledger=ledger, observers=observers),
            guard=self._guard,
            channel=name,
            concurrency=concurrency,
            most_in_queues=window // 2,
            weights={class_: classes[class_].weight for class_ in CLASSES},
            clock=clock,
        )
        self.intakes: Mapping[NotificationClass, Intake] = {
            class_: Intake(
                broker=broker,
                channel=name,
                class_=class_,
                window=window,
                put=self._dispatch.put,
                instance=instance,
                brake=Brake(ratio=guard.brake_ratio, records=guard.brake_records),
                on_braked=functools.partial(self._brake, class_),
                on_owned=self._rates.settle,
                ledger=ledger,
                clock=clock,
            )
            for class_ in CLASSES
        }
        self._dispatch.attend(self.intakes.values())
        self._rates.attend([*self.intakes.values()])
        self.failure = self._dispatch.failure
        """Ends with what makes the worker fail."""
        self.follow_rates = self._rates.follow
        self.drain = self._dispatch.drain
        self.stop = self._dispatch.stop

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
        """Do not brake this class by what cannot be read, until a time of the boot clock: a person has looked."""
        self.intakes[class_].brake.release(until=until)

    def watch(self) -> None:
        """End calls that are overdue, and forget callees that are not called any more. To be called once a second."""
        self._sender.end_overdue()
        self._guard.forget_idle(self._clock.boot_seconds())

    def _brake(self, class_: NotificationClass, error: DecodeError) -> None:
        """Too much of what this class reads is unreadable."""
        self.hold(class_, "brake")
        brake = self.intakes[class_].brake
        self._on_braked(self, class_, f"{brake.unreadable} of {brake.read} records cannot be read, such as: {error}")


def _guarded(carrier: Carrier) -> Guarded:
    provider = carrier.provider
    return Guarded(
        host_of=provider.host_of if isinstance(provider, KnowsHosts) else None,
        weight=carrier.weight,
        rate_per_second=carrier.rate_per_second,
    )

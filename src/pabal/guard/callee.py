"""What is called, a provider or what is behind it: circuit, limit and rate, and how long its queue may be. Pure."""

from collections.abc import Callable

from pabal.guard.circuit import Circuit, CircuitSettings, CircuitState
from pabal.guard.limit import Limit
from pabal.guard.parks import LONGEST_PARK_SECONDS, Parks
from pabal.guard.rate import Rate

PATIENCE_SECONDS = 2.0
"""A refusal that lasts longer is not waited for in memory: the delivery is parked, or the channel pauses."""

_PROBING_QUEUE = 8
"""How many deliveries may wait while probes find out whether the callee is back."""
_SHORTEST_SECONDS = 0.00001


class Callee:
    """A provider, or what is called behind it. Times as in `Circuit`.

    A call is counted twice: by `begin` when it is permitted, by `limit.call` when it is made. It ends by `end` and
    `leave`, or, when it was never made, by `give_back`. `on_change` hears each change of the circuit; `has_parked`
    tells it whether anything was parked since the circuit was closed the last time, `last_reason` why the last call
    that failed did.
    """

    __slots__ = (
        "_on_change",
        "_parks",
        "circuit",
        "has_parked",
        "last_reason",
        "limit",
        "name",
        "rate",
        "used_at",
    )

    def __init__(
        self,
        name: str,
        *,
        most: float,
        rate_per_second: float | None,
        circuit: CircuitSettings,
        random: Callable[[], float],
        on_change: Callable[["Callee", float], None],
    ) -> None:
        self.name = name
        self.circuit = Circuit(circuit, random=random)
        self.limit = Limit(most=most)
        self.rate = Rate(rate_per_second)
        self.used_at = 0.0
        self._parks = Parks(random=random)
        self._on_change = on_change
        self.has_parked = False
        self.last_reason: str | None = None

    def is_free(self, now: float) -> bool:
        """Whether one more call may begin now."""
        limit = self.limit
        return (
            limit.in_flight < int(limit.value)
            and (self.circuit.state == "closed" or self.circuit.admits(now))
            and (self.rate.per_second is None or self.rate.ready_in(now) <= 0.0)
        )

    def begin(self, now: float) -> bool:
        """A call is permitted. Returns whether it is a probe."""
        self.used_at = now
        self.limit.in_flight += 1
        if self.rate.per_second is not None:
            self.rate.take(now)
        return self.circuit.state != "closed" and self.circuit.begin()

    def give_back(self, *, is_probe: bool) -> None:
        """A permitted call was not made."""
        self.limit.in_flight -= 1
        self.rate.give_back()
        self.circuit.give_back(is_probe=is_probe)

    def end(
        self,
        *,
        is_ok: bool,
        is_probe: bool,
        began: float,
        now: float,
        is_certain: bool = False,
        not_before: float | None = None,
        counts: bool = True,
    ) -> None:
        """A call that was made ended. For `is_certain` and `not_before` see `Circuit.end`.

        A call that does not count says nothing about whether this callee should be called: its circuit stays as it is.
        """
        self.limit.end(is_ok=is_ok, began=began, now=now)
        if is_ok and not is_probe and counts:
            self.circuit.end_well(now)
        elif counts:
            self.count(is_ok=is_ok, is_probe=is_probe, now=now, is_certain=is_certain, not_before=not_before)
        else:
            self.circuit.give_back(is_probe=is_probe)

    def count(
        self, *, is_ok: bool, is_probe: bool, now: float, is_certain: bool = False, not_before: float | None = None
    ) -> None:
        """Tell the circuit of a call, which was not counted by `begin` if it is no probe."""
        before = self.circuit.state
        self.circuit.end(is_ok=is_ok, is_probe=is_probe, now=now, is_certain=is_certain, not_before=not_before)
        if self.circuit.state != before:
            self.changed(now)

    def recover(self, now: float) -> None:
        """Close the circuit, whatever was counted."""
        was_closed = self.state == "closed"
        self.circuit.close(now)
        if not was_closed:
            self.changed(now)

    def leave(self) -> None:
        """Nothing more is to be done about a call that ended: its place is free."""
        self.limit.in_flight -= 1

    def trip(self, now: float) -> None:
        """Open the circuit, whatever was counted."""
        self.circuit.trip(now)
        self.changed(now)

    def changed(self, now: float) -> None:
        """The circuit has changed: what was shut begins low."""
        if self.state == "closed":
            self.limit.start_low(now)
        self._on_change(self, now)
        if self.state == "closed":
            self.has_parked = False

    @property
    def state(self) -> CircuitState:
        """The circuit's."""
        return self.circuit.state

    def is_idle(self, now: float, *, seconds: float) -> bool:
        """Whether it was of no use for so long. A callee that is refused is remembered a good while longer."""
        kept_seconds = seconds + (0.0 if self.state == "closed" else LONGEST_PARK_SECONDS)
        return self.limit.in_flight == 0 and now - max(self.used_at, self.circuit.open_until) > kept_seconds

    def is_answering(self, now: float) -> bool:
        """Whether calls to it are made, and end."""
        return self.circuit.state == "closed" and self.limit.is_answering(now)

    def room(self, now: float) -> int:
        """How many deliveries may wait in memory: as many as have their turn within `PATIENCE_SECONDS` (Little's
        law)."""
        if self.circuit.state == "open":
            return 0 if self.circuit.reopens_in(now) > PATIENCE_SECONDS else _PROBING_QUEUE
        if self.circuit.state == "half_open":
            return _PROBING_QUEUE
        return int(PATIENCE_SECONDS / max(_seconds_each(self.limit, self.rate, now), _SHORTEST_SECONDS))

    def park_seconds(self, *, parks: int, now: float) -> float:
        """For how long a delivery that does not fit is parked; `parks` says how often in a row it was already."""
        self.has_parked = True
        return self._parks.next_seconds(
            parks=parks,
            seconds_each=_seconds_each(self.limit, self.rate, now),
            reopens_in=self.circuit.reopens_in(now),
            is_answering=self.is_answering(now),
            now=now,
        )


def _seconds_each(limit: Limit, rate: Rate, now: float) -> float:
    """How much time passes from one begin to the next while as many calls as may be are under way."""
    by_calls = limit.latency(now) / int(limit.reach)
    return max(by_calls, 1.0 / rate.per_second if rate.per_second else 0.0)

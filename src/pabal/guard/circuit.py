"""When to stop calling: a circuit breaker over a sliding window, with probes before it closes again. Pure.

*Closed*: calls go, and their ends are counted. *Open*: no call goes until a time. *Half-open*: a few probes go; their
ends close the circuit or open it again for twice as long (Nygard, Release It!, 2007).
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from pabal.guard.probes import Probes

CircuitState = Literal["closed", "open", "half_open"]


class CircuitSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens, for how long, and what closes it.

    It opens when at least `minimum_calls` ended within `window_seconds` and `failure_ratio` of them failed. It stays
    open for `open_seconds`, twice as long each time the probes fail, up to `longest_open_seconds`. Of the probes,
    `successes_to_close` close it and `failures_to_open` open it again.
    """

    failure_ratio: float = 0.5
    minimum_calls: int = 10
    window_seconds: float = 30.0
    open_seconds: float = 5.0
    longest_open_seconds: float = 30.0
    successes_to_close: int = 3
    failures_to_open: int = 1


class Circuit:
    """One circuit. Times are seconds of one clock that never steps back; `random` (0 to 1) spreads the reopenings.

    The window is kept in two halves, so what counts is between half and the whole of it: four numbers for each host.
    """

    __slots__ = (
        "_before_bad",
        "_before_ok",
        "_half_seconds",
        "_half_since",
        "_now_bad",
        "_now_ok",
        "_probes",
        "_random",
        "_settings",
        "_trips",
        "open_until",
        "state",
    )

    def __init__(self, settings: CircuitSettings, *, random: Callable[[], float]) -> None:
        self._settings = settings
        self._half_seconds = settings.window_seconds / 2
        self._random = random
        self.state: CircuitState = "closed"
        self.open_until = 0.0
        self._trips = 0
        self._half_since = 0.0
        self._now_ok = self._now_bad = self._before_ok = self._before_bad = 0
        self._probes = Probes(enough_ok=settings.successes_to_close, enough_bad=settings.failures_to_open)

    def admits(self, now: float) -> bool:
        """Whether a call may begin now; an open circuit whose time is over becomes half-open."""
        if self.state == "closed":
            return True
        if self.state == "open":
            if now < self.open_until:
                return False
            self.state = "half_open"
            self._probes.clear()
        return self._probes.may_begin

    def reopens_in(self, now: float) -> float:
        """Seconds until an open circuit lets the first probe through; 0 when it is not open."""
        return max(self.open_until - now, 0.0) if self.state == "open" else 0.0

    def begin(self) -> bool:
        """A call begins that `admits` let through. Returns whether it is a probe, which `end` and `give_back` ask."""
        if self.state == "closed":
            return False
        self._probes.under_way += 1
        return True

    def give_back(self, *, is_probe: bool) -> None:
        """A call that was begun was not made after all."""
        if is_probe and self.state == "half_open":
            self._probes.under_way -= 1

    def end(
        self, *, is_ok: bool, is_probe: bool, now: float, is_certain: bool = False, not_before: float | None = None
    ) -> None:
        """A call ended. `is_certain`: one such failure is enough, unless other calls succeed meanwhile.

        `not_before`: the far side named a time before which it wants no calls; if this opens the circuit, it stays
        open until then.
        """
        if self.state == "closed":
            self._count(is_ok=is_ok, now=now)
            if not is_ok and self._is_tripped(is_certain=is_certain):
                self.trip(now, not_before=not_before)
        elif self.state == "half_open" and is_probe:
            match self._probes.end(is_ok=is_ok):
                case "close":
                    self.close(now)
                case "open":
                    self.trip(now, not_before=not_before)
        # What was begun before the circuit opened says nothing new.

    def end_well(self, now: float) -> None:
        """A call ended well, and was no probe: `end` for what nearly all calls are."""
        if self.state == "closed":
            if now - self._half_since >= self._half_seconds:
                self._turn(now)
            self._now_ok += 1

    def trip(self, now: float, *, not_before: float | None = None) -> None:
        """Open, whatever was counted."""
        own = self._settings
        seconds = min(own.open_seconds * 2.0**self._trips, own.longest_open_seconds)
        # Spread upwards: the processes of an installation should not probe in the same moment.
        seconds *= 1.0 + 0.2 * self._random()
        self.state = "open"
        self.open_until = max(now + seconds, not_before or 0.0)
        self._trips = min(self._trips + 1, 32)

    def close(self, now: float) -> None:
        """Close, whatever was counted; what was is forgotten."""
        self.state = "closed"
        self._trips = 0
        self._clear(now)

    def _is_tripped(self, *, is_certain: bool) -> bool:
        bad = self._now_bad + self._before_bad
        calls = bad + self._now_ok + self._before_ok
        enough = is_certain or calls >= self._settings.minimum_calls
        return enough and bad >= self._settings.failure_ratio * calls

    def _count(self, *, is_ok: bool, now: float) -> None:
        if now - self._half_since >= self._half_seconds:
            self._turn(now)
        if is_ok:
            self._now_ok += 1
        else:
            self._now_bad += 1

    def _turn(self, now: float) -> None:
        """Begin the next half of the window."""
        is_next = now - self._half_since < 2 * self._half_seconds
        self._before_ok, self._before_bad = (self._now_ok, self._now_bad) if is_next else (0, 0)
        self._now_ok = self._now_bad = 0
        self._half_since = now

    def _clear(self, now: float) -> None:
        self._half_since = now
        self._now_ok = self._now_bad = self._before_ok = self._before_bad = 0
        self._probes.clear()

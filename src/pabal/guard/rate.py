"""How often may be called: the generic cell rate algorithm (ITU-T I.371), a token bucket in one number. Pure."""

BURST_SECONDS = 0.1
"""What an unused moment may be made up for: enough for a dispatcher that looks every few hundredths of a second."""


class Rate:
    """At most `per_second` calls, evenly; None: as many as there are. Times as in `Circuit`."""

    __slots__ = ("_next_at", "per_second")

    def __init__(self, per_second: float | None) -> None:
        self.per_second = per_second
        self._next_at = 0.0

    def ready_in(self, now: float) -> float:
        """Seconds until a call may begin; 0: now."""
        if self.per_second is None:
            return 0.0
        if self.per_second <= 0:
            return 1.0
        return max(self._next_at - BURST_SECONDS - now, 0.0)

    def take(self, now: float) -> None:
        """A call begins."""
        if self.per_second:
            self._next_at = max(self._next_at, now) + 1.0 / self.per_second

    def give_back(self) -> None:
        """A call that was begun was not made after all."""
        if self.per_second:
            self._next_at -= 1.0 / self.per_second

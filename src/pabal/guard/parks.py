"""For how long deliveries are parked for one callee: they come back one after the other, as it serves them. Pure."""

from collections.abc import Callable

FIRST_PARK_SECONDS = 5.0
LONGEST_PARK_SECONDS = 600.0
"""Each park in a row is twice as long as the one before, up to this, spread included (600 s: a rung of the delay line,
so no park waits behind what is due later than that)."""

RETURNS_PER_SECOND = 5.0
"""How many deliveries that are parked for a callee that does not answer come back in a second: a trickle beside what
is well."""

_PARK_SPREAD = 0.2


class Parks:
    """The turns of what is parked for one callee, one after the other. `random` (0 to 1) spreads them."""

    __slots__ = ("_random", "_returning_until", "_served_until")

    def __init__(self, *, random: Callable[[], float]) -> None:
        self._random = random
        # Two queues: deliveries parked while the callee answers are served at its speed; deliveries parked while it
        # does not answer return as a trickle. The length of one says nothing about the other.
        self._served_until = 0.0
        self._returning_until = 0.0

    def next_seconds(
        self, *, parks: int, seconds_each: float, reopens_in: float, is_answering: bool, now: float
    ) -> float:
        """How long the next park is. `parks` says how often in a row the delivery was parked already.

        For a callee that answers: until the deliveries parked before have had their turn, of `seconds_each`. For one
        that does not: until it is called again (`reopens_in`), and then as a trickle, in the order of parking.
        """
        wait = max(FIRST_PARK_SECONDS * 2.0 ** min(parks, 16), reopens_in)
        if is_answering:
            self._served_until = _after_those_before(self._served_until, seconds=seconds_each, now=now)
            seconds = max(wait, self._served_until - now)
        else:
            each = max(seconds_each, 1.0 / RETURNS_PER_SECOND)
            self._returning_until = _after_those_before(self._returning_until, seconds=each, now=now)
            seconds = wait + self._returning_until - now
        # Spread: the workers of an installation should not get theirs back in the same moment.
        seconds = min(seconds, LONGEST_PARK_SECONDS / (1.0 + _PARK_SPREAD)) * (1.0 + _PARK_SPREAD * self._random())
        return max(seconds, min(reopens_in, LONGEST_PARK_SECONDS))


def _after_those_before(until: float, *, seconds: float, now: float) -> float:
    """When the turn of one more ends, behind turns that end at `until`.

    Never further off than the longest park: a delivery beyond that comes back before its turn and is counted again.
    """
    return min(max(until, now) + seconds, now + LONGEST_PARK_SECONDS)

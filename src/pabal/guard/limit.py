"""How many calls may be under way at once: additive increase, multiplicative decrease (Chiu & Jain 1989). Pure.

The limit grows by one for each call that goes well until it has been cut once (as TCP's slow start, RFC 5681 §3.1),
then by one for each limit's worth of calls; it is cut when a call fails or takes much longer than calls usually take.
After an outage it begins low and doubles at most once a second, however fast the calls are: what has piled up leaves
in growing steps.
"""

START = 16.0
"""What a host that nothing is known of is trusted with."""
START_AFTER_OUTAGE = 2.0
STEP_SECONDS = 1.0
"""How long a step after an outage lasts."""

_LEAST = 1.0
_CUT_ON_FAILURE, _CUT_ON_LATENCY = 0.7, 0.85
_SLOW_FACTOR, _SLOW_SLACK_SECONDS = 2.0, 0.25
"""A call is slow beyond twice the usual and a quarter of a second: what is less may be our own event loop."""
_SILENT_SECONDS = 1.0
_DOWN, _UP = 0.2, 0.02
"""How fast the usual latency follows: down quickly, up slowly: a queue at the far side is not usual."""


class Limit:
    """One limit and the calls under it. `most`: what it never exceeds. Times as in `Circuit`."""

    __slots__ = (
        "_busy_since",
        "_calling",
        "_cut_at",
        "_is_fixed",
        "_may_jump",
        "_most",
        "_step_at",
        "in_flight",
        "usual",
        "value",
    )

    def __init__(self, *, most: float) -> None:
        self._most = max(most, _LEAST)
        self.value = min(START, self._most)
        self.in_flight = 0
        self.usual = 0.0
        self._is_fixed = False
        self._may_jump = True
        self._cut_at = 0.0
        self._step_at: float | None = None
        self._calling = 0
        self._busy_since = 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more call may begin."""
        return self.in_flight < int(self.value)

    @property
    def reach(self) -> float:
        """What the limit will be in a few calls if they go on to go well: until it is cut, it grows at once."""
        return self._most if self._may_jump else self.value

    @property
    def is_whole(self) -> bool:
        """Whether no steps after an outage are left."""
        return self._step_at is None

    def call(self, now: float) -> None:
        """A call that was counted in `in_flight` before is made now."""
        if self._calling == 0:
            self._busy_since = now
        self._calling += 1

    def latency(self, now: float) -> float:
        """Seconds that a call takes: as usual, or as long as nothing has ended while calls are under way."""
        return max(self.usual, now - self._busy_since) if self._calling else self.usual

    def is_answering(self, now: float) -> bool:
        """Whether calls end: False when none has for a second while some are under way, or for longer than a slow one
        takes."""
        silence = now - self._busy_since if self._calling else 0.0
        return silence <= _SILENT_SECONDS or not _is_slow(silence, usual=self.usual)

    def end(self, *, is_ok: bool, began: float, now: float) -> None:
        """A call that was made ended."""
        self._calling -= 1
        self._busy_since = now
        took = now - began
        usual = self.usual or took
        is_slow = took > _SLOW_SLACK_SECONDS and _is_slow(took, usual=usual)
        self.usual = usual + (took - usual) * (_DOWN if took < usual else _UP)
        if not is_ok or is_slow:
            if began >= self._cut_at and not self._is_fixed:  # Calls of one moment are one piece of news.
                self._cut(_CUT_ON_LATENCY if is_ok else _CUT_ON_FAILURE, now=now)
        elif 2 * self.in_flight >= self.value - 1:  # Calls that came nowhere near the limit prove nothing about it.
            self._grow(now)

    def abandon(self, now: float) -> None:
        """A call that was made was cut off by ourselves."""
        self._calling -= 1
        self._busy_since = now

    def fix(self) -> None:
        """Stay at `most`, but for the steps after an outage."""
        self._is_fixed = True
        self.value = self._most

    def start_low(self, now: float) -> None:
        """An outage is over."""
        self.value = min(START_AFTER_OUTAGE, self._most)
        self.usual = 0.0
        self._may_jump = False
        self._cut_at = now
        self._step_at = now + STEP_SECONDS

    def _cut(self, factor: float, *, now: float) -> None:
        self.value = max(self.value * factor, _LEAST)
        self._may_jump = False
        self._cut_at = now

    def _grow(self, now: float) -> None:
        if self._step_at is not None:
            if now >= self._step_at:
                self.value = min(self.value * 2, self._most)
                self._step_at = now + STEP_SECONDS if self.value < self._most else None
            return
        self.value = min(self.value + (1.0 if self._may_jump else 1.0 / self.value), self._most)


def _is_slow(seconds: float, *, usual: float) -> bool:
    return seconds > _SLOW_FACTOR * usual + _SLOW_SLACK_SECONDS

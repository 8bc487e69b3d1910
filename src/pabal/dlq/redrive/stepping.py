"""How a redrive goes on: a few first, then at a rate, and no further when they come back. Pure.

    canary   send the first few; wait until each is answered
    rate     send so many a second, as long as answers keep up
    end      nothing is left to send: listen for what is not answered yet

It stops by itself when too many come back, or when nothing is answered for too long (is a worker running?).
"""

from typing import Annotated, Final, Literal

import msgspec

from pabal.dlq.redrive.answers import Tally
from pabal.notification import Fact

RECENT: Final = 100
"""How many deliveries, redriven last, decide whether it goes on: enough for a ratio, few enough to notice a change."""

MOST_AT_ONCE: Final = 100
"""Letters that share an append and then its marks: what a crash between the two appends a second time."""

_AHEAD_SECONDS: Final = 10.0
"""How far sending may run ahead of the answers, at the rate asked for. What is unanswered cannot be called back."""

_LEAST_AHEAD: Final = 100
_LEAST_JUDGED: Final = 10


MOST_CANARY: Final = 100_000
LEAST_PER_SECOND: Final = 0.01
MOST_PER_SECOND: Final = 10_000.0
LEAST_PATIENCE_SECONDS: Final = 0.1
MOST_PATIENCE_SECONDS: Final = 86400.0
"""What a pace may be. One that is slower or more patient would hold its tenant's letters for ever."""


class Pace(Fact, frozen=True, kw_only=True):
    """How fast, and when to stop. `canary` letters first (0: none); then `per_second`; no further when more than
    `max_return_ratio` of the recent ones came back, or nothing was heard for `patience_seconds`."""

    canary: Annotated[int, msgspec.Meta(ge=0, le=MOST_CANARY)] = 5
    per_second: Annotated[float, msgspec.Meta(ge=LEAST_PER_SECOND, le=MOST_PER_SECOND)] = 50.0
    max_return_ratio: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    patience_seconds: Annotated[float, msgspec.Meta(ge=LEAST_PATIENCE_SECONDS, le=MOST_PATIENCE_SECONDS)] = 300.0


class Send(msgspec.Struct, frozen=True, kw_only=True):
    """Send up to so many now."""

    most: int


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Send nothing for now: `why`."""

    why: Literal["canary", "answers", "last_answers"]


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """It is over. `ended`: how; `message`: in words for a person."""

    ended: Literal["completed", "aborted", "unanswered"]
    message: str


Step = Send | Pause | Stop


def next_step(pace: Pace, *, total: Tally, recent: Tally, is_exhausted: bool, silent_seconds: float) -> Step:
    """What to do now. `recent`: of the deliveries redriven last; `is_exhausted`: no letter is left to send;
    `silent_seconds`: since the last answer, or since the last one was sent if that is later."""
    if is_exhausted and total.waiting == 0:
        return Stop(ended="completed", message="every letter of the plan has been dealt with, and answered")
    in_canary = total.redriven <= pace.canary
    back = recent.returned + recent.deferred
    # A canary is judged as a whole, as soon as no answer can save it; later a share of few would say nothing.
    is_judged = recent.answered >= _LEAST_JUDGED or total.waiting == 0
    is_over = back > pace.max_return_ratio * (recent.redriven if in_canary else recent.answered)
    if is_over and (in_canary or is_judged) and total.redriven >= pace.canary:
        return Stop(
            ended="aborted",
            message=f"{back} of the last {recent.answered} that were answered came back or were refused again "
            f"(limit {pace.max_return_ratio:.0%}); nothing more is redriven",
        )
    if total.waiting and silent_seconds >= pace.patience_seconds:
        return Stop(
            ended="unanswered",
            message=f"nothing was heard of {total.waiting} for {pace.patience_seconds:g} s: is a worker running, "
            "or do they wait for a breaker (pabal dlq show)? The same command goes on from here",
        )
    if is_exhausted:
        return Pause(why="last_answers")
    if total.redriven < pace.canary:
        return Send(most=pace.canary - total.redriven)
    if in_canary and total.waiting:
        return Pause(why="canary")
    ahead = max(_LEAST_AHEAD, int(pace.per_second * _AHEAD_SECONDS)) - total.waiting
    return Send(most=min(ahead, MOST_AT_ONCE)) if ahead > 0 else Pause(why="answers")


class TokenBucket:
    """Lets so many a second through, without saving up: after a pause there is a second's worth at most.

    The time is passed in, in seconds of any clock that does not step back.
    """

    def __init__(self, *, per_second: float, now_seconds: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._tokens = min(1.0, self._most)
        self._at = now_seconds

    def available(self, *, now_seconds: float) -> int:
        """How many may pass now."""
        self._tokens = min(self._most, self._tokens + (now_seconds - self._at) * self._per_second)
        self._at = now_seconds
        return int(self._tokens)

    def take(self, count: int) -> None:
        """So many passed."""
        self._tokens -= count

"""When what several sources say is believed of all: none of them was contradicted by an acceptance meanwhile. Pure."""

import math
from collections.abc import Hashable


class Evidence:
    """Which sources refused since the last acceptance: of each the last time, and no more than `enough` of them.

    `seconds`: for how long a refusal counts (for ever, if nothing else is said). Times are seconds of one clock that
    never steps back.
    """

    __slots__ = ("_enough", "_seconds", "refused_at")

    def __init__(self, *, enough: int, seconds: float = math.inf) -> None:
        self._enough = enough
        self._seconds = seconds
        self.refused_at: dict[Hashable, float] = {}
        """The sources. To be read only."""

    def refused(self, source: Hashable, *, now: float = 0.0) -> bool:
        """A source refused. Returns whether enough different ones have by now."""
        if self._seconds < math.inf and self.refused_at:
            self.refused_at = {each: at for each, at in self.refused_at.items() if now - at < self._seconds}
        if source in self.refused_at or len(self.refused_at) < self._enough:
            self.refused_at[source] = now
        return len(self.refused_at) >= self._enough

    def accepted(self) -> None:
        """A source accepted: what was refused before says nothing about all."""
        self.refused_at.clear()

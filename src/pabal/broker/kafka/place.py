"""Whether a named member that was fenced may take its place in the group again."""

from collections.abc import Callable
from typing import Final

OWN_REQUESTS_SECONDS: Final = 60.0
"""So long after a member is back may requests of its former self be answered, and so long it waits to return twice.

librdkafka gives a request up after `socket.timeout.ms` (10 s) and repeats it, two times by default, at most a second
apart: about 33 s in which a coordinator may refuse what was sent under the former member id; twice that, rounded, is a
minute. A second process that a supervisor starts anew again and again ends within it too.
"""


class NamedPlace:
    """The history of one named member, as far as a fencing is to be judged by it. For the member's thread alone.

    A coordinator gives the name's place to the member that joins last and refuses requests under the former member id.
    A member that was cut off (its session ended, or the coordinator forgot it) joins under a new id: then the one
    fenced may be its own former self. Without that, it is another process. `clock` tells seconds and never goes back.
    """

    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lost = False
        self._cut_off = False
        self._back_since: float | None = None
        self._returned_at: float | None = None

    def lost(self) -> None:
        """The partitions were lost. A fencing makes them so too: only `settle` tells which it was."""
        self._lost = True

    def settle(self) -> None:
        """No fencing came with the loss, if there was one: the member was cut off."""
        if self._lost:
            self._lost, self._cut_off, self._back_since = False, True, None

    def joined(self) -> None:
        """The group gave the member partitions."""
        if self._cut_off and self._back_since is None:
            self._back_since = self._clock()

    def may_return(self) -> bool:
        """Whether a fenced member may join again: it was cut off, and has not returned, in the last minute."""
        is_ours = self._cut_off and self._is_recent(self._back_since, never=True)
        return is_ours and not self._is_recent(self._returned_at, never=False)

    def returned(self) -> None:
        """A new client takes the place."""
        self._returned_at = self._clock()
        self._lost = self._cut_off = False
        self._back_since = None

    def _is_recent(self, moment: float | None, *, never: bool) -> bool:
        return never if moment is None else self._clock() - moment < OWN_REQUESTS_SECONDS

"""When to stop taking records: too many of them cannot be read, which looks like a bad deploy. Pure.

A single unreadable record goes to the dead topic and holds nothing up. When most of what comes is unreadable and there
is much of it, a producer or a worker was deployed that does not understand the other. Then the records are better left
in the log until a person has looked.
"""

WINDOW_SECONDS = 60.0


class BrakeTrigger:
    """Counts what one class reads, and says when to brake. `ratio` and `records` both have to be reached. Times as in
    `Circuit`."""

    def __init__(self, *, ratio: float, records: int) -> None:
        self._ratio = ratio
        self._records = records
        self._since = 0.0
        self._released_until = 0.0
        self.read = 0
        self.unreadable = 0

    def note(self, *, read: int, unreadable: int, now: float) -> bool:
        """`read` records came, and `unreadable` of them cannot be read. Returns whether it is time to brake."""
        if now - self._since >= WINDOW_SECONDS:
            self._begin_anew(now)
        self.read += read
        self.unreadable += unreadable
        is_bad = self.unreadable >= self._records and self.unreadable >= self._ratio * self.read
        return is_bad and unreadable > 0 and now >= self._released_until

    def release(self, *, until: float) -> None:
        """A person has looked: do not brake before then."""
        self._released_until = until
        self.read = self.unreadable = 0

    def _begin_anew(self, now: float) -> None:
        self._since = now
        self.read = self.unreadable = 0

"""How far a partition is done: the contiguous prefix of what was received. Pure.

Deliveries end out of order; only an offset before which everything is done may be committed. Progress follows the
records *received*, so gaps in the offsets (compaction, transactions) do not matter.
"""

from collections import deque
from collections.abc import Iterable


class Progress:
    """One partition of one assignment; a new assignment starts a new one, so late completions touch nothing."""

    def __init__(self) -> None:
        self._received: deque[int] = deque()
        self._done: set[int] = set()
        self._next: int | None = None
        self._committed: int | None = None
        self.ended = 0
        """How many records have ended."""

    def __len__(self) -> int:
        """Records received and not yet part of the done prefix: what a crash replays."""
        return len(self._received)

    @property
    def undone(self) -> int:
        """Records received that have not ended."""
        return len(self._received) - len(self._done)

    def receive(self, offsets: Iterable[int]) -> None:
        """Note records, in order."""
        self._received.extend(offsets)

    def done(self, offset: int) -> None:
        """Note the end of a record that was received. Once per record."""
        self._done.add(offset)
        self.ended += 1
        received = self._received
        while received and received[0] in self._done:
            first = received.popleft()
            self._done.remove(first)
            self._next = first + 1

    def pass_over(self, to: int) -> None:
        """Note that nothing is to be read before `to`, which is above all that was received: `to` is the next offset
        once that is done."""
        self.receive((to - 1,))
        self.done(to - 1)

    @property
    def next_offset(self) -> int | None:
        """The offset to go on from: one past the done prefix; None while nothing is done."""
        return self._next

    @property
    def highest_ended(self) -> int | None:
        """The highest offset that has ended; None: none has. Looks at all that ended behind the first that has not."""
        if self._done:
            return max(self._done)
        return None if self._next is None else self._next - 1

    def to_commit(self) -> int | None:
        """`next_offset` if it is not committed yet."""
        return self._next if self._next != self._committed else None

    def committed(self, offset: int) -> None:
        """Note a commit that succeeded."""
        self._committed = offset

"""The partitions that one intake owns: how far each is done, and which of them wait."""

from collections.abc import Callable, Collection, Mapping

from pabal.broker.port import TopicPartition
from pabal.progress import Progress

_MOST_AHEAD = 20_000
"""Records of a partition beyond the first that has not ended: the most that a crash replays of it."""


class Partitions:
    """What its consumer was assigned, as the broker's `Assignment`.

    One stuck partition must not fill the window. So a partition is *crowded* once half a window of its records have
    not ended, unless it is the only one; it is not read on until a quarter is left. Records that ended do not count: a
    partition goes on behind a few calls that hang, as other deliveries wait behind these. But no partition gets further
    ahead of its first record than a crash may replay.
    """

    def __init__(
        self,
        *,
        window: int,
        on_assigned: Callable[[Collection[TopicPartition]], None],
        on_owned: Callable[[], None],
    ) -> None:
        """`on_assigned` is called with new partitions, `on_owned` whenever the partitions have changed."""
        self.progress: dict[TopicPartition, Progress] = {}
        self.paused: set[TopicPartition] = set()
        self._crowded_from = max(window // 2, 1)
        self._eased_below = self._crowded_from // 2
        self._on_assigned = on_assigned
        self._on_owned = on_owned

    def __len__(self) -> int:
        """How many there are."""
        return len(self.progress)

    @property
    def read_on(self) -> Collection[TopicPartition]:
        """The partitions that do not wait."""
        return self.progress.keys() - self.paused

    @property
    def held_back(self) -> int:
        """How many records must end before all partitions are read on."""
        waiting = (self.progress[tp] for tp in self.paused)
        return sum(max(progress.undone - self._eased_below, 0) for progress in waiting)

    def newly_crowded(self) -> Collection[TopicPartition]:
        """Partitions that must wait from now on."""
        return {
            tp
            for tp, progress in self.progress.items()
            if (progress.undone >= self._crowded_from and len(self.progress) > 1) or len(progress) >= _MOST_AHEAD
        } - self.paused

    def newly_eased(self) -> Collection[TopicPartition]:
        """Partitions that need not wait any more."""
        return {
            tp
            for tp in self.paused
            if (progress := self.progress.get(tp)) is not None
            and progress.undone <= self._eased_below
            and len(progress) <= _MOST_AHEAD // 2
        }

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.assigned`."""
        for partition in partitions:
            self.progress[partition] = Progress()
            self.paused.discard(partition)
        self._on_assigned(partitions)
        self._on_owned()

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`. Calls under way are not waited for: the ledger knows about them."""
        given_up = {partition: self.progress.pop(partition, None) for partition in partitions}
        self.paused.difference_update(partitions)
        self._on_owned()
        return {
            partition: offset
            for partition, progress in given_up.items()
            if progress is not None and (offset := progress.next_offset) is not None
        }

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.lost`."""
        self.revoked(partitions)

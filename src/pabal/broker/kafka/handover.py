"""Records on their way from a consumer's thread to `poll`: in order, in batches, stopped while paused."""

from collections import deque
from collections.abc import Collection, Sequence

from pabal.broker.port import Record, TopicPartition


class Handover:
    """The buffer between the thread that fetches and the task that polls. For the event loop alone.

    The thread may read `paused` and `settled`: the first is replaced, never changed, and the second only grows
    by what left the thread's account (taken, dropped, or held for a paused partition).
    """

    def __init__(self) -> None:
        self.paused: frozenset[TopicPartition] = frozenset()
        self.settled = 0
        self._ready: deque[list[Record]] = deque()
        self._held: dict[TopicPartition, list[Record]] = {}

    def put(self, batch: list[Record]) -> None:
        """Add records behind those that wait."""
        if not self.paused:
            self._ready.append(batch)
            return
        free = []
        for record in batch:
            partition = record.topic_partition
            if partition in self.paused:
                self._hold(partition, [record])
            else:
                free.append(record)
        if free:
            self._ready.append(free)

    def has_records(self) -> bool:
        """Whether `take` would return any."""
        return bool(self._ready)

    def take(self, limit: int) -> Sequence[Record]:
        """The first records, up to `limit`."""
        taken: list[Record] = []
        while self._ready and len(taken) < limit:
            batch = self._ready[0]
            room = limit - len(taken)
            if len(batch) > room:
                taken += batch[:room]
                self._ready[0] = batch[room:]
            else:
                taken = taken + batch if taken else batch
                self._ready.popleft()
        self.settled += len(taken)
        return taken

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Hold what waits of these back until `resume`."""
        self.paused |= frozenset(partitions)
        for partition, records in self._extract(partitions).items():
            self._hold(partition, records)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        """Let what was held of these come next: it is older than anything that waits of them."""
        self.paused -= frozenset(partitions)
        for partition in partitions:
            held = self._held.pop(partition, None)
            if held:
                self.settled -= len(held)
                self._ready.appendleft(held)

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Forget everything about these; a pause ends with it."""
        self.settled += sum(map(len, self._extract(partitions).values()))
        self.paused -= frozenset(partitions)
        for partition in partitions:
            self._held.pop(partition, None)

    def clear(self, partition: TopicPartition) -> None:
        """Forget what waits of this one; a pause stays."""
        self.settled += sum(map(len, self._extract((partition,)).values()))
        self._held.pop(partition, None)

    def _hold(self, partition: TopicPartition, records: list[Record]) -> None:
        self._held.setdefault(partition, []).extend(records)
        self.settled += len(records)

    def _extract(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, list[Record]]:
        """Take what is ready of `partitions` out, each partition's in order."""
        extracted: dict[TopicPartition, list[Record]] = {partition: [] for partition in partitions}
        kept: deque[list[Record]] = deque()
        for batch in self._ready:
            rest: list[Record] = []
            for record in batch:
                extracted.get(record.topic_partition, rest).append(record)
            if rest:
                kept.append(rest)
        self._ready = kept
        return extracted

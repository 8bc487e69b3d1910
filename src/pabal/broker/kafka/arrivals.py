"""What has come from a member's thread and waits for `poll`: records, errors, and partitions that stand still."""

import asyncio
import copy
from collections import deque
from collections.abc import Collection, Mapping, Sequence

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.commits import Commits
from pabal.broker.kafka.handover import Handover
from pabal.broker.port import Assignment, Record, TopicPartition
from pabal.errors import LogError, OffsetOutOfRange


class Arrivals:
    """See the module. Implements `Receiver`; for the event loop."""

    def __init__(self, assignment: Assignment, commits: Commits) -> None:
        self.handover = Handover()
        self._assignment = assignment
        self._commits = commits
        self._waiter: asyncio.Future[None] | None = None
        self._news: deque[LogError] = deque()
        self._over: LogError | None = None
        self._standing: dict[TopicPartition, OffsetOutOfRange] = {}
        self._untold: deque[TopicPartition] = deque()

    @property
    def are_due(self) -> bool:
        """Whether `poll` has something to return or to raise at once."""
        return bool(self.handover.has_records() or self._news or self._untold)

    async def wait(self, timeout_seconds: float) -> None:
        """Return when there is something for `poll`, or time is up."""
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        timer = loop.call_later(timeout_seconds, _resolve, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def wake(self) -> None:
        """End the wait."""
        if self._waiter is not None:
            _resolve(self._waiter)

    def raise_untold(self) -> None:
        """Raise why a partition stands still, if no poll has raised it yet."""
        if self._untold:
            raise self._standing[self._untold.popleft()]

    def raise_trouble(self) -> None:
        """Raise what there is to raise where there are no records."""
        if self._news:
            raise self._news.popleft()
        if self._over is not None:
            raise self._over
        if self._standing:
            # In turn: a partition whose error is raised goes to the end.
            partition = next(iter(self._standing))
            error = self._standing[partition] = self._standing.pop(partition)
            # A new one each time: raised again, an exception would drag its former tracebacks along.
            raise copy.copy(error)

    def begin_anew(self, partition: TopicPartition) -> None:
        """What came of the partition is from a former position, and the partition stands still no more."""
        self.handover.clear(partition)
        self._goes_on(partition)

    # -- what the member's thread tells

    def received(self, batch: list[Record]) -> None:
        """See `Receiver.received`."""
        self.handover.put(batch)
        self.wake()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Receiver.assigned`."""
        self._assignment.assigned(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Receiver.revoked`."""
        self._forget(partitions)
        offsets = self._assignment.revoked(partitions)
        return {partition: offset for partition, offset in offsets.items() if partition in set(partitions)}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Receiver.lost`."""
        self._forget(partitions)
        self._assignment.lost(partitions)

    def committed(self, error: KafkaError | None, partitions: Sequence[RdTopicPartition]) -> None:
        """See `Receiver.committed`."""
        self._commits.answered(error, partitions)

    def failed(self, error: LogError, *, for_good: bool) -> None:
        """See `Receiver.failed`."""
        if for_good:
            self._over = error
        self._news.append(error)
        self.wake()

    def stands_still(self, partition: TopicPartition, error: OffsetOutOfRange) -> None:
        """See `Receiver.stands_still`."""
        if partition not in self._standing:
            self._untold.append(partition)
        self._standing[partition] = error
        self.wake()

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        self.handover.drop(partitions)
        for partition in partitions:
            self._goes_on(partition)

    def _goes_on(self, partition: TopicPartition) -> None:
        if self._standing.pop(partition, None) is not None and partition in self._untold:
            self._untold.remove(partition)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

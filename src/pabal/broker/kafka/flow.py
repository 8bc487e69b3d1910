"""How much may wait between a member's thread and `poll`, and what is not fetched meanwhile."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence

from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import FETCH_AT_ONCE
from pabal.broker.kafka.handover import Handover
from pabal.broker.port import Record, TopicPartition

_NO_ROOM_SECONDS = 0.25
"""So long may the hand-over be full before librdkafka is told to stop fetching."""

MOST_RECORDS = 2 * FETCH_AT_ONCE
_MOST_BYTES = 8 << 20
"""What may wait between the thread and `poll`."""


class Flow:
    """What the thread has handed over and `poll` has not taken, and the partitions that are stopped for it.

    `made_room` and `waits_for_room` are the event loop's too; the rest is for the member's thread.
    """

    def __init__(self, handover: Handover) -> None:
        self.waits_for_room = False
        self._handover = handover
        self._stopped: set[TopicPartition] = set()
        self._full = False
        self._handed = 0
        self._bound = MOST_RECORDS
        self._room = threading.Event()

    @property
    def has_stopped(self) -> bool:
        """Whether a partition is not fetched for now."""
        return bool(self._stopped)

    def made_room(self) -> None:
        """Records were taken from the hand-over, or the event loop asks for something: end the wait for room."""
        self._room.set()

    def must_wait(self) -> bool:
        """Whether as much waits as may, and the partitions are still fetched."""
        return self.waiting() >= self._bound and not self._full

    def wait(
        self,
        rd: RdConsumer,
        owned: Iterable[TopicPartition],
        *,
        meanwhile: Callable[[], None],
        is_over: Callable[[], bool],
    ) -> None:
        """Give `poll` a moment to make room, then stop fetching so that only rebalances come."""
        deadline = time.monotonic() + _NO_ROOM_SECONDS
        self.waits_for_room = True
        while not is_over():
            self._room.clear()
            if self.waiting() < self._bound:
                break
            if not self._room.wait(max(0.0, deadline - time.monotonic())):
                self._full = True
                self._stop(rd, owned)
                break
            meanwhile()
        self.waits_for_room = False

    def handed_over(self, rd: RdConsumer, records: Sequence[Record]) -> None:
        """Count these, reckon anew how many of their size may wait, and stop partitions that are paused."""
        self._handed += len(records)
        size = sum(len(record.value) for record in records if record.value is not None) // len(records)
        self._bound = max(10, min(MOST_RECORDS, _MOST_BYTES // (size + 1)))
        paused = self._handover.paused
        if paused or self._full:
            # Only now: a pause that ends before its partition brought anything costs no refetch.
            seen = {record.topic_partition for record in records}
            self._stop(rd, seen if self._full else seen & paused)

    def resume(self, rd: RdConsumer) -> None:
        """Fetch again what was stopped, where there is room and no pause."""
        if self._full and self.waiting() <= self._bound // 2:
            self._full = False
        if self._full or not self._stopped:
            return
        resumed = self._stopped - self._handover.paused
        if resumed:
            rd.resume([RdTopicPartition(*each) for each in resumed])
            self._stopped -= resumed

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """These are new, or not the member's any more."""
        self._stopped.difference_update(partitions)

    def begin_anew(self) -> None:
        """A new client fetches; it has stopped nothing."""
        self._stopped.clear()

    def waiting(self) -> int:
        """How many records wait for `poll`."""
        return self._handed - self._handover.settled

    def _stop(self, rd: RdConsumer, partitions: Iterable[TopicPartition]) -> None:
        fresh = set(partitions) - self._stopped
        if fresh:
            rd.pause([RdTopicPartition(*each) for each in fresh])
            self._stopped |= fresh

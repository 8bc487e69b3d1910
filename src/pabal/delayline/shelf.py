"""What the delay line holds of one partition, when each record of it leaves, and where to. Pure."""

import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import delay_record, delivery_record
from pabal.notification import Delivery
from pabal.ops.recoveries import recovery_key
from pabal.retry import Wait, place_wait


class Shelved(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery on the shelf, and the record it waits in. `following` is a record instead where the bytes cannot be
    read: they go to the dead topic, due at once."""

    record: Record
    wait: Wait
    following: Delivery | NewRecord

    @property
    def waits_for(self) -> bytes | None:
        """The key of the recovery that the delivery is parked for; None: it waits for the time alone."""
        if self.wait.parked is None or isinstance(self.following, NewRecord):
            return None
        return recovery_key(self.following.channel, self.wait.parked.callee)


class Shelf:
    """The delivery with the earliest time leaves first; of two with the same time, the first that was put."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, Shelved]] = []
        self._puts = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[tuple[datetime, Shelved]]:
        """The times and the deliveries, in no order."""
        return ((at, shelved) for at, _, shelved in self._heap)

    def put(self, shelved: Shelved, *, at: datetime | None = None) -> None:
        """Add a delivery that leaves at `at` (None: when its hop is over)."""
        self._puts += 1
        heapq.heappush(self._heap, (shelved.wait.release_at if at is None else at, self._puts, shelved))

    def move(self, times: Mapping[int, datetime]) -> None:
        """Give the deliveries at these offsets other times."""
        self._heap = [(times.get(shelved.record.offset, at), put, shelved) for at, put, shelved in self._heap]
        heapq.heapify(self._heap)

    def next_release(self) -> datetime | None:
        """When the next delivery leaves; None: the shelf is empty."""
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: datetime, *, limit: int) -> list[Shelved]:
        """Remove and return what may leave now."""
        due: list[Shelved] = []
        while self._heap and self._heap[0][0] <= now and len(due) < limit:
            due.append(heapq.heappop(self._heap)[2])
        return due


def released(shelved: Shelved, now: datetime) -> NewRecord:
    """The record that a delivery leaves in.

    To its own topic when it is due, and when it leaves before its hop is over (its callee answers again). Else down
    the next rung.
    """
    if isinstance(shelved.following, NewRecord):
        return shelved.following
    delivery = shelved.following
    if shelved.wait.due <= now or now < shelved.wait.release_at:
        return delivery_record(delivery)
    topic, wait = place_wait(due=shelved.wait.due, now=now, class_=delivery.class_, parked=shelved.wait.parked)
    return delay_record(delivery, topic=topic, wait=wait)

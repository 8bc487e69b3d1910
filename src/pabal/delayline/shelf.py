"""What a delay partition holds, and what of it is due. Pure."""

import heapq
from datetime import datetime

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import delay_record, delivery_record
from pabal.notification import Delivery
from pabal.retry import Wait, place_wait


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery that waits, and the record it waits in. Without a delivery: bytes for the dead topic, due at once."""

    record: Record
    wait: Wait
    following: Delivery | NewRecord


class Shelf:
    """Whoever is to be released first leaves first; of those at the same moment, whoever came first."""

    def __init__(self) -> None:
        self._held: list[tuple[datetime, int, Held]] = []
        self._came = 0

    def __len__(self) -> int:
        return len(self._held)

    def put(self, held: Held) -> None:
        """Add one."""
        self._came += 1
        heapq.heappush(self._held, (held.wait.release_at, self._came, held))

    def next_release(self) -> datetime | None:
        """When the next may go; None when nothing is held."""
        return self._held[0][0] if self._held else None

    def take_due(self, now: datetime, *, limit: int) -> list[Held]:
        """Remove and return what may go."""
        due: list[Held] = []
        while self._held and self._held[0][0] <= now and len(due) < limit:
            due.append(heapq.heappop(self._held)[2])
        return due


def released(held: Held, now: datetime) -> NewRecord:
    """Where a record goes when its hop is over: to its own topic when due, else down the next rung."""
    if isinstance(held.following, NewRecord):
        return held.following
    delivery = held.following
    if held.wait.due <= now:
        return delivery_record(delivery)
    topic, wait = place_wait(due=held.wait.due, now=now, class_=delivery.class_)
    return delay_record(delivery, topic=topic, wait=wait)

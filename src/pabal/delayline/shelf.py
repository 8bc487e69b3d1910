"""What a delay partition holds, and what of it is due. Pure."""

import heapq
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import delay_record, delivery_record
from pabal.notification import Delivery
from pabal.recoveries import recovery_key
from pabal.retry import Wait, place_wait


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery that waits, and the record it waits in. Without a delivery: bytes for the dead topic, due at once."""

    record: Record
    wait: Wait
    following: Delivery | NewRecord

    @property
    def waits_for(self) -> bytes | None:
        """The key of the recovery that it is parked for; None: it waits for the time alone."""
        if self.wait.parked is None or isinstance(self.following, NewRecord):
            return None
        return recovery_key(self.following.channel, self.wait.parked.callee)


class Shelf:
    """Whoever is to be released first leaves first; of those at the same moment, whoever came first."""

    def __init__(self) -> None:
        self._held: list[tuple[datetime, int, Held]] = []
        self._came = 0

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[tuple[datetime, Held]]:
        """Who is here, and when each is to be released; in no order."""
        return ((at, held) for at, _, held in self._held)

    def put(self, held: Held, *, at: datetime | None = None) -> None:
        """Add one, to be released at `at` (None: when its hop is over)."""
        self._came += 1
        heapq.heappush(self._held, (held.wait.release_at if at is None else at, self._came, held))

    def move(self, times: Mapping[int, datetime]) -> None:
        """These, by their offsets, are to be released at other times than they were."""
        self._held = [(times.get(held.record.offset, at), came, held) for at, came, held in self._held]
        heapq.heapify(self._held)

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
    """Where a record goes when it leaves: to its own topic when due, or when it is let go before its hop is over
    (whom it waited for is back); else down the next rung."""
    if isinstance(held.following, NewRecord):
        return held.following
    delivery = held.following
    if held.wait.due <= now or now < held.wait.release_at:
        return delivery_record(delivery)
    topic, wait = place_wait(due=held.wait.due, now=now, class_=delivery.class_, parked=held.wait.parked)
    return delay_record(delivery, topic=topic, wait=wait)

"""What a delay partition holds, in order, and what of it is due. Pure."""

from collections import deque
from datetime import datetime

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import delay_record, delivery_record
from pabal.notification import Delivery
from pabal.retry import Wait, place_wait


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A delivery that waits, and the record it waits in. Without a delivery: bytes for the dead topic.

    Those are due at once, but leave in their turn: they wait behind the head of their shelf like any other.
    """

    record: Record
    wait: Wait
    following: Delivery | NewRecord


class Shelf:
    """First in, first out; the head holds up the rest, which is due no earlier."""

    def __init__(self) -> None:
        self._held: deque[Held] = deque()

    def __len__(self) -> int:
        return len(self._held)

    def put(self, held: Held) -> None:
        """Add at the end."""
        self._held.append(held)

    def next_release(self) -> datetime | None:
        """When the head may go; None when nothing is held."""
        return self._held[0].wait.release_at if self._held else None

    def take_due(self, now: datetime, *, limit: int) -> list[Held]:
        """Remove and return what may go, from the head on."""
        due: list[Held] = []
        while self._held and self._held[0].wait.release_at <= now and len(due) < limit:
            due.append(self._held.popleft())
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

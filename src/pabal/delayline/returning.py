"""When those come back who were parked for a callee that answers again: early, in growing steps. Pure.

While a callee is silent, what was parked for it comes back as a trickle. Once it is back, a trickle would take minutes,
and all at once would be a second outage: so `FIRST_PER_SECOND` come in the first second and twice as many in each that
follows (TCP's slow start, RFC 5681 §3.1, but by the clock, as nobody acknowledges here), up to `MOST_PER_SECOND`.
"""

import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from pabal.broker.port import TopicPartition
from pabal.delayline.shelf import Held, Shelf
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.notification import CLASSES, Delivery
from pabal.recoveries import Recovery

FIRST_PER_SECOND: Final = 16.0
"""How many come back in the first second, twice as many in the next: as many as a host that nothing is known of is
trusted with at once (`guard.limit.START`)."""

MOST_PER_SECOND: Final = 500.0
"""What a worker on one core sends beside all else: what is more would be parked again."""


class Returning:
    """The way back to one callee: who was parked before `parked_before` gets places, one behind the other."""

    __slots__ = ("_began", "_last", "_next_seconds", "parked_before")

    def __init__(self, *, parked_before: datetime, now: datetime) -> None:
        self.parked_before = parked_before
        self._began = self._last = now
        self._next_seconds = 0.0

    def place(self, now: datetime) -> datetime:
        """When the next may go: never before `now`, nor before whoever came first.

        Who comes late (it was polled late) goes as fast as those that go at the time, and not with all that have
        gone: there is never a heap to catch up with.
        """
        seconds = max(self._next_seconds, (now - self._began).total_seconds())
        self._last = self._began + timedelta(seconds=seconds)
        self._next_seconds = seconds + 1.0 / _rate(seconds)
        return self._last

    def is_over(self, now: datetime) -> bool:
        """Whether all who got a place have gone."""
        return self._last < now


class Returns:
    """Which callees are back, by the key of their recovery."""

    def __init__(self) -> None:
        self._returning: dict[bytes, Returning] = {}

    def hear(self, heard: Mapping[bytes, Recovery | None], *, now: datetime) -> Collection[bytes]:
        """Somebody says that callees are back; None: that one is not any more. Returns those of which this is news.

        Several workers say it of one callee, each when it finds out. As long as some are on their way, those parked
        meanwhile join them; else the steps begin anew.
        """
        # What began later than now did so before the clock was set back, and would be in the way until then.
        self._returning = {key: each for key, each in self._returning.items() if each.parked_before <= now}
        changed: list[bytes] = []
        for key, recovery in heard.items():
            if recovery is None:
                if self._returning.pop(key, None) is not None:
                    changed.append(key)
                continue
            # No clock but ours says what is yet to come: else what is parked from now on would come back at once.
            parked_before = min(recovery.at, now)
            known = self._returning.get(key)
            if known is not None and parked_before <= known.parked_before:
                continue
            changed.append(key)
            if known is not None and not known.is_over(now):
                known.parked_before = parked_before
            else:
                self._returning[key] = Returning(parked_before=parked_before, now=now)
        oldest = now - timedelta(seconds=LONGEST_PARK_SECONDS)
        for key in [key for key, each in self._returning.items() if each.parked_before < oldest]:
            del self._returning[key]
        return changed

    def place(self, held: Held, *, now: datetime) -> datetime | None:
        """When one that is held may leave early; None: it leaves when its hop is over."""
        key, parked = held.waits_for, held.wait.parked
        returning = self._returning.get(key) if key is not None else None
        if returning is None or parked is None or parked.at >= returning.parked_before:
            return None
        return min(returning.place(now), held.wait.release_at)

    def reconsider(
        self, shelves: Mapping[TopicPartition, Shelf], *, about: Collection[bytes], now: datetime
    ) -> Mapping[TopicPartition, Mapping[int, datetime]]:
        """When those on the shelves leave now, where that is another time than before: by partition and offset.

        Only those that are parked for callees which were heard of (`about`). The more urgent class has the first
        places, within it who would have left first. Who has a place keeps it for as long as its callee is back.
        """
        times: dict[TopicPartition, dict[int, datetime]] = {}
        waiting: list[Held] = []
        for partition, shelf in shelves.items():
            for at, held in shelf:
                if (key := held.waits_for) is None or key not in about:
                    continue
                if key not in self._returning:
                    times.setdefault(partition, {})[held.record.offset] = held.wait.release_at
                elif at == held.wait.release_at:
                    waiting.append(held)
        for held in sorted(waiting, key=_urgency):
            if (place := self.place(held, now=now)) is not None:
                times.setdefault(held.record.topic_partition, {})[held.record.offset] = place
        return times


def _urgency(held: Held) -> tuple[int, datetime]:
    assert isinstance(held.following, Delivery)
    return CLASSES.index(held.following.class_), held.wait.release_at


def _rate(seconds: float) -> float:
    doublings = min(seconds, 60.0)  # Beyond, the number would be too large, and the cap holds anyhow.
    return min(FIRST_PER_SECOND * math.log(2.0) * math.pow(2.0, doublings), MOST_PER_SECOND)

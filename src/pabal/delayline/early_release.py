"""When parked deliveries leave early: their callee answers again, and they come back to it in growing steps. Pure.

While a callee is silent, what was parked for it comes back as a trickle. Once it answers again, a trickle would take
minutes, and everything at once would be a second outage. So `FIRST_PER_SECOND` deliveries come in the first second and
twice as many in each second that follows (TCP's slow start, RFC 5681 §3.1, but by the clock: no acknowledgement comes
back here), up to `MOST_PER_SECOND`.
"""

import math
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Final

from pabal.broker.port import TopicPartition
from pabal.delayline.shelf import Shelf, Shelved
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.notification import CLASSES, Delivery
from pabal.ops.recoveries import Recovery

FIRST_PER_SECOND: Final = 16.0
"""How many deliveries come back in the first second, and twice as many in the next: as many calls at once as a host is
trusted with of which nothing is known (`guard.limit.START`)."""

MOST_PER_SECOND: Final = 500.0
"""What a worker on one core sends beside all else: what is more would be parked again."""


class SlowStart:
    """The way back to one callee: deliveries that were parked before `parked_before` get times, one after the other."""

    __slots__ = ("_began", "_last", "_next_seconds", "parked_before")

    def __init__(self, *, parked_before: datetime, now: datetime) -> None:
        self.parked_before = parked_before
        self._began = self._last = now
        self._next_seconds = 0.0

    def next_time(self, now: datetime) -> datetime:
        """When the next delivery may leave: never before `now`, nor before a delivery that got its time earlier.

        A delivery that is polled late leaves at the rate of the moment. The seconds before it are not made up for, so
        there is never a heap.
        """
        seconds = max(self._next_seconds, (now - self._began).total_seconds())
        self._last = self._began + timedelta(seconds=seconds)
        self._next_seconds = seconds + 1.0 / _rate(seconds)
        return self._last

    def is_over(self, now: datetime) -> bool:
        """Whether every delivery that got a time has left."""
        return self._last < now


class EarlyReleases:
    """Which callees answer again, by the keys of their recoveries, and when deliveries parked for them leave."""

    def __init__(self) -> None:
        self._starts: dict[bytes, SlowStart] = {}
        self._noted: list[Mapping[bytes, Recovery | None]] = []

    def note(self, heard: Mapping[bytes, Recovery | None]) -> None:
        """Keep what was heard (see `hear`) until `bring_forward`."""
        self._noted.append(heard)

    def bring_forward(self, shelves: Mapping[TopicPartition, Shelf], *, now: datetime) -> None:
        """Take in what was noted, in order, and give the deliveries on the shelves their new times."""
        noted, self._noted = self._noted, []
        for heard in noted:
            changed = self.hear(heard, now=now)
            for partition, times in self.reconsider(shelves, about=changed, now=now).items():
                shelves[partition].move(times)

    def hear(self, heard: Mapping[bytes, Recovery | None], *, now: datetime) -> Collection[bytes]:
        """Take in recoveries; None: that callee has relapsed. Returns the keys for which this is news.

        Several workers say it of one callee, each when it finds out. While deliveries are still on their way, the
        deliveries parked meanwhile join them. Afterwards the steps begin anew.
        """
        # A start that lies in the future was made before the clock was set back, and would be in the way until then.
        self._starts = {key: start for key, start in self._starts.items() if start.parked_before <= now}
        changed: list[bytes] = []
        for key, recovery in heard.items():
            if recovery is None:
                if self._starts.pop(key, None) is not None:
                    changed.append(key)
                continue
            # A worker's clock may be ahead of ours. Deliveries that are parked from now on must not leave at once.
            parked_before = min(recovery.at, now)
            known = self._starts.get(key)
            if known is not None and parked_before <= known.parked_before:
                continue
            changed.append(key)
            if known is not None and not known.is_over(now):
                known.parked_before = parked_before
            else:
                self._starts[key] = SlowStart(parked_before=parked_before, now=now)
        oldest = now - timedelta(seconds=LONGEST_PARK_SECONDS)
        for key in [key for key, start in self._starts.items() if start.parked_before < oldest]:
            del self._starts[key]
        return changed

    def time_of(self, shelved: Shelved, *, now: datetime) -> datetime | None:
        """When a delivery may leave early; None: it leaves when its hop is over."""
        key, parked = shelved.waits_for, shelved.wait.parked
        start = self._starts.get(key) if key is not None else None
        if start is None or parked is None or parked.at >= start.parked_before:
            return None
        return min(start.next_time(now), shelved.wait.release_at)

    def reconsider(
        self, shelves: Mapping[TopicPartition, Shelf], *, about: Collection[bytes], now: datetime
    ) -> Mapping[TopicPartition, Mapping[int, datetime]]:
        """The new times of deliveries on the shelves, by partition and offset, where a time has changed.

        Only deliveries parked for the callees in `about` are looked at. Times are given by class, the most urgent
        first, and within a class by the time at which a delivery would have left. A delivery that has an early time
        keeps it, unless its callee has relapsed: then it leaves when its hop is over.
        """
        times: dict[TopicPartition, dict[int, datetime]] = {}
        waiting: list[Shelved] = []
        for partition, shelf in shelves.items():
            for at, shelved in shelf:
                if (key := shelved.waits_for) is None or key not in about:
                    continue
                if key not in self._starts:
                    times.setdefault(partition, {})[shelved.record.offset] = shelved.wait.release_at
                elif at == shelved.wait.release_at:
                    waiting.append(shelved)
        for shelved in sorted(waiting, key=_urgency):
            if (early := self.time_of(shelved, now=now)) is not None:
                times.setdefault(shelved.record.topic_partition, {})[shelved.record.offset] = early
        return times


def _urgency(shelved: Shelved) -> tuple[int, datetime]:
    assert isinstance(shelved.following, Delivery)
    return CLASSES.index(shelved.following.class_), shelved.wait.release_at


def _rate(seconds: float) -> float:
    doublings = min(seconds, 60.0)  # Beyond, the number would be too large, and the cap holds anyhow.
    return min(FIRST_PER_SECOND * math.log(2.0) * math.pow(2.0, doublings), MOST_PER_SECOND)

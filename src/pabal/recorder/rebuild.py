"""Reads what the log still holds into the store again. What is older stays as it stands there: a fold deletes nothing.

It runs beside recorders or without any; both may fold the same records at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

import msgspec

from pabal.broker.port import Admin, Broker, Record, TopicPartition, Watermarks
from pabal.clock import Clock
from pabal.errors import UnknownTopic
from pabal.groups import RECORDER_GROUP, recorded_topics
from pabal.offsets.gaps import Gap, find_gaps
from pabal.offsets.moving import skip_gap
from pabal.recorder.folding import Folder, place, set_aside
from pabal.store.port import Store

_BATCH: Final = 1000


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What was read: `records`, of which some are `set_aside`; others that were so by then are folded (`taken_up`).

    `released`: partitions that the recorders' group could not read on, and may now.
    """

    records: int
    set_aside: int
    taken_up: int
    released: tuple[Gap, ...]


async def rebuild(
    *,
    broker: Broker,
    store: Store,
    channels: Collection[str],
    by: str,
    clock: Clock,
    on_progress: Callable[[int, int], None],
) -> Rebuilt:
    """Fold every record up to the present; `on_progress` is told how many of how many were read. `by`: a person.

    Raises LogError, StoreUnavailable; it can be repeated.
    """
    admin, reader = broker.admin(), broker.reader()
    try:
        marks = await _watermarks(admin, channels)
        total = sum(mark.high - mark.low for mark in marks.values())
        read = 0
        taking = _Taking(store)
        on_progress(0, total)
        for partition, mark in marks.items():
            done = mark.low
            async for records in reader.read(partition, stop=mark.high):
                read += len(records)
                await taking.take(records)
                done = records[-1].offset + 1
                on_progress(read, total)
            total -= mark.high - done  # what retention or compaction has removed
        await taking.end()
        on_progress(read, total)
        released = await _release(broker, admin, channels, by=by, clock=clock)
        return Rebuilt(records=read, set_aside=taking.set_aside, taken_up=taking.taken_up, released=released)
    finally:
        await reader.close()
        await admin.close()


class _Taking:
    """Folds records by the thousand, sets aside what cannot be folded, and takes up what was set aside and now can."""

    def __init__(self, store: Store) -> None:
        self.set_aside = 0
        self.taken_up = 0
        self._store = store
        self._folder = Folder(store)
        self._records: list[Record] = []

    async def take(self, records: Sequence[Record]) -> None:
        self._records += records
        if len(self._records) >= _BATCH:
            await self.end()

    async def end(self) -> None:
        records, self._records = self._records, []
        poison = await self._folder.fold(records)
        await self._store.set_aside([set_aside(each) for each in poison])
        self.set_aside += len(poison)
        aside = {place(each.record) for each in poison}
        self.taken_up += await self._store.take_up([at for record in records if (at := place(record)) not in aside])


async def _watermarks(admin: Admin, channels: Collection[str]) -> Mapping[TopicPartition, Watermarks]:
    marks: dict[TopicPartition, Watermarks] = {}
    for topic in recorded_topics(channels):
        try:
            marks.update(await admin.watermarks(topic))
        except UnknownTopic:
            continue  # a channel that was never in use here
    return marks


async def _release(
    broker: Broker, admin: Admin, channels: Collection[str], *, by: str, clock: Clock
) -> tuple[Gap, ...]:
    """Where the group's next record was deleted, or lies above the end, let it go on with the first there is."""
    gaps = await find_gaps(admin, {RECORDER_GROUP: recorded_topics(channels)})
    stuck = tuple(gap for gap in gaps if gap.committed is not None)
    for gap in stuck:
        await skip_gap(broker, gap, by=by, reason="pabal recorder rebuild", at=clock.now())
    return stuck

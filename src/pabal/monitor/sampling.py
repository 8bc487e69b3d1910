"""Takes samples of the log: where each group stands on each partition, in a few bulk questions."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import aclosing
from typing import Final

import msgspec

from pabal.broker.port import Admin, GroupMembers, Reader, Record, TopicPartition, Watermarks
from pabal.clock import Clock
from pabal.codec import read_wait
from pabal.errors import DecodeError, LogError, OffsetOutOfRange
from pabal.lag import Sample
from pabal.monitor.samples import DELAY_PREFIX, Owner, Place, Sampled

logger = logging.getLogger(__name__)

HEAD_SECONDS: Final = 1.0
"""How long one sample may wait for the records at the committed offsets. A record behind an open transaction, say, is
not handed out: then its age is not known, and the sample goes on."""

_HEADS_AT_ONCE: Final = 8


class _Head(msgspec.Struct, frozen=True, gc=False):
    """The first record at or after an offset: when it was appended, and when it is due (of delay topics)."""

    timestamp: float
    due: float | None


class Sampler:
    """Samples the groups that it is given, all together. One task at a time."""

    def __init__(self, *, admin: Admin, reader: Reader, groups: Mapping[str, Collection[str]], clock: Clock) -> None:
        """`groups`: the topics of each group. What a group committed elsewhere does not count."""
        self._admin = admin
        self._reader = reader
        self._groups = groups
        self._clock = clock
        self._heads: dict[tuple[TopicPartition, int], _Head] = {}

    async def take(self, told: Mapping[Place, Owner] = {}) -> Sampled:
        """One sample. Raises LogError; UnknownTopic names a topic that is missing.

        `told`: what the owners of partitions said of themselves.
        """
        # First what is committed, then the ends: the other way round a lag could be negative.
        committed = await self._committed()
        topics = sorted({topic for topics in self._groups.values() for topic in topics})
        watermarks, members = await asyncio.gather(
            self._admin.watermarks(*topics), self._admin.members(list(self._groups))
        )
        at = self._clock.boot_seconds()
        bare = {
            place: _bare(place, at=at, marks=watermarks[place.topic_partition], committed=committed, members=members)
            for place in self._places(watermarks)
        }
        await self._learn_heads({(place.topic_partition, each.position) for place, each in bare.items() if each.lag})
        return Sampled(
            at=at,
            samples={place: self._complete(place, sample, told.get(place)) for place, sample in bare.items()},
            members={group: members[group].members for group in self._groups},
        )

    async def _committed(self) -> Mapping[Place, int]:
        groups = list(self._groups)
        found = await asyncio.gather(*(self._admin.committed(group, self._groups[group]) for group in groups))
        return {
            Place(group, *partition): offset
            for group, offsets in zip(groups, found, strict=True)
            for partition, offset in offsets.items()
        }

    def _places(self, partitions: Iterable[TopicPartition]) -> list[Place]:
        of_topic: dict[str, list[TopicPartition]] = {}
        for partition in sorted(partitions):
            of_topic.setdefault(partition.topic, []).append(partition)
        return [
            Place(group, *partition)
            for group, topics in self._groups.items()
            for topic in topics
            for partition in of_topic[topic]
        ]

    def _complete(self, place: Place, sample: Sample, owner: Owner | None) -> Sample:
        changes: dict[str, object] = {}
        if owner is not None and sample.owner is not None:
            changes = msgspec.structs.asdict(owner)
        head = self._heads.get((place.topic_partition, sample.position)) if sample.lag else None
        now = self._clock.now().timestamp()
        if not sample.lag:
            changes["age_seconds"] = 0.0
        elif head is not None:
            changes["age_seconds"] = max(now - head.timestamp, 0.0)
        if place.topic.startswith(DELAY_PREFIX):
            due = head.due if head is not None else None
            changes["overdue_seconds"] = 0.0 if due is None else max(now - due, 0.0)
        return msgspec.structs.replace(sample, **changes) if changes else sample

    async def _learn_heads(self, wanted: Collection[tuple[TopicPartition, int]]) -> None:
        """Read the records that are not known yet; forget those that are not asked for any more."""
        self._heads = {head: self._heads[head] for head in wanted if head in self._heads}
        slots = asyncio.Semaphore(_HEADS_AT_ONCE)

        async def learn(partition: TopicPartition, offset: int) -> None:
            async with slots:
                record = await self._first_record(partition, offset)
            if record is not None:
                self._heads[partition, offset] = _Head(record.timestamp, _due(record))

        try:
            async with asyncio.timeout(HEAD_SECONDS), asyncio.TaskGroup() as group:
                for partition, offset in wanted:
                    if (partition, offset) not in self._heads:
                        group.create_task(learn(partition, offset))
        except TimeoutError:
            logger.debug("the log did not hand out all oldest records within %.1f s", HEAD_SECONDS)

    async def _first_record(self, partition: TopicPartition, offset: int) -> Record | None:
        """The record at an offset, or the next that compaction left; None when there is none, or it was deleted."""
        try:
            async with aclosing(self._reader.read(partition, start=offset)) as batches:  # type: ignore[type-var]
                async for records in batches:
                    return records[0]
        except OffsetOutOfRange:
            return None  # Deleted since the watermarks were read: the next sample counts it as lost.
        except LogError as error:
            logger.debug("cannot read the oldest record of %s/%d: %s", *partition, error)
        return None


def _bare(
    place: Place,
    *,
    at: float,
    marks: Watermarks,
    committed: Mapping[Place, int],
    members: Mapping[str, GroupMembers],
) -> Sample:
    return Sample(
        at=at,
        low=marks.low,
        high=marks.high,
        committed=committed.get(place),
        owner=members[place.group].owners.get(place.topic_partition),
    )


def _due(record: Record) -> float | None:
    if not record.topic.startswith(DELAY_PREFIX):
        return None
    try:
        return read_wait(record).release_at.timestamp()
    except DecodeError:
        return None  # The delay line gives it up at once.

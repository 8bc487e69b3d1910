"""Which partitions have a group's position outside what they keep: from watermarks and committed offsets alone."""

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec

from pabal.broker.port import Admin, TopicPartition, Watermarks
from pabal.errors import UnknownTopic


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A position that its partition does not keep. `committed` is None where the group has never committed."""

    group: str
    topic: str
    partition: int
    committed: int | None
    low: int
    high: int

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, self.partition)

    @property
    def why(self) -> Literal["deleted", "above the end", "never read"]:
        """What kind of gap it is."""
        if self.committed is None:
            return "never read"
        return "deleted" if self.committed < self.low else "above the end"

    @property
    def count(self) -> int:
        """How many records were deleted unread, counted in offsets. Above the end that is not known: 0."""
        return max(self.low - (self.committed or 0), 0)


def gap_of(group: str, partition: TopicPartition, marks: Watermarks, *, committed: int | None) -> Gap | None:
    """The gap of one partition, if it has one.

    A partition without a committed offset is read from its low watermark: what was deleted before that, nobody of this
    group has read.
    """
    if marks.low <= (0 if committed is None else committed) <= marks.high:
        return None
    topic, number = partition
    return Gap(group=group, topic=topic, partition=number, committed=committed, low=marks.low, high=marks.high)


async def find_gaps(admin: Admin, groups: Mapping[str, Collection[str]]) -> list[Gap]:
    """The gaps of these groups on their topics; a topic that does not exist has none. Raises LogError."""
    marks: dict[str, Mapping[TopicPartition, Watermarks]] = {}
    gaps: list[Gap] = []
    for group, topics in groups.items():
        committed = await admin.committed(group, topics)
        for topic in topics:
            if topic not in marks:
                try:
                    marks[topic] = await admin.watermarks(topic)
                except UnknownTopic:
                    marks[topic] = {}
            found = (
                gap_of(group, partition, each, committed=committed.get(partition))
                for partition, each in sorted(marks[topic].items())
            )
            gaps += [gap for gap in found if gap is not None]
    return gaps

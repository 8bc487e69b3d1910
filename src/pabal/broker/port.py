"""The log behind Pabal: partitioned, replicated or embedded, with Kafka's words and Kafka's meaning.

Two adapters implement this port: `broker/kafka/` (a Kafka cluster) and `broker/sqlite/` (one file on one
host). `pabal.testing.BrokerContract` states the laws and runs them against both.

Words. A *topic* has *partitions*; a record's *offset* increases within its partition. An offset that is
committed, or given as a start, is always that of the *next* record to read. The *low watermark* is the first
offset that is still kept, the *high watermark* the offset that the next record will get. *Lag* is the high
watermark minus the committed offset (minus the low watermark where nothing is committed yet).

Tasks and threads. Every object belongs to the event loop it was made in. `Producer.append` may be called by
any number of tasks at once (appends that are waiting share a write). A `Consumer` serves one polling task;
`commit`, `pause` and `resume` may come from others, `seek` is the polling task's. Cancelling any call loses no
record: what was asked either happened or not, and a cancelled `poll` hands its records to the next one.

After `close`. `close` is idempotent and waits for what is under way; every other call then raises `Closed`.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

import msgspec

Headers = tuple[tuple[str, bytes], ...]


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Position(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class NewRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record to append. One key keeps its order; without a key the log chooses the partition.

    `value=None` is a tombstone on a compacted topic. `partition` overrides the choice by key.
    """

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A record as it stands in the log. `timestamp` is its append time in seconds since the Unix epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: float
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition this record stands in."""
        return TopicPartition(self.topic, self.partition)

    def header(self, name: str) -> bytes | None:
        """The last header of that name (Kafka's rule for repeated names), or None."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None


class Watermarks(NamedTuple):
    """First offset kept, and the offset the next record will get."""

    low: int
    high: int


class TopicSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A topic as it should be made. `retention_seconds=None` keeps for ever (a compacted topic has none)."""

    name: str
    partitions: int
    retention_seconds: int | None = None
    compacted: bool = False
    replication: int | None = None
    """Copies of each record; None: the cluster's default. The embedded log has one copy whatever is asked."""


class Replicas(NamedTuple):
    """Copies of one partition: how many are in sync, and how many there should be."""

    in_sync: int
    total: int


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """The log as a whole. `id` names it for ever. The embedded log is no cluster: 0 brokers, and no replicas."""

    id: str
    brokers: int
    replicas: Mapping[TopicPartition, Replicas]


class GroupMembers(msgspec.Struct, frozen=True, kw_only=True):
    """Who is in a group now: how many members, and which of them owns a partition, by its name in the log."""

    members: int
    owners: Mapping[TopicPartition, str]


class Producer(Protocol):
    """Appends records durably."""

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """Append `records`; return once every one is acknowledged by all in-sync replicas (or the disk).

        Records of one call to one partition keep their order. Not atomic across records: when this raises,
        any of them may have been written, and appending them again may write them twice.

        Raises:
            UnknownTopic: a topic does not exist (none of the call's records for it was written).
            RecordRefused: the log will never take some of the records; its `indexes` say which, counted in
                `records`. Every one of them is to blame itself, but there may be more that were not tried yet.
                Kafka refuses what is larger than its topic's `max.message.bytes` (1 MiB as delivered) and, on a
                compacted topic, what has no key. The embedded log refuses none: its only limit is
                SQLite's 1 GB per row (LogError).
            LogUnavailable: no acknowledgement within the producer's deadline.
        """
        ...

    async def close(self) -> None:
        """Wait for what is under way, within the deadline, and let go."""
        ...


class Assignment(Protocol):
    """What a consumer is told when its partitions change. Called in the event loop; must return quickly."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """These are mine from now on (unpaused, from the committed offset)."""
        ...

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """These go to another member: drop what waits for them; the offsets returned are committed first."""
        ...

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """These were taken away already (fenced): drop what waits for them; nothing can be committed."""
        ...


class Consumer(Protocol):
    """A member of a consumer group: reads its share of the partitions, from the committed offsets.

    A partition without a committed offset is read from its low watermark. A position outside the watermarks (unread
    records were deleted, or the topic was made anew and the committed offset lies above its end) is an error, never a
    silent skip: that partition stands still until `seek`, and the others are read on.
    """

    async def poll(self, *, limit: int, timeout_seconds: float) -> Sequence[Record]:
        """Up to `limit` records, as soon as there is one; empty after `timeout_seconds`.

        Polling is the sign of life: a member that does not poll for its session time loses its partitions.

        Raises:
            OffsetOutOfRange: an assigned partition stands still. Raised once as soon as it is found out, and again,
                about each such partition in turn, by every poll that would be empty. The other partitions' records
                come as ever.
            UnknownTopic: a subscribed topic does not exist.
        """
        ...

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Make these the offsets to go on from. Returns once durable.

        Raises:
            NotAssigned: a partition is not (or no longer) this member's; the others' offsets are committed.
            LogUnavailable: unknown whether it took; safe to repeat.
        """
        ...

    async def pause(self, partitions: Collection[TopicPartition]) -> None:
        """Let `poll` return nothing from these; nothing is lost.

        A pause ends with the ownership: a partition kept through a rebalance stays paused, one that comes back
        is not.

        Raises:
            NotAssigned: a partition is not (or no longer) this member's; the owned ones are paused all the same.
        """
        ...

    async def resume(self, partitions: Collection[TopicPartition]) -> None:
        """End a pause. Resuming what is not paused is harmless.

        Raises:
            NotAssigned: a partition is not (or no longer) this member's; the owned ones are resumed all the same.
        """
        ...

    async def seek(self, partition: TopicPartition, *, offset: int) -> None:
        """Let `poll` go on with `offset`: what was fetched of the partition is dropped, a standstill is over.

        A pause stays. Nothing is committed by it, and where a later member begins is what was committed.

        Raises:
            NotAssigned: the partition is not (or no longer) this member's.
            LogUnavailable: the member did not get to it in time; safe to repeat.
        """
        ...

    async def close(self) -> None:
        """Leave the group at once (calls `revoked` first), so that others take over without a wait."""
        ...


class Reader(Protocol):
    """Reads without a group: by offset or time."""

    def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """The records of `partition` from `start` (None: the low watermark; a time: the first record appended
        at or after it) up to but without offset `stop` (None: the high watermark seen at the call).

        Yields non-empty batches in order and ends; it never waits for records yet to come.

        Raises:
            OffsetOutOfRange: `start` lies below the low watermark.
            UnknownTopic: no such topic or partition.
        """
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Admin(Protocol):
    """Looks at and shapes topics and groups. There is no way to delete a topic, on purpose."""

    async def topics(self) -> Mapping[str, TopicSpec]:
        """Every topic by name."""
        ...

    async def create_topic(self, spec: TopicSpec) -> bool:
        """Make a topic; False when it exists already (it is left as it is)."""
        ...

    async def add_partitions(self, topic: str, *, total: int) -> None:
        """Grow a topic to `total` partitions (never shrinks: raises LogError)."""
        ...

    async def configure_topic(self, spec: TopicSpec) -> None:
        """Bring retention and compaction of an existing topic to `spec`."""
        ...

    async def watermarks(self, *topics: str) -> Mapping[TopicPartition, Watermarks]:
        """Low and high watermark of every partition of these topics, asked all at once. Raises UnknownTopic."""
        ...

    async def check_writable(self, topics: Collection[str]) -> None:
        """Return when an append to each of the topics would be acknowledged now.

        Raises:
            UnknownTopic: one of them does not exist.
            LogUnavailable: it would not: the disk is full, a partition has no leader or too few replicas in sync.
        """
        ...

    async def committed(self, group: str, topics: Collection[str] | None = None) -> Mapping[TopicPartition, int]:
        """Committed offsets of a group, of these topics or (None) of all; partitions without one are absent."""
        ...

    async def members(self, groups: Collection[str]) -> Mapping[str, GroupMembers]:
        """Who is in each of these groups, asked all at once; a group that does not exist has no member."""
        ...

    async def cluster(self) -> Cluster:
        """The log's identity, its brokers, and how many replicas of each partition are in sync."""
        ...

    async def reset_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set a group's committed offsets. Raises LogError while the group has members."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


class Broker(Protocol):
    """A log to work with: makes the four kinds of client. Closing it closes what it made."""

    def producer(self, *, deadline_seconds: float = 5.0) -> Producer:
        """A producer whose `append` answers or raises within about `deadline_seconds`."""
        ...

    def consumer(
        self, group: str, topics: Sequence[str], assignment: Assignment, *, instance: str | None = None
    ) -> Consumer:
        """A member of `group`. With `instance` (static membership, KIP-345) a restarted member of that name
        takes its predecessor's place at once, and the predecessor is fenced."""
        ...

    def reader(self) -> Reader:
        """A reader."""
        ...

    def admin(self) -> Admin:
        """An admin client."""
        ...

    def ailments(self) -> Sequence[str]:
        """What of this process's own part in the log has died or stands still, in words; empty: nothing.

        Never because of the log itself, which may be away. Never waits. A restart is what helps.
        """
        ...

    async def close(self) -> None:
        """Close everything this made."""
        ...

"""What the laws of the log work with: an adapter's hooks, and a lab of topics, members and connections."""

import asyncio
import itertools
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings

from pabal.broker.port import Broker, NewRecord, Record, TopicPartition, TopicSpec
from pabal.errors import LogError, LogUnavailable


class BrokerHarness(ABC):
    """The hooks and declared differences of one adapter; the laws below use nothing else of it."""

    session_seconds: ClassVar[float] = 1.0
    """After so long without a sign of life `open`'s members lose their partitions."""

    patience_seconds: ClassVar[float] = 10.0
    """How long a test waits for what must happen before it fails."""

    takeover_slack_seconds: ClassVar[float] = 2.0
    """How much longer than the session a takeover may take on a busy machine."""

    offsets_are_dense: ClassVar[bool] = True
    """Whether offsets of an uncompacted topic have no gaps. Kafka's may (transactions' control records)."""

    fences_duplicate_instance: ClassVar[bool] = True
    """Whether a second member of one `instance` fences the first while that lives. Under KIP-848 it does not:
    the broker turns the second away until the first's session ends."""

    model_settings: ClassVar[settings] = settings(
        max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    """How long Hypothesis searches for a difference from the model."""

    @abstractmethod
    async def open(self) -> Broker:
        """A new connection, independent of the others, to the one log of this test."""

    @abstractmethod
    def process_command(self) -> Sequence[str]:
        """The command line of a process that opens the same log and hands the arguments that follow to
        `pabal.testing.broker_process.run`; its members have `session_seconds` too."""

    @abstractmethod
    async def expire(self, broker: Broker, topic: str) -> None:
        """Have retention delete every record that `topic` holds now; return when it has."""

    @abstractmethod
    async def compact(self, broker: Broker, topic: str) -> None:
        """Have compaction run over what `topic` holds now, as if its tombstones had become old enough to go.

        The test looks again and again, calling this before each look, until `patience_seconds` are over."""

    async def create_topic(self, broker: Broker, spec: TopicSpec) -> None:
        """Make a topic for a test. Override to add settings that make `compact` quick."""
        admin = broker.admin()
        assert await admin.create_topic(spec)
        await admin.close()

    @pytest.fixture
    async def lab(self) -> AsyncIterator["Lab"]:
        """A lab with one connection open; closes whatever the test opened."""
        lab = Lab(self, await self.open())
        yield lab
        await lab.close()


class Lab:
    """One test's topics, groups, members and connections, under names no other test uses."""

    def __init__(self, harness: BrokerHarness, broker: Broker) -> None:
        self.harness = harness
        self.broker = broker
        self.owned_twice: list[TopicPartition] = []
        """Partitions assigned to a member while another live member of its group owned them."""
        self._members: list[Member] = []
        self._prefix = f"t-{uuid.uuid4().hex[:10]}"
        self._numbers = itertools.count()
        self._brokers = [broker]
        self._processes: list[asyncio.subprocess.Process] = []

    def name(self) -> str:
        """A topic or group name that is new."""
        return f"{self._prefix}-{next(self._numbers)}"

    async def topic(self, *, partitions: int = 1, compacted: bool = False, retention_seconds: int | None = None) -> str:
        """A new topic's name."""
        name = self.name()
        spec = TopicSpec(name=name, partitions=partitions, compacted=compacted, retention_seconds=retention_seconds)
        await self.harness.create_topic(self.broker, spec)
        return name

    async def connect(self) -> Broker:
        """Another connection to the same log."""
        broker = await self.harness.open()
        self._brokers.append(broker)
        return broker

    def member(self, group: str, *topics: str, instance: str | None = None, broker: Broker | None = None) -> "Member":
        """A member of `group`, on the first connection unless told otherwise. It joins when it polls."""
        member = Member(self, broker or self.broker, group, topics, instance)
        self._members.append(member)
        return member

    def note_assigned(self, member: "Member", partitions: Collection[TopicPartition]) -> None:
        """Note that `member` was assigned `partitions`."""
        for other in self._members:
            if other is not member and other.group == member.group:
                self.owned_twice += other.owned & set(partitions)

    async def append(self, topic: str, *values: str, key: str | None = None, partition: int = 0) -> list[int]:
        """Append text values to one partition; their offsets."""
        records = [record(topic, value, key=key, partition=partition) for value in values]
        producer = self.broker.producer(deadline_seconds=self.harness.patience_seconds)
        try:
            return [position.offset for position in await producer.append(records)]
        finally:
            await producer.close()

    async def read(self, topic: str, partition: int = 0, *, start: int | None = None) -> list[Record]:
        """Everything a partition holds from `start`."""
        reader = self.broker.reader()
        batches = [batch async for batch in reader.read(TopicPartition(topic, partition), start=start)]
        await reader.close()
        return [each for batch in batches for each in batch]

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """A group's committed offsets by partition number."""
        admin = self.broker.admin()
        offsets = await admin.committed(group, [topic])
        await admin.close()
        return {partition.partition: offset for partition, offset in offsets.items()}

    async def reset_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set a group's committed offsets; a coordinator that only begins to be one is asked again."""
        admin = self.broker.admin()
        deadline = time.monotonic() + self.harness.patience_seconds
        while True:
            try:
                await admin.reset_offsets(group, offsets)
                break
            except LogUnavailable:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(0.1)
        await admin.close()

    async def start_process(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start `process_command` with `arguments`; killed at the end if it still lives."""
        process = await asyncio.create_subprocess_exec(
            *self.harness.process_command(), *arguments, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        self._processes.append(process)
        return process

    async def poll_until(
        self, done: Callable[[], bool], *members: "Member", tolerating: type[LogError] | tuple[()] = ()
    ) -> None:
        """Let all `members` poll until `done()`; fails after `patience_seconds`, or with an error of a poll that is not
        to be tolerated."""
        deadline = time.monotonic() + self.harness.patience_seconds
        while not done():
            if time.monotonic() > deadline:
                pytest.fail(f"still not so: {', '.join(map(str, members))}")
            polled = await asyncio.gather(
                *(member.poll(timeout_seconds=0.05) for member in members), return_exceptions=True
            )
            for error in polled:
                if isinstance(error, BaseException) and not isinstance(error, tolerating):
                    raise error

    async def close(self) -> None:
        """Kill the processes, close the connections."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.communicate()
        for broker in self._brokers:
            await broker.close()


class Member:
    """A consumer together with what it was told and handed. On revocation it commits what it was handed."""

    def __init__(self, lab: Lab, broker: Broker, group: str, topics: Sequence[str], instance: str | None) -> None:
        self.lab = lab
        self.group = group
        self.owned: set[TopicPartition] = set()
        self.lost_partitions: list[TopicPartition] = []
        self.revoked_partitions: list[TopicPartition] = []
        self.records: list[Record] = []
        self.commits_when_revoked = True
        self._next: dict[TopicPartition, int] = {}
        self.consumer = broker.consumer(group, topics, self, instance=instance)

    def __str__(self) -> str:
        owned = sorted((each.topic, each.partition) for each in self.owned)
        return f"member of {self.group} with {owned} and {len(self.records)} records"

    @property
    def values(self) -> list[str]:
        """What it was handed, as text."""
        return [text(each) for each in self.records]

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.assigned`."""
        assert not self.owned & set(partitions), "assigned what it owns already"
        self.lab.note_assigned(self, partitions)
        self.owned |= set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`."""
        assert self.owned >= set(partitions), "revoked what it does not own"
        self.owned -= set(partitions)
        self.revoked_partitions += partitions
        offsets = {each: self._next.pop(each) for each in partitions if each in self._next}
        return offsets if self.commits_when_revoked else {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.lost`."""
        self.owned -= set(partitions)
        self.lost_partitions += partitions
        for each in partitions:
            self._next.pop(each, None)

    async def poll(self, *, limit: int = 100, timeout_seconds: float) -> Sequence[Record]:
        """Poll once and note what came."""
        records = await self.consumer.poll(limit=limit, timeout_seconds=timeout_seconds)
        self.note(records)
        return records

    def note(self, records: Sequence[Record]) -> None:
        """Note records as handed to this member."""
        for each in records:
            assert each.topic_partition in self.owned, "handed a record of a partition it does not own"
            self._next[each.topic_partition] = each.offset + 1
        self.records += records

    async def take(self, count: int) -> list[str]:
        """Poll until `count` more records came; their values. One too many is a failure."""
        before = len(self.records)
        await self.lab.poll_until(lambda: len(self.records) >= before + count, self)
        assert len(self.records) == before + count
        return self.values[before:]

    async def join(self) -> None:
        """Poll until at least one partition is this member's."""
        await self.lab.poll_until(lambda: bool(self.owned), self)

    async def commit(self) -> None:
        """Commit everything it was handed."""
        await self.consumer.commit(self._next)

    async def close(self) -> None:
        """Leave the group."""
        await self.consumer.close()


def record(topic: str, value: str, *, key: str | None = None, partition: int | None = None) -> NewRecord:
    """A record with text in it."""
    return NewRecord(topic=topic, key=None if key is None else key.encode(), value=value.encode(), partition=partition)


def text(record: Record) -> str:
    """A record's value as text."""
    assert record.value is not None
    return record.value.decode()

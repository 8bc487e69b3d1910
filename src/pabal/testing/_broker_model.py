"""The law of laws: whatever is done in whatever order, the log agrees with a small model of it."""

import asyncio
from collections import defaultdict

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from pabal.broker.port import TopicPartition
from pabal.testing._broker_lab import BrokerHarness, Lab, Member, text

_PARTITIONS = 2


class Model:
    """A log with one topic and one group that has one member at a time, in plain lists."""

    def __init__(self) -> None:
        self.kept: dict[int, list[str]] = defaultdict(list)
        self.committed: dict[int, int] = {}
        self.position: dict[int, int] = defaultdict(int)
        self.paused: set[int] = set()

    def append(self, partition: int, values: list[str]) -> None:
        self.kept[partition] += values

    def waiting(self) -> int:
        """How many records the member can still be handed."""
        return sum(
            len(values) - self.position[partition]
            for partition, values in self.kept.items()
            if partition not in self.paused
        )

    def hand(self, partition: int, value: str) -> None:
        """The log handed the member this record: it must be the next one of a partition not paused."""
        assert partition not in self.paused
        assert self.kept[partition][self.position[partition]] == value
        self.position[partition] += 1

    def commit(self) -> None:
        self.committed.update(self.position)

    def restart(self) -> None:
        """A new member goes on from what is committed, with nothing paused."""
        self.position = defaultdict(int, self.committed)
        self.paused.clear()

    def lag(self, partition: int) -> int:
        return len(self.kept[partition]) - self.committed.get(partition, 0)


class LogMachine(RuleBasedStateMachine):
    """Does the same to the log and to the model."""

    harness: BrokerHarness
    runner: asyncio.Runner

    @initialize()
    def begin(self) -> None:
        self.model = Model()
        self.count = 0
        self.runner.run(self._begin())

    async def _begin(self) -> None:
        self.lab = Lab(self.harness, await self.harness.open())
        self.topic, self.group = await self.lab.topic(partitions=_PARTITIONS), self.lab.name()
        self.producer = self.lab.broker.producer()
        self.member: Member = self.lab.member(self.group, self.topic)

    @rule(partition=st.integers(0, _PARTITIONS - 1), count=st.integers(1, 4))
    def append(self, partition: int, count: int) -> None:
        values = [str(self.count + number) for number in range(count)]
        self.count += count
        self.runner.run(self.lab.append(self.topic, *values, partition=partition))
        self.model.append(partition, values)

    @precondition(lambda self: self.model.waiting() > 0)
    @rule(limit=st.integers(1, 5))
    def poll(self, limit: int) -> None:
        """Poll until something comes, as something must."""
        self.runner.run(self._poll(limit))

    async def _poll(self, limit: int) -> None:
        before = len(self.member.records)

        async with asyncio.timeout(self.harness.patience_seconds):
            while len(self.member.records) == before:
                await self.member.poll(limit=limit, timeout_seconds=0.5)

        for each in self.member.records[before:]:
            self.model.hand(each.partition, text(each))

    @rule()
    def commit(self) -> None:
        self.runner.run(self.member.commit())
        self.model.commit()

    @precondition(lambda self: bool(self.member.owned))
    @rule(partition=st.integers(0, _PARTITIONS - 1))
    def pause(self, partition: int) -> None:
        self.runner.run(self.member.consumer.pause([TopicPartition(self.topic, partition)]))
        self.model.paused.add(partition)

    @precondition(lambda self: bool(self.member.owned))
    @rule(partition=st.integers(0, _PARTITIONS - 1))
    def resume(self, partition: int) -> None:
        self.runner.run(self.member.consumer.resume([TopicPartition(self.topic, partition)]))
        self.model.paused.discard(partition)

    @rule(commits=st.booleans(), reconnects=st.booleans())
    def restart(self, *, commits: bool, reconnects: bool) -> None:
        """The member leaves and a new one comes; perhaps on a new connection."""
        self.runner.run(self._restart(commits=commits, reconnects=reconnects))
        if commits:
            self.model.commit()
        self.model.restart()

    async def _restart(self, *, commits: bool, reconnects: bool) -> None:
        self.member.commits_when_revoked = commits
        await self.member.close()
        if reconnects:
            await self.lab.broker.close()
            self.lab.broker = await self.lab.connect()
        self.member = self.lab.member(self.group, self.topic)

    @rule(partition=st.integers(0, _PARTITIONS - 1))
    def look(self, partition: int) -> None:
        """Everything kept can be read again, and lag is what it should be."""
        self.runner.run(self._look(partition))

    async def _look(self, partition: int) -> None:
        records = await self.lab.read(self.topic, partition)
        watermarks = await self.lab.broker.admin().watermarks(self.topic)
        committed = await self.lab.committed(self.group, self.topic)

        assert [text(each) for each in records] == self.model.kept[partition]
        high = watermarks[TopicPartition(self.topic, partition)].high
        if self.harness.offsets_are_dense:
            assert high - committed.get(partition, 0) == self.model.lag(partition)

    def teardown(self) -> None:
        if hasattr(self, "lab"):
            self.runner.run(self.lab.close())


class ModelLaws(BrokerHarness):
    """Agreement with the model."""

    def test_the_log_agrees_with_a_small_model_of_it(self) -> None:
        with asyncio.Runner() as runner:
            machine = type("Machine", (LogMachine,), {"harness": self, "runner": runner})
            run_state_machine_as_test(machine, settings=self.model_settings)

"""Samples of a real log, on both logs: lag, age, owner, and what retention took."""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Broker, NewRecord, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.codec import delay_record
from pabal.errors import LogUnavailable
from pabal.lag import Sample
from pabal.monitor.samples import DELAY_PREFIX, Owner, Place, Sampled
from pabal.monitor.sampling import Sampler
from pabal.monitor.windows import Windows
from pabal.retry import Wait
from tests.waiting import eventually_told
from tests.worker.lab import a_delivery


class _Nothing:
    """An assignment that keeps nothing."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        pass

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        pass


class Lab:
    """A log with one topic of two partitions, and a group that reads it."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.broker, self.topic = broker, topic
        self.group = f"group-{uuid4().hex[:8]}"
        self.sampler = self.sampler_of(topic)

    def sampler_of(self, *topics: str) -> Sampler:
        return Sampler(
            admin=self.broker.admin(), reader=self.broker.reader(), groups={self.group: topics}, clock=SystemClock()
        )

    async def append(self, *values: str, partition: int = 0) -> None:
        await self.broker.producer().append(
            [NewRecord(topic=self.topic, key=b"k", value=value.encode(), partition=partition) for value in values]
        )

    async def commit(self, partition: TopicPartition, *, offset: int) -> None:
        """Set the group's offset; a coordinator that only begins to be one is asked again."""

        async def is_done() -> bool:
            with contextlib.suppress(LogUnavailable):
                await self.broker.admin().reset_offsets(self.group, {partition: offset})
                return True
            return False

        await eventually_told(is_done)

    async def sample(self, partition: int = 0, **told: object) -> Sample:
        place = Place(self.group, self.topic, partition)
        owner = {place: Owner(**told)} if told else {}  # type: ignore[arg-type]

        async def taken() -> Sampled | None:
            with contextlib.suppress(LogUnavailable):
                return await self.sampler.take(owner)
            return None

        sampled = await eventually_told(taken)
        assert sampled is not None
        return sampled.samples[place]


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lab]:
    broker: Broker
    if request.param == "kafka":
        broker = await KafkaBroker.open(request.getfixturevalue("kafka_bootstrap"))
    else:
        broker = await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock())
    topic = f"topic-{uuid4().hex[:8]}"
    await broker.admin().create_topic(TopicSpec(name=topic, partitions=2))
    yield Lab(broker, topic)
    await broker.close()


async def test_what_waits_is_counted_from_the_committed_offset_and_as_old_as_its_first_record(lab: Lab) -> None:
    await lab.append("a", "b", "c")
    before = await lab.sample()
    await lab.commit(TopicPartition(lab.topic, 0), offset=2)

    after, other = await lab.sample(), await lab.sample(partition=1)

    assert (before.lag, before.committed) == (3, None)
    assert (after.lag, after.committed, after.high) == (1, 2, 3)
    assert after.age_seconds is not None
    assert 0 <= after.age_seconds < 60
    assert (other.lag, other.age_seconds) == (0, 0.0)


async def test_a_partition_has_the_owner_that_the_group_gave_it_and_what_the_owner_told(lab: Lab) -> None:
    await lab.append("a")
    alone = await lab.sample(held="guard", is_polling=True)
    consumer = lab.broker.consumer(lab.group, [lab.topic], _Nothing(), instance="one")

    async def owned() -> Sample | None:
        await consumer.poll(limit=1, timeout_seconds=0.2)
        sample = await lab.sample(held="guard", is_polling=True)
        return sample if sample.owner else None

    sample = await eventually_told(owned, within_seconds=30)
    assert sample is not None
    await consumer.close()

    assert (alone.owner, alone.held) == (None, None)
    assert (sample.owner, sample.held, sample.is_polling) == ("one", "guard", True)


async def test_a_record_of_a_delay_topic_is_judged_by_how_late_it_is(lab: Lab) -> None:
    topic = f"{DELAY_PREFIX}{lab.topic}"
    await lab.broker.admin().create_topic(TopicSpec(name=topic, partitions=1))
    now = SystemClock().now()
    late = Wait(due=now - timedelta(minutes=1), release_at=now - timedelta(minutes=1))
    await lab.broker.producer().append([delay_record(a_delivery(), topic=topic, wait=late)])

    sampled = await lab.sampler_of(topic).take()
    [sample] = sampled.samples.values()

    assert sample.lag == 1
    assert sample.overdue_seconds is not None
    assert sample.age_seconds is not None
    assert sample.overdue_seconds - sample.age_seconds == pytest.approx(60, abs=30)


async def test_the_windows_keep_the_last_samples_and_say_what_they_mean(lab: Lab) -> None:
    windows = Windows(samples=3)
    for count in range(4):
        await lab.append(*"x" * (count + 1))
        windows.note(await lab.sampler.take())

    [group] = windows.groups()
    [first, second] = group.partitions

    assert (group.group, group.lag, group.members) == (lab.group, 10, 0)
    assert (first.lag, second.lag) == (10, 0)
    assert len(windows.window(Place(lab.group, lab.topic, 0))) == 3
    assert group.completeness == 1.0
    assert group.verdict == "incomplete", "it has been without a member for a moment only"
    windows.note(Sampled(at=99.0, samples={}, members={}))
    assert windows.groups() == []

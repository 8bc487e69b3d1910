"""The time lag is the age of the first record that is left, where compaction or retention took the ones before it.

And under traffic no lag is ever negative. All on both logs.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import pytest

from pabal.broker.port import Record, TopicPartition, Watermarks
from pabal.clock import ManualClock, SystemClock
from pabal.lag import Sample
from pabal.monitor.samples import Place
from pabal.monitor.sampling import Sampler
from pabal.testing._broker_lab import BrokerHarness, Lab, Member
from tests.broker.hooks import SqliteHooks
from tests.kafka.hooks import KafkaHooks
from tests.waiting import eventually_told

LATER = datetime(2100, 1, 1, tzinfo=UTC)
SAMPLES = 40


async def sample_of(lab: Lab, group: str, topic: str) -> Sample:
    """A sample of the only partition, taken in the year 2100: an age says exactly when a record was appended."""
    admin, reader = lab.broker.admin(), lab.broker.reader()
    sampler = Sampler(admin=admin, reader=reader, groups={group: [topic]}, clock=ManualClock(LATER))
    sampled = await sampler.take()
    await admin.close()
    await reader.close()
    return sampled.samples[Place(group, topic, 0)]


def age_of(record: Record) -> float:
    return LATER.timestamp() - record.timestamp


class BusyAdmin:
    """An admin client of a log on which, after every question, a record comes and goes."""

    def __init__(self, lab: Lab, member: Member, topic: str) -> None:
        self._lab = lab
        self._member = member
        self._topic = topic
        self._inner = lab.broker.admin()
        inner = self._inner
        self.topics, self.create_topic, self.configure_topic = inner.topics, inner.create_topic, inner.configure_topic
        self.add_partitions, self.check_writable = inner.add_partitions, inner.check_writable
        self.members, self.cluster = inner.members, inner.cluster
        self.reset_offsets, self.close = inner.reset_offsets, inner.close

    async def watermarks(self, *topics: str) -> Mapping[TopicPartition, Watermarks]:
        found = await self._inner.watermarks(*topics)
        await self._come_and_go()
        return found

    async def committed(self, group: str, topics: Collection[str] | None = None) -> Mapping[TopicPartition, int]:
        found = await self._inner.committed(group, topics)
        await self._come_and_go()
        return found

    async def _come_and_go(self) -> None:
        await self._lab.append(self._topic, "x")
        await self._member.poll(timeout_seconds=0.5)
        await self._member.commit()


class SamplingAcrossGaps(BrokerHarness):
    """The laws, on one log."""

    async def test_where_compaction_took_the_record_the_next_one_that_is_left_is_the_oldest(self, lab: Lab) -> None:
        topic, group = await lab.topic(compacted=True), lab.name()
        for value in ("first", "second", "third"):
            await lab.append(topic, value, key="same")
        await lab.reset_offsets(group, {TopicPartition(topic, 0): 0})

        async def compacted() -> list[Record]:
            await self.compact(lab.broker, topic)
            left = await lab.read(topic)
            return left if len(left) == 1 else []

        [left] = await eventually_told(compacted, within_seconds=self.patience_seconds)
        sample = await sample_of(lab, group, topic)

        assert left.offset == 2
        assert sample.lag >= 1
        assert sample.age_seconds == pytest.approx(age_of(left), abs=1e-3)

    async def test_what_retention_took_is_lost_and_the_oldest_is_the_first_that_is_left(self, lab: Lab) -> None:
        topic, group = await lab.topic(retention_seconds=3600), lab.name()
        await lab.append(topic, "a", "b", "c")
        await lab.reset_offsets(group, {TopicPartition(topic, 0): 1})
        await self.expire(lab.broker, topic)
        emptied = await sample_of(lab, group, topic)
        await lab.append(topic, "d", "e")
        sample = await sample_of(lab, group, topic)

        first, _ = await lab.read(topic)
        assert (emptied.lag, emptied.lost, emptied.age_seconds) == (0, 2, 0.0)
        assert (sample.lag, sample.lost) == (2, 2)
        assert sample.age_seconds == pytest.approx(age_of(first), abs=1e-3)

    async def test_while_records_come_and_go_no_offset_is_committed_beyond_an_end(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        place = Place(group, topic, 0)
        busy = BusyAdmin(lab, lab.member(group, topic), topic)
        reader = lab.broker.reader()
        sampler = Sampler(admin=busy, reader=reader, groups={group: [topic]}, clock=SystemClock())

        samples = [(await sampler.take()).samples[place] for _ in range(SAMPLES)]

        assert samples[-1].committed is not None
        assert min(each.high - (each.committed or 0) for each in samples) >= 0
        assert [each for each in samples if (each.lag == 0) != (each.age_seconds == 0.0)] == []
        await busy.close()
        await reader.close()


class TestOnTheEmbeddedLog(SqliteHooks, SamplingAcrossGaps):
    """One SQLite file."""


@pytest.mark.kafka
class TestOnKafka(KafkaHooks, SamplingAcrossGaps):
    """A real Kafka."""

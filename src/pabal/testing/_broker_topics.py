"""Laws about topics: made on purpose, grown, cleaned; watermarks, lag and offsets are what they should be."""

import time

import pytest

from pabal.broker.port import NewRecord, Record, TopicPartition, TopicSpec, Watermarks
from pabal.errors import LogError, OffsetOutOfRange, UnknownTopic
from pabal.testing._broker_lab import BrokerHarness, Lab, record, text


class TopicLaws(BrokerHarness):
    """Shaping and looking at topics; retention and compaction."""

    async def test_a_topic_is_made_once_and_left_as_it_is_afterwards(self, lab: Lab) -> None:
        admin = lab.broker.admin()
        spec = TopicSpec(name=lab.name(), partitions=3, retention_seconds=7200)

        made = await admin.create_topic(spec)
        made_again = await admin.create_topic(TopicSpec(name=spec.name, partitions=5))

        assert (made, made_again) == (True, False)
        found = (await admin.topics())[spec.name]
        assert (found.partitions, found.retention_seconds, found.compacted) == (3, 7200, False)

    async def test_what_one_connection_makes_another_sees(self, lab: Lab) -> None:
        other = await lab.connect()
        topic = await lab.topic(partitions=2)

        await other.producer().append([record(topic, "x", partition=1)])

        assert [text(each) for each in await lab.read(topic, 1)] == ["x"]

    async def test_a_topic_grows_and_never_shrinks(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        await lab.append(topic, "before")
        admin = lab.broker.admin()

        await admin.add_partitions(topic, total=4)
        with pytest.raises(LogError):
            await admin.add_partitions(topic, total=3)

        assert (await admin.topics())[topic].partitions == 4
        await lab.append(topic, "new", partition=3)
        assert [text(each) for each in await lab.read(topic, 0)] == ["before"]
        assert [text(each) for each in await lab.read(topic, 3)] == ["new"]

    async def test_partitions_added_under_load_are_found_by_members_and_producers_that_run(self, lab: Lab) -> None:
        topic = await lab.topic()
        member = lab.member(lab.name(), topic, broker=await lab.connect())
        producer = (await lab.connect()).producer(deadline_seconds=self.patience_seconds)
        await producer.append([record(topic, "before", key="before")])
        await member.take(1)

        await lab.broker.admin().add_partitions(topic, total=2)
        deadline = time.monotonic() + self.patience_seconds
        while {each.partition for each in member.records} != {0, 1}:
            assert time.monotonic() < deadline, f"only partitions {member.owned} are read"
            await producer.append([record(topic, str(number), key=str(number)) for number in range(10)])
            await member.poll(timeout_seconds=0.1)

        assert len(member.owned) == 2

    async def test_retention_and_compaction_can_be_changed(self, lab: Lab) -> None:
        topic = await lab.topic(retention_seconds=7200)
        admin = lab.broker.admin()

        await admin.configure_topic(TopicSpec(name=topic, partitions=1, retention_seconds=3600))
        shorter = (await admin.topics())[topic]
        await admin.configure_topic(TopicSpec(name=topic, partitions=1, compacted=True))
        compacted = (await admin.topics())[topic]

        assert (shorter.retention_seconds, shorter.compacted) == (3600, False)
        assert (compacted.retention_seconds, compacted.compacted) == (None, True)

    async def test_looking_at_or_changing_a_missing_topic_raises(self, lab: Lab) -> None:
        missing = lab.name()
        admin = lab.broker.admin()

        with pytest.raises(UnknownTopic, match=missing):
            await admin.watermarks(missing)
        with pytest.raises(UnknownTopic, match=missing):
            await admin.add_partitions(missing, total=2)
        with pytest.raises(UnknownTopic, match=missing):
            await admin.configure_topic(TopicSpec(name=missing, partitions=1))
        with pytest.raises(UnknownTopic, match=missing):
            await admin.check_writable([await lab.topic(), missing])

    async def test_a_log_that_takes_appends_says_so_and_leaves_no_trace_of_the_question(self, lab: Lab) -> None:
        topic = await lab.topic()
        await lab.append(topic, "a")

        await lab.broker.admin().check_writable([topic])

        assert [text(each) for each in await lab.read(topic)] == ["a"]
        assert list(lab.broker.ailments()) == []

    async def test_watermarks_are_the_first_offset_kept_and_the_next_to_come(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)

        offsets = await lab.append(topic, "a", "b", partition=1)

        watermarks = await lab.broker.admin().watermarks(topic)
        assert watermarks[TopicPartition(topic, 0)] == Watermarks(0, 0)
        assert watermarks[TopicPartition(topic, 1)] == Watermarks(offsets[0], offsets[1] + 1)

    async def test_lag_is_the_end_minus_what_is_committed(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        await lab.append(topic, "a", "b")
        member = lab.member(group, topic)

        await member.take(2)
        nothing_committed = await lab.committed(group, topic)
        await member.commit()
        await lab.append(topic, "c", "d", "e")

        high = (await lab.broker.admin().watermarks(topic))[TopicPartition(topic, 0)].high
        assert nothing_committed == {}
        assert high - (await lab.committed(group, topic))[0] == 3

    async def test_offsets_of_a_group_without_members_can_be_set(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        offsets = await lab.append(topic, "a", "b", "c")
        admin = lab.broker.admin()

        await admin.reset_offsets(group, {TopicPartition(topic, 0): offsets[2]})

        assert await lab.committed(group, topic) == {0: offsets[2]}
        assert await lab.member(group, topic).take(1) == ["c"]

    async def test_offsets_of_a_group_with_members_are_not_set(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        member = lab.member(group, topic)
        await member.join()

        with pytest.raises(LogError):
            await lab.broker.admin().reset_offsets(group, {TopicPartition(topic, 0): 0})

        assert await lab.committed(group, topic) == {}

    async def test_retention_moves_the_low_watermark(self, lab: Lab) -> None:
        topic = await lab.topic(retention_seconds=3600)
        offsets = await lab.append(topic, "a", "b", "c")

        await self.expire(lab.broker, topic)

        watermarks = (await lab.broker.admin().watermarks(topic))[TopicPartition(topic, 0)]
        assert watermarks == Watermarks(offsets[-1] + 1, offsets[-1] + 1)
        assert await lab.append(topic, "d") == [offsets[-1] + 1]

    async def test_a_new_group_starts_at_the_low_watermark(self, lab: Lab) -> None:
        topic = await lab.topic(retention_seconds=3600)
        await lab.append(topic, "a", "b")
        await self.expire(lab.broker, topic)
        await lab.append(topic, "c")

        values = await lab.member(lab.name(), topic).take(1)

        assert values == ["c"]

    async def test_a_group_whose_unread_records_were_deleted_is_told(self, lab: Lab) -> None:
        topic, group = await lab.topic(retention_seconds=3600), lab.name()
        offsets = await lab.append(topic, "a", "b", "c")
        await lab.broker.admin().reset_offsets(group, {TopicPartition(topic, 0): offsets[1]})
        await self.expire(lab.broker, topic)
        await lab.append(topic, "d")
        member = lab.member(group, topic)

        with pytest.raises(OffsetOutOfRange):
            await member.take(1)

        assert member.values == []

    async def test_compaction_keeps_the_last_value_of_each_key_and_drops_tombstones(self, lab: Lab) -> None:
        topic = await lab.topic(compacted=True)
        producer = lab.broker.producer()
        for turn in range(20):
            await producer.append([record(topic, f"{key}{turn}", key=key) for key in "abc"])
        await producer.append([NewRecord(topic=topic, key=b"b", value=None)])
        await producer.append([record(topic, "end", key="end")])
        before = {each.offset: each for each in await lab.read(topic)}

        records = await self._read_compacted(lab, topic)

        assert {(each.key or b"").decode(): text(each) for each in records} == {
            "a": "a19",
            "c": "c19",
            "end": "end",
        }
        assert all(before[each.offset] == each for each in records)
        assert [each.offset for each in records] == sorted(each.offset for each in records)

    async def _read_compacted(self, lab: Lab, topic: str) -> list[Record]:
        """Compact and read until the tombstone is gone and every key is there once; each look must be sound."""
        deadline = time.monotonic() + self.patience_seconds
        while True:
            await self.compact(lab.broker, topic)
            records = await lab.read(topic)
            last = {each.key: each.value for each in records}
            assert (last.pop(b"a"), last.pop(b"c"), last.pop(b"end")) == (b"a19", b"c19", b"end")
            assert list(last.values()) in ([], [None]), "a deleted key came back"
            if not last and len(records) == 3:
                return records
            assert time.monotonic() < deadline, f"{len(records)} records are still there"

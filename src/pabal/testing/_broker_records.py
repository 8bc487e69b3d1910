"""Laws about records: what is appended is kept as it was, in order, where it was said to stand."""

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest

from pabal.broker.port import NewRecord, TopicPartition
from pabal.errors import LogError, OffsetOutOfRange, UnknownTopic
from pabal.testing._broker_lab import BrokerHarness, Lab, record, text


class RecordLaws(BrokerHarness):
    """Appending and reading without a group."""

    async def test_offsets_increase_within_a_partition(self, lab: Lab) -> None:
        topic = await lab.topic()

        offsets = await lab.append(topic, "a", "b", "c") + await lab.append(topic, "d")

        assert offsets == sorted(set(offsets))
        if self.offsets_are_dense:
            assert offsets == [0, 1, 2, 3]

    async def test_append_says_where_each_record_stands(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=3)
        producer = lab.broker.producer()

        positions = await producer.append([record(topic, str(number), key=f"key-{number}") for number in range(20)])

        where = {
            (each.partition, each.offset): text(each)
            for partition in range(3)
            for each in await lab.read(topic, partition)
        }
        assert [where[each.partition, each.offset] for each in positions] == [str(number) for number in range(20)]

    async def test_one_key_keeps_its_order_in_one_partition(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=4)
        producer = lab.broker.producer()

        for turn in range(5):
            await producer.append([record(topic, f"{key}{turn}", key=key) for key in "abcdefgh"])

        values = defaultdict(list)
        partitions = defaultdict(set)
        for partition in range(4):
            for each in await lab.read(topic, partition):
                values[each.key].append(text(each))
                partitions[each.key].add(partition)
        assert all(len(each) == 1 for each in partitions.values())
        assert {(key or b"").decode(): each for key, each in values.items()} == {
            key: [f"{key}{turn}" for turn in range(5)] for key in "abcdefgh"
        }

    async def test_a_given_partition_overrides_the_key(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=3)
        producer = lab.broker.producer()

        positions = await producer.append(
            [record(topic, "x", key="same", partition=partition) for partition in (2, 0, 1)]
        )

        assert [each.partition for each in positions] == [2, 0, 1]

    async def test_records_without_a_key_are_kept(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        producer = lab.broker.producer()

        await producer.append([record(topic, str(number)) for number in range(10)])

        records = await lab.read(topic, 0) + await lab.read(topic, 1)
        assert sorted(map(text, records), key=int) == [str(number) for number in range(10)]
        assert {each.key for each in records} == {None}

    async def test_headers_survive_with_repeated_names_and_empty_values(self, lab: Lab) -> None:
        topic = await lab.topic()
        headers = (("schema", b"a/1"), ("empty", b""), ("raw", bytes(range(256))), ("schema", b"a/2"))
        producer = lab.broker.producer()

        await producer.append([NewRecord(topic=topic, key=b"k", value=b"v", headers=headers)])

        [kept] = await lab.read(topic)
        assert kept.headers == headers
        assert kept.header("schema") == b"a/2"

    async def test_an_empty_value_is_not_a_tombstone(self, lab: Lab) -> None:
        topic = await lab.topic()
        producer = lab.broker.producer()

        await producer.append([NewRecord(topic=topic, key=b"k", value=value) for value in (b"", None)])

        assert [each.value for each in await lab.read(topic)] == [b"", None]

    async def test_a_large_record_is_kept(self, lab: Lab) -> None:
        topic = await lab.topic()
        value = bytes(range(256)) * 3500
        producer = lab.broker.producer()

        await producer.append([NewRecord(topic=topic, key=None, value=value)])

        assert [each.value for each in await lab.read(topic)] == [value]

    async def test_appending_nothing_is_allowed(self, lab: Lab) -> None:
        producer = lab.broker.producer()

        positions = await producer.append([])

        assert list(positions) == []

    async def test_an_append_to_a_missing_topic_is_refused_and_creates_none(self, lab: Lab) -> None:
        missing = lab.name()
        producer = lab.broker.producer()

        with pytest.raises(UnknownTopic, match=missing):
            await producer.append([record(missing, "x")])

        assert missing not in await lab.broker.admin().topics()

    async def test_an_append_to_a_missing_partition_is_refused(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        producer = lab.broker.producer()

        with pytest.raises(LogError):
            await producer.append([record(topic, "x", partition=2)])

    async def test_concurrent_appends_are_all_kept_each_task_in_its_order(self, lab: Lab) -> None:
        topic = await lab.topic()
        producer = lab.broker.producer()

        async def append(task: int) -> None:
            for turn in range(5):
                await producer.append([record(topic, f"{task}:{turn}")])

        await asyncio.gather(*(append(task) for task in range(50)))

        values = [text(each) for each in await lab.read(topic)]
        assert len(values) == 250
        for task in range(50):
            mine = [each for each in values if each.startswith(f"{task}:")]
            assert mine == [f"{task}:{turn}" for turn in range(5)]

    async def test_cancelling_appends_is_harmless(self, lab: Lab) -> None:
        topic = await lab.topic()
        producer = lab.broker.producer()
        appends = [asyncio.ensure_future(producer.append([record(topic, str(n))])) for n in range(40)]

        for number in range(0, 40, 2):
            await asyncio.sleep(0)
            appends[number].cancel()
        results = await asyncio.gather(*appends, return_exceptions=True)
        [after] = await producer.append([record(topic, "after")])

        acknowledged = {str(n) for n, each in enumerate(results) if not isinstance(each, BaseException)}
        values = [text(each) for each in await lab.read(topic)]
        assert acknowledged >= {str(number) for number in range(1, 40, 2)}
        assert acknowledged <= set(values)
        assert len(values) == len(set(values))
        assert values[-1] == "after"
        assert (await lab.read(topic))[-1].offset == after.offset

    async def test_a_reader_sees_exactly_a_range(self, lab: Lab) -> None:
        topic = await lab.topic()
        for turn in range(5):
            await lab.append(topic, *(f"{turn}{letter}" for letter in "abcd"))
        offsets = [each.offset for each in await lab.read(topic)]
        reader = lab.broker.reader()

        batches = [batch async for batch in reader.read(TopicPartition(topic, 0), start=offsets[3], stop=offsets[17])]

        assert [each.offset for batch in batches for each in batch] == offsets[3:17]
        assert all(batches)

    async def test_an_empty_range_yields_nothing(self, lab: Lab) -> None:
        topic = await lab.topic(partitions=2)
        [first, *_] = await lab.append(topic, "a", "b")
        reader = lab.broker.reader()

        inside = [b async for b in reader.read(TopicPartition(topic, 0), start=first, stop=first)]
        of_empty_partition = [b async for b in reader.read(TopicPartition(topic, 1))]

        assert inside == of_empty_partition == []

    async def test_a_reader_ends_at_the_end_it_saw_when_called(self, lab: Lab) -> None:
        topic = await lab.topic()
        await lab.append(topic, "a", "b")
        reader = lab.broker.reader()

        values: list[str] = []
        async for batch in reader.read(TopicPartition(topic, 0)):
            values += map(text, batch)
            await lab.append(topic, "later")

        assert values == ["a", "b"]

    async def test_a_reader_starts_at_a_time(self, lab: Lab) -> None:
        topic = await lab.topic()
        await lab.append(topic, "early")
        early = (await lab.read(topic))[-1].timestamp
        while (late := (await lab.read(topic))[-1].timestamp) == early:
            await lab.append(topic, "late")
        reader = lab.broker.reader()
        partition = TopicPartition(topic, 0)

        start = datetime.fromtimestamp(late, UTC)
        from_late = [each async for batch in reader.read(partition, start=start) for each in batch]
        start = datetime.fromtimestamp(early, UTC) - timedelta(hours=1)
        from_before = [each async for batch in reader.read(partition, start=start) for each in batch]
        start = datetime.fromtimestamp(late, UTC) + timedelta(hours=1)
        from_after = [each async for batch in reader.read(partition, start=start) for each in batch]

        everything = await lab.read(topic)
        assert from_late == [each for each in everything if each.timestamp >= late]
        assert from_before == everything
        assert from_after == []

    async def test_reading_below_the_low_watermark_raises(self, lab: Lab) -> None:
        topic = await lab.topic(retention_seconds=3600)
        [first, *_] = await lab.append(topic, "a", "b", "c")
        await self.expire(lab.broker, topic)
        await lab.append(topic, "d")
        reader = lab.broker.reader()

        with pytest.raises(OffsetOutOfRange):
            [batch async for batch in reader.read(TopicPartition(topic, 0), start=first)]

        assert [text(each) for each in await lab.read(topic)] == ["d"]

    async def test_reading_a_missing_topic_or_partition_raises(self, lab: Lab) -> None:
        topic = await lab.topic()
        reader = lab.broker.reader()

        for missing in (TopicPartition(lab.name(), 0), TopicPartition(topic, 1)):
            with pytest.raises(UnknownTopic, match=missing.topic):
                [batch async for batch in reader.read(missing)]

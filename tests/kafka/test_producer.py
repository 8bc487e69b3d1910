"""Appending to Kafka: what is particular to it."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.kafka.producer import _Engine
from pabal.broker.port import NewRecord, Record, TopicPartition, TopicSpec
from pabal.errors import LogUnavailable, RecordRefused, UnknownTopic
from tests.kafka.lab import connected, make_topic, record, unique


async def read_all(broker: KafkaBroker, topic: str, partition: int = 0) -> list[Record]:
    return [each async for batch in broker.reader().read(TopicPartition(topic, partition)) for each in batch]


@pytest.mark.parametrize(
    ("key", "java_hash"),
    [
        # org.apache.kafka.common.utils.UtilsTest.testMurmur2
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
async def test_a_key_has_the_partition_that_javas_clients_give_it(
    kafka_bootstrap: str, key: bytes, java_hash: int
) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic = await make_topic(broker, partitions=7)

        [position] = await broker.producer().append([record(topic, key=key)])

        assert position.partition == (java_hash & 0x7FFFFFFF) % 7


async def test_a_topic_made_after_it_was_missing_is_found(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, producer = unique(), broker.producer()
        with pytest.raises(UnknownTopic, match=topic):
            await producer.append([record(topic)])

        await broker.admin().create_topic(TopicSpec(name=topic, partitions=1))

        assert [each.offset for each in await producer.append([record(topic)])] == [0]


async def test_one_missing_topic_among_several_keeps_the_whole_call_from_being_written(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic = await make_topic(broker)

        with pytest.raises(UnknownTopic):
            await broker.producer().append([record(topic), record(unique())])

        assert await read_all(broker, topic) == []


async def test_partitions_that_others_added_are_found(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker, connected(kafka_bootstrap) as other:
        topic, producer = await make_topic(broker), broker.producer()
        await producer.append([record(topic, partition=0)])

        await other.admin().add_partitions(topic, total=3)

        [position] = await producer.append([record(topic, partition=2)])
        assert position == (topic, 2, 0)


async def test_a_record_that_kafka_never_takes_is_refused_and_the_next_is_taken(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, producer = await make_topic(broker), broker.producer()
        giant = NewRecord(topic=topic, key=None, value=bytes(2_000_000))

        with pytest.raises(RecordRefused, match="2000000 bytes") as refusal:
            await producer.append([giant])

        assert refusal.value.indexes == (0,)
        assert [each.offset for each in await producer.append([record(topic)])] == [0]


async def test_the_records_refused_are_named_and_their_neighbours_are_taken(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, producer = await make_topic(broker), broker.producer()
        giant = NewRecord(topic=topic, key=None, value=b"x", headers=(("foreign", bytes(2_000_000)),))

        of_others = [asyncio.ensure_future(producer.append([record(topic, "other")])) for _ in range(50)]
        with pytest.raises(RecordRefused) as refusal:
            await producer.append([record(topic, "a"), giant, record(topic, "b"), giant])
        positions = await asyncio.gather(*of_others)

        values = [each.value for each in await read_all(broker, topic)]
        assert refusal.value.indexes == (1, 3)
        assert len(positions) == values.count(b"other") == 50
        assert len(values) == 52


async def test_a_record_too_large_even_for_librdkafka_is_refused_too(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic = await make_topic(broker)
        giant = NewRecord(topic=topic, key=None, value=bytes(9 << 20))

        with pytest.raises(RecordRefused) as refusal:
            await broker.producer().append([record(topic), giant])

        assert refusal.value.indexes == (1,)


async def test_whoever_shares_a_batch_with_what_is_refused_is_not_to_blame(kafka_bootstrap: str) -> None:
    broker = await KafkaBroker.open(kafka_bootstrap, options={"producer.linger.ms": "50"})
    topic, producer = unique(), broker.producer()
    await broker.admin().create_topic(TopicSpec(name=topic, partitions=1, compacted=True))

    keyed, keyless = await asyncio.gather(
        producer.append([record(topic, key=b"k")]), producer.append([record(topic)]), return_exceptions=True
    )
    with pytest.raises(RecordRefused):
        await producer.append([record(topic)])

    assert isinstance(keyed, LogUnavailable)
    assert isinstance(keyless, RecordRefused)
    assert len(await producer.append([record(topic, key=b"k")])) == 1
    await broker.close()


async def test_an_append_larger_than_librdkafkas_queue_waits_for_room(kafka_bootstrap: str) -> None:
    broker = await KafkaBroker.open(kafka_bootstrap, options={"producer.queue.buffering.max.messages": "50"})
    topic, producer = await make_topic(broker), broker.producer()

    one, other = await asyncio.gather(
        producer.append([record(topic, str(number)) for number in range(700)]),
        producer.append([record(topic, str(number)) for number in range(700)]),
    )

    assert [each.offset for each in one] == sorted(each.offset for each in one)
    assert {each.offset for each in one} | {each.offset for each in other} == set(range(1400))
    await broker.close()


async def test_after_a_fatal_error_the_next_append_has_a_new_producer(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, producer = await make_topic(broker), broker.producer()
        await producer.append([record(topic, "before")])
        dead: list[_Engine] = []
        produce = _Engine.produce

        def fail_once(engine: _Engine, append: Any) -> None:
            if not dead:
                dead.append(engine)
            if engine in dead:
                # What librdkafka raises from then on, for every record.
                raise KafkaException(KafkaError(KafkaError._FATAL, "sequence desynchronization", fatal=True))
            produce(engine, append)

        monkeypatch.setattr(_Engine, "produce", fail_once)
        await producer.append([record(topic, "after")])
        await producer.append([record(topic, "later")])

        assert [each.value for each in await read_all(broker, topic)] == [b"before", b"after", b"later"]


async def test_appends_of_all_tasks_share_one_call_into_the_loop_per_batch_of_reports(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, producer = await make_topic(broker, partitions=3), broker.producer()
        await producer.append([record(topic)])
        loop = asyncio.get_running_loop()
        calls = 0
        call_soon_threadsafe = loop.call_soon_threadsafe

        def count(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            return call_soon_threadsafe(*arguments, **options)

        loop.call_soon_threadsafe = count  # type: ignore[method-assign, assignment]
        await asyncio.gather(*(producer.append([record(topic)] * 10) for _ in range(200)))
        del loop.call_soon_threadsafe

        assert calls < 200

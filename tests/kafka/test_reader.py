"""Reading Kafka without a group: one reader, used again and again."""

import asyncio

from pabal.broker.port import TopicPartition
from tests.kafka.lab import connected, make_topic, record

COUNT = 2000


async def test_a_reader_that_left_off_in_the_middle_reads_another_range_whole(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, reader = await make_topic(broker, partitions=2), broker.reader()
        for partition in (0, 1):
            await broker.producer().append([record(topic, str(n), partition=partition) for n in range(COUNT)])

        for turn in range(10):
            where = TopicPartition(topic, turn % 2)
            abandoned = reader.read(where)
            await anext(abandoned)
            await abandoned.aclose()  # type: ignore[attr-defined] # it is a generator
            read = [each async for batch in reader.read(where, start=turn) for each in batch]

            assert [each.offset for each in read] == list(range(turn, COUNT))
        assert len(reader._clients) == 1


async def test_a_cancelled_read_harms_no_later_one(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, reader = await make_topic(broker), broker.reader()
        where = TopicPartition(topic, 0)
        await broker.producer().append([record(topic, str(number)) for number in range(COUNT)])

        async def read() -> list[int]:
            return [each.offset async for batch in reader.read(where) for each in batch]

        for turns in range(20):
            reading = asyncio.ensure_future(read())
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait([reading])

        assert await read() == list(range(COUNT))


async def test_several_ranges_are_read_at_once(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, reader = await make_topic(broker), broker.reader()
        where = TopicPartition(topic, 0)
        await broker.producer().append([record(topic, str(number)) for number in range(COUNT)])

        async def read(start: int) -> list[int]:
            return [each.offset async for batch in reader.read(where, start=start) for each in batch]

        ranges = await asyncio.gather(*(read(start) for start in (0, 500, 1999)))

        assert ranges == [list(range(start, COUNT)) for start in (0, 500, 1999)]

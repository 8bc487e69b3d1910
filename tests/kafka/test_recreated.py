"""A topic that is deleted and made anew under a member that reads it."""

import asyncio

from confluent_kafka.admin import AdminClient

from pabal.broker.port import TopicPartition, TopicSpec
from pabal.errors import LogError, OffsetOutOfRange
from tests.kafka.lab import Owner, connected, make_topic, record


async def test_a_topic_made_anew_stands_still_above_its_end_and_is_read_after_a_seek(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic = await make_topic(broker)
        partition = TopicPartition(topic, 0)
        await broker.producer().append([record(topic, str(number), partition=0) for number in range(20)])
        member = broker.consumer(f"{topic}-group", [topic], Owner())
        read = 0
        while read < 20:
            read += len(await member.poll(limit=100, timeout_seconds=10))
        await member.commit({partition: 20})

        client = AdminClient({"bootstrap.servers": kafka_bootstrap})
        for future in client.delete_topics([topic]).values():
            await asyncio.wrap_future(future)
        deadline = asyncio.get_running_loop().time() + 60
        spec = TopicSpec(name=topic, partitions=1)
        while True:
            assert asyncio.get_running_loop().time() < deadline
            try:
                if await broker.admin().create_topic(spec):
                    break
            except LogError:
                await asyncio.sleep(0.2)
        await broker.producer().append([record(topic, "new", partition=0)])

        told: OffsetOutOfRange | None = None
        values: list[bytes | None] = []
        while not values:
            assert asyncio.get_running_loop().time() < deadline, f"told {told}"
            try:
                values += [each.value for each in await member.poll(limit=100, timeout_seconds=1)]
            except OffsetOutOfRange as error:
                told = error
                await member.seek(partition, offset=0)
            except LogError:
                await asyncio.sleep(0.1)  # for a moment there is no such topic

        assert told is not None
        assert (told.offset, told.high) == (20, 1)
        assert values == [b"new"]

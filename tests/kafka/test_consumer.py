"""A member of a Kafka consumer group: what is particular to it."""

import asyncio
import threading
import time

import pytest

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.kafka.flow import MOST_RECORDS
from pabal.broker.port import Record, TopicPartition, TopicSpec
from pabal.errors import NotAssigned, UnknownTopic
from tests.kafka.lab import Owner, connected, make_topic, record, unique
from tests.waiting import eventually


async def test_a_topic_made_after_it_was_missing_is_joined(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, owner = unique(), Owner()
        consumer = broker.consumer(unique("group"), [topic], owner)
        for _ in range(2):
            with pytest.raises(UnknownTopic, match=topic):
                await consumer.poll(limit=1, timeout_seconds=10)

        await broker.admin().create_topic(TopicSpec(name=topic, partitions=1))
        await broker.producer().append([record(topic)])

        assert len(await consumer.poll(limit=1, timeout_seconds=10)) == 1


async def test_a_slow_reader_keeps_its_partitions_and_a_bounded_buffer(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap, session_seconds=1.0) as broker:
        topic, owner = await make_topic(broker), Owner()
        total = 3 * MOST_RECORDS
        await broker.producer().append([record(topic, str(number)) for number in range(total)])
        consumer = broker.consumer(unique("group"), [topic], owner)
        values: list[Record] = []
        loop = asyncio.get_running_loop()
        waiting = 0

        # Two sessions of one record at a time, then as fast as can be.
        slow_until = loop.time() + 2.0
        while len(values) < total:
            slow = loop.time() < slow_until
            values += await consumer.poll(limit=1 if slow else 500, timeout_seconds=10)
            waiting = max(waiting, consumer._member._flow.waiting())
            if slow:
                await asyncio.sleep(0.02)

        assert [each.value for each in values] == [str(number).encode() for number in range(total)]
        assert owner.losses == owner.revocations == []
        assert waiting < 2 * MOST_RECORDS


async def test_a_reader_with_a_full_buffer_gives_partitions_back_when_another_comes(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker, connected(kafka_bootstrap) as elsewhere:
        topic, group, slow, other = await make_topic(broker, partitions=2), unique("group"), Owner(), Owner()
        for partition in (0, 1):
            await broker.producer().append([record(topic, partition=partition)] * 2 * MOST_RECORDS)
        consumer = broker.consumer(group, [topic], slow)
        while consumer._member._flow.waiting() < MOST_RECORDS:
            await consumer.poll(limit=1, timeout_seconds=10)
        newcomer = elsewhere.consumer(group, [topic], other)
        taken = 0

        while not (slow.revocations and other.owned):
            taken += len(await consumer.poll(limit=1, timeout_seconds=10))
            await newcomer.poll(limit=1, timeout_seconds=0.02)

        assert taken < MOST_RECORDS
        assert len(slow.owned) == len(other.owned) == 1


async def test_a_long_pause_keeps_other_partitions_flowing_and_loses_nothing(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, owner = await make_topic(broker, partitions=2), Owner()
        paused, flowing = TopicPartition(topic, 0), TopicPartition(topic, 1)
        producer, total = broker.producer(), 2 * MOST_RECORDS
        consumer = broker.consumer(unique("group"), [topic], owner)
        values: dict[TopicPartition, list[int]] = {paused: [], flowing: []}

        async def poll_until(partition: TopicPartition, count: int) -> None:
            while len(values[partition]) < count:
                for each in await consumer.poll(limit=100, timeout_seconds=10):
                    assert each.value is not None
                    values[each.topic_partition].append(int(each.value))

        await producer.append([record(topic, "0", partition=0), record(topic, "0", partition=1)])
        await poll_until(paused, 1)
        await poll_until(flowing, 1)
        await consumer.pause([paused])
        for partition in (0, 1):
            await producer.append([record(topic, str(n), partition=partition) for n in range(1, total)])
        await poll_until(flowing, total)
        while_paused = list(values[paused])
        await consumer.resume([paused])
        await poll_until(paused, total)

        assert while_paused == [0]
        assert values == {paused: list(range(total)), flowing: list(range(total))}


async def test_offsets_given_back_for_other_partitions_are_not_committed(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, other, group, owner = await make_topic(broker), await make_topic(broker), unique("group"), Owner()
        await broker.producer().append([record(topic)])
        consumer = broker.consumer(group, [topic], owner)
        await consumer.poll(limit=1, timeout_seconds=10)

        owner.progress = {TopicPartition(topic, 0): 1, TopicPartition(other, 0): 7}
        await consumer.close()

        assert await broker.admin().committed(group, [topic, other]) == {TopicPartition(topic, 0): 1}


async def test_a_revocation_that_raises_commits_nothing_and_harms_nobody(
    kafka_bootstrap: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Owner):
        def revoked(self, partitions: object) -> dict[TopicPartition, int]:
            raise RuntimeError("a bug")

    async with connected(kafka_bootstrap) as broker:
        topic, group = await make_topic(broker), unique("group")
        await broker.producer().append([record(topic)])
        first = broker.consumer(group, [topic], Broken())
        await first.poll(limit=1, timeout_seconds=10)

        await first.close()
        second = broker.consumer(group, [topic], Owner())

        assert len(await second.poll(limit=1, timeout_seconds=10)) == 1
        assert await broker.admin().committed(group, [topic]) == {}
        assert "a bug" in caplog.text


async def test_an_event_loop_that_does_not_answer_loses_its_partitions_and_commits_nothing(
    kafka_bootstrap: str,
) -> None:
    taken_over = threading.Event()

    async def take_over() -> None:
        async with connected(kafka_bootstrap) as broker:
            owner = Owner()
            consumer = broker.consumer(group, [topic], owner)
            while not owner.owned:
                await consumer.poll(limit=1, timeout_seconds=0.1)
            taken_over.set()
            await consumer.close()

    async with connected(kafka_bootstrap, session_seconds=5.0) as broker:
        topic, group, owner = await make_topic(broker, partitions=2), unique("group"), Owner()
        await broker.producer().append([record(topic, partition=0), record(topic, partition=1)])
        consumer = broker.consumer(group, [topic], owner)
        while len(owner.owned) < 2:
            await consumer.poll(limit=1, timeout_seconds=10)
        owner.progress = {TopicPartition(topic, number): 1 for number in range(2)}
        other = threading.Thread(target=asyncio.run, args=(take_over(),))
        other.start()

        answered = taken_over.wait(30)  # the loop stands still here
        await asyncio.to_thread(other.join)
        await eventually(lambda: owner.losses)

        assert answered
        assert owner.revocations == []
        assert await broker.admin().committed(group, [topic]) == {}
        with pytest.raises(NotAssigned):
            await consumer.commit({owner.losses[0]: 1})


async def test_a_second_static_member_of_kip_848_waits_for_the_session_of_a_crashed_one(kafka_bootstrap: str) -> None:
    broker = await KafkaBroker.open(kafka_bootstrap, group_protocol="consumer", session_seconds=3.0)
    topic, group = await make_topic(broker), unique("group")
    await broker.producer().append([record(topic)])
    crashed, successor = Owner(), Owner()
    silent = broker.consumer(group, [topic], crashed, instance="one")
    await silent.poll(limit=1, timeout_seconds=10)

    again = broker.consumer(group, [topic], successor, instance="one")
    records = await again.poll(limit=1, timeout_seconds=20)

    assert [each.value for each in records] == [b"x"]
    assert successor.owned == {TopicPartition(topic, 0)}
    await broker.close()


async def test_a_member_that_lost_its_partitions_and_was_never_asked_again_joins_with_a_new_client(
    kafka_bootstrap: str,
) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic, owner = await make_topic(broker), Owner()
        consumer = broker.consumer(unique("group"), [topic], owner)
        while not owner.owned:
            await consumer.poll(limit=1, timeout_seconds=1)

        # As it stands there when the coordinator moved and never answered a request to join.
        consumer._member._owned.lost_at = time.monotonic() - 1000
        async with asyncio.timeout(30):
            while not owner.losses:
                await consumer.poll(limit=1, timeout_seconds=0.1)

        await broker.producer().append([record(topic, "after")])
        found: list[bytes | None] = []
        async with asyncio.timeout(60):
            while not found:
                found += [each.value for each in await consumer.poll(limit=1, timeout_seconds=1)]
        assert found == [b"after"]

"""Laws about processes that end without a word, and objects that are closed."""

import asyncio
import time

import pytest

from pabal.broker.port import TopicPartition, TopicSpec
from pabal.errors import Closed
from pabal.testing._broker_lab import BrokerHarness, Lab, record, text


class CrashLaws(BrokerHarness):
    """Restart, SIGKILL, close."""

    async def test_records_and_commits_survive_a_restart(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        await lab.append(topic, "a", "b")
        member = lab.member(group, topic)
        await member.take(2)
        await member.commit()
        await lab.append(topic, "c")
        await lab.broker.close()

        lab.broker = await lab.connect()

        assert [text(each) for each in await lab.read(topic)] == ["a", "b", "c"]
        assert await lab.member(group, topic).take(1) == ["c"]

    @pytest.mark.slow
    async def test_every_append_acknowledged_before_a_sigkill_is_there(self, lab: Lab) -> None:
        topic = await lab.topic()
        process = await lab.start_process("append", topic)
        assert process.stdout is not None

        said = [await self._line(process.stdout) for _ in range(200)]
        process.kill()
        said += (await process.stdout.read()).decode().splitlines()

        acknowledged = {
            int(offset): value for _, offset, value in (line.split() for line in said if line.count(" ") == 2)
        }
        kept = {each.offset: text(each) for each in await lab.read(topic)}
        assert len(acknowledged) >= 199
        assert acknowledged.items() <= kept.items()
        assert list(kept.values()) == [str(number) for number in range(len(kept))]
        assert await lab.append(topic, "next") > [max(kept)]

    @pytest.mark.slow
    async def test_the_partitions_of_a_killed_member_are_taken_over_within_the_session_time(self, lab: Lab) -> None:
        topic, group = await lab.topic(partitions=2), lab.name()
        await lab.append(topic, "a")
        process = await lab.start_process("member", group, topic)
        assert process.stdout is not None
        while not (await self._line(process.stdout)).startswith("record"):
            pass

        process.kill()
        killed = time.monotonic()
        successor = lab.member(group, topic)
        await lab.poll_until(lambda: len(successor.owned) == 2, successor)
        taken_after = time.monotonic() - killed

        assert taken_after < self.session_seconds + self.takeover_slack_seconds
        assert successor.values == ["a"] or await successor.take(1) == ["a"]

    async def test_close_is_idempotent_and_every_later_call_is_refused(self, lab: Lab) -> None:
        topic = await lab.topic()
        partition = TopicPartition(topic, 0)
        broker = await lab.connect()
        producer, reader, admin = broker.producer(), broker.reader(), broker.admin()
        member = lab.member(lab.name(), topic, broker=broker)
        await member.join()

        for each in (producer, member.consumer, reader, admin):
            await each.close()
            await each.close()

        calls = (
            lambda: producer.append([record(topic, "x")]),
            lambda: member.consumer.poll(limit=1, timeout_seconds=0),
            lambda: member.consumer.commit({partition: 0}),
            lambda: member.consumer.pause([partition]),
            lambda: member.consumer.resume([partition]),
            lambda: anext(reader.read(partition)),
            admin.topics,
            lambda: admin.create_topic(TopicSpec(name="x", partitions=1)),
            lambda: admin.add_partitions(topic, total=2),
            lambda: admin.configure_topic(TopicSpec(name=topic, partitions=1)),
            lambda: admin.watermarks(topic),
            lambda: admin.committed("g", [topic]),
            lambda: admin.reset_offsets("g", {}),
        )
        for call in calls:
            with pytest.raises(Closed):
                await call()

    async def test_closing_a_broker_closes_what_it_made(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        broker = await lab.connect()
        producer = broker.producer()
        member = lab.member(group, topic, broker=broker)
        await member.join()

        await broker.close()
        await broker.close()

        with pytest.raises(Closed):
            await producer.append([record(topic, "x")])
        with pytest.raises(Closed):
            await member.poll(timeout_seconds=0)
        with pytest.raises(Closed):
            broker.producer()
        assert member.revoked_partitions == [TopicPartition(topic, 0)]

    async def test_close_waits_for_appends_under_way(self, lab: Lab) -> None:
        topic = await lab.topic()
        producer = lab.broker.producer()
        appends = [asyncio.ensure_future(producer.append([record(topic, str(n))])) for n in range(20)]
        await asyncio.sleep(0)

        await producer.close()

        assert all(append.done() for append in appends)
        offsets = [position.offset for append in appends for position in append.result()]
        assert offsets == [each.offset for each in await lab.read(topic)]

    async def _line(self, stream: asyncio.StreamReader) -> str:
        line = await asyncio.wait_for(stream.readline(), self.patience_seconds)
        assert line, "the process ended"
        return line.decode()

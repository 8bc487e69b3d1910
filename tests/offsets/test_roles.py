"""Roles whose partitions were damaged: they go on with all others, say so, and hear a person's word."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import msgspec
import pytest

from pabal.broker.port import TopicPartition
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.codec import delay_record, delivery_record
from pabal.delayline.delayline import DelayLine
from pabal.groups import DELAYLINE_GROUP, delay_topics, worker_group
from pabal.notification import Delivery
from pabal.offsets.gaps import Gap, find_gaps
from pabal.offsets.moving import read_skips, skip_gap
from pabal.ops.follower import OpsFollower
from pabal.retry import Wait
from tests.offsets.lab import DamagedLog
from tests.waiting import eventually, eventually_told
from tests.worker.lab import WEBHOOK_TOPIC, Provider, WorkerLab, a_delivery

pytestmark = pytest.mark.timeout(120)

GROUP = worker_group("webhook", "critical")
DAMAGED, SOUND = TopicPartition(WEBHOOK_TOPIC, 0), TopicPartition(WEBHOOK_TOPIC, 1)
WITHIN = 30.0


def to(number: int) -> Delivery:
    return a_delivery(number, address=f"https://example.com/{number}")


async def append(log: DamagedLog, partition: TopicPartition, *deliveries: Delivery) -> None:
    records = [msgspec.structs.replace(delivery_record(each), partition=partition.partition) for each in deliveries]
    producer = log.broker.producer()
    await producer.append(records)
    await producer.close()


async def damage(log: DamagedLog) -> int:
    """Three deliveries of one partition deleted unread, one kept; the offset of the first."""
    await log.at_the_end(GROUP, [WEBHOOK_TOPIC])
    first = (await log.marks(WEBHOOK_TOPIC))[DAMAGED].high
    await append(log, DAMAGED, to(1), to(2), to(3))
    await log.delete_all(WEBHOOK_TOPIC)
    await append(log, DAMAGED, to(4))
    return first


async def gaps_of(log: DamagedLog, group: str, topics: Sequence[str]) -> list[Gap]:
    return await find_gaps(log.broker.admin(), {group: topics})


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]


def worker_lab(log: DamagedLog, folder: Path) -> WorkerLab:
    return WorkerLab(folder, cast("SqliteBroker", log.broker), SystemClock())


async def test_records_deleted_unread_stop_their_partition_alone_until_a_person_goes_on(
    log: DamagedLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await damage(log)
    provider = Provider()

    async with worker_lab(log, tmp_path).running(provider):
        await append(log, SOUND, to(11))
        await eventually(lambda: [address for _, address in provider.sent] == [to(11).address], within_seconds=WITHIN)
        await eventually(lambda: complaints(caplog), within_seconds=WITHIN)
        await append(log, SOUND, to(12))
        await eventually(lambda: len(provider.sent) == 2, within_seconds=WITHIN)
        [gap] = await gaps_of(log, GROUP, [WEBHOOK_TOPIC])
        await skip_gap(log.broker, gap, by="Ada", reason="known lost", at=datetime.now(UTC))
        await eventually(lambda: len(provider.sent) == 3, within_seconds=WITHIN)

        async def is_committed() -> bool:
            return await log.committed(GROUP, DAMAGED) == first + 4

        await eventually_told(is_committed)

    assert (gap.committed, gap.low, gap.count, gap.why) == (first, first + 3, 3, "deleted")
    assert provider.sent[2][1] == to(4).address
    [complaint] = complaints(caplog)
    assert f"{WEBHOOK_TOPIC}/0" in complaint
    assert "3 records were deleted unread" in complaint
    assert f"pabal offsets skip {GROUP} {WEBHOOK_TOPIC} 0 --reason" in complaint
    decided = [each for each in await read_skips(log.broker.reader()) if each.skipped.from_ == first]
    assert [(each.fact.by, each.fact.reason, each.skipped.count) for each in decided] == [("Ada", "known lost", 3)]
    assert await gaps_of(log, GROUP, [WEBHOOK_TOPIC]) == []


async def test_an_offset_above_the_end_stops_its_partition_alone_until_a_person_goes_on(
    log: DamagedLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await log.at_the_end(GROUP, [WEBHOOK_TOPIC])
    await log.delete_all(WEBHOOK_TOPIC)
    start = (await log.marks(WEBHOOK_TOPIC))[DAMAGED].high
    await append(log, DAMAGED, to(1), to(2))
    await log.reset(GROUP, {DAMAGED: start + 5000})
    provider = Provider()

    async with worker_lab(log, tmp_path).running(provider):
        await append(log, SOUND, to(11))
        await eventually(lambda: len(provider.sent) == 1, within_seconds=WITHIN)
        await eventually(lambda: complaints(caplog), within_seconds=WITHIN)
        [gap] = await gaps_of(log, GROUP, [WEBHOOK_TOPIC])
        await skip_gap(log.broker, gap, by="Ada", reason="made anew", at=datetime.now(UTC))
        await eventually(lambda: len(provider.sent) == 3, within_seconds=WITHIN)

        async def is_committed() -> bool:
            return await log.committed(GROUP, DAMAGED) == start + 2

        await eventually_told(is_committed)

    assert gap.why == "above the end"
    assert sorted(address for _, address in provider.sent) == [to(1).address, to(11).address, to(2).address]
    assert await gaps_of(log, GROUP, [WEBHOOK_TOPIC]) == []


async def test_where_nothing_is_kept_the_word_alone_ends_the_standstill(
    log: DamagedLog, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = await damage(log)
    await log.delete_all(WEBHOOK_TOPIC)

    async with worker_lab(log, tmp_path).running(Provider()):
        await eventually(lambda: complaints(caplog), within_seconds=WITHIN)
        [gap] = await gaps_of(log, GROUP, [WEBHOOK_TOPIC])
        await skip_gap(log.broker, gap, by="Ada", reason="known lost", at=datetime.now(UTC))

        async def is_over() -> bool:
            return not await gaps_of(log, GROUP, [WEBHOOK_TOPIC])

        await eventually_told(is_over)

    assert await log.committed(GROUP, DAMAGED) == first + 4


async def test_where_the_group_has_no_members_its_offset_is_set_at_once(log: DamagedLog) -> None:
    first = await damage(log)
    [gap] = await gaps_of(log, GROUP, [WEBHOOK_TOPIC])

    why_not = await skip_gap(log.broker, gap, by="Ada", reason="known lost", at=datetime.now(UTC))

    assert why_not is None
    assert await log.committed(GROUP, DAMAGED) == first + 3


async def test_the_delay_line_goes_on_with_all_but_the_damaged_partition(
    log: DamagedLog, caplog: pytest.LogCaptureFixture
) -> None:
    topic, other_topic = "pabal.delay.critical.5", "pabal.delay.critical.30"
    await log.at_the_end(DELAYLINE_GROUP, delay_topics())
    damaged = TopicPartition(topic, 0)
    first = (await log.marks(topic))[damaged].high
    now = datetime.now(UTC)
    due = Wait(due=now, release_at=now)

    async def put(number: int, name: str) -> None:
        record = msgspec.structs.replace(delay_record(to(number), topic=name, wait=due), partition=0)
        await log.broker.producer().append([record])

    async def released() -> set[str]:
        reader = log.broker.reader()
        return {
            (record.key or b"").decode() + str(record.value)
            for each in await log.marks(WEBHOOK_TOPIC)
            async for batch in reader.read(each)
            for record in batch
        }

    async def is_released(number: int) -> bool:
        return any(to(number).address in each for each in await released())

    await put(21, topic)
    await put(22, topic)
    await log.delete_all(topic)
    await put(23, topic)
    stopping = asyncio.Event()
    line = DelayLine(broker=log.broker, ops=OpsFollower(log.broker.reader()), channels=["webhook"], clock=SystemClock())
    async with asyncio.TaskGroup() as group:
        group.create_task(line.run(stopping))
        await put(24, other_topic)
        await eventually_told(lambda: is_released(24), within_seconds=WITHIN)
        await eventually(lambda: complaints(caplog), within_seconds=WITHIN)
        was_released = await is_released(23)
        [gap] = await gaps_of(log, DELAYLINE_GROUP, delay_topics())
        await skip_gap(log.broker, gap, by="Ada", reason="known lost", at=datetime.now(UTC))
        await eventually_told(lambda: is_released(23), within_seconds=WITHIN)
        stopping.set()

    assert not was_released
    assert (gap.committed, gap.count) == (first, 2)
    assert await log.committed(DELAYLINE_GROUP, damaged) == first + 3


async def test_a_standstill_is_said_again_each_hour_and_not_by_the_poll(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with DamagedLog.opened(str(tmp_path / "log.db")) as log:
        await damage(log)
        clock = _Leaping()
        provider = Provider()
        async with worker_lab(log, tmp_path).running(provider, clock=clock):
            await eventually(lambda: complaints(caplog), within_seconds=WITHIN)
            for number in range(20):
                await append(log, SOUND, to(100 + number))
                await eventually(lambda: len(provider.sent) == number + 1, within_seconds=WITHIN)  # noqa: B023
            at_first = len(complaints(caplog))
            clock.leap += timedelta(hours=1)
            await eventually(lambda: len(complaints(caplog)) > at_first, within_seconds=WITHIN)

    assert at_first == 1
    assert len(set(complaints(caplog))) == 1


class _Leaping(SystemClock):
    def __init__(self) -> None:
        super().__init__()
        self.leap = timedelta()

    def boot_seconds(self) -> float:
        return super().boot_seconds() + self.leap.total_seconds()

"""No error leaves a call without an answer: real failures of the system under the log, the ledger and the store."""

import asyncio
import shutil
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.broker.sqlite.keeper import STILL_SECONDS
from pabal.clock import ManualClock, SystemClock
from tests.waiting import eventually, eventually_told


class NoAssignment:
    """Takes every assignment as it comes."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        pass

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        pass


FREE = ["free: append ok", "free: cancel ok", "free: prune ok", "free: ready ok", "free: look-up ok", "ailments:"]


async def failing(folder: Path, limit: str) -> list[str]:
    script = Path(__file__).with_name("failing_process.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(folder), limit, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().splitlines()


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_without_a_free_descriptor_what_is_open_works_and_the_rest_says_so(tmp_path: Path) -> None:
    told = await failing(tmp_path, "descriptors")

    assert told == [
        "limited: append ok",
        "limited: cancel ok",
        "limited: prune ok",
        "limited: ready ok",
        "limited: look-up StoreUnavailable",
        *FREE,
    ]


@pytest.mark.slow
@pytest.mark.timeout(150)
async def test_where_no_file_may_grow_every_call_says_so_and_works_again_later(tmp_path: Path) -> None:
    told = await failing(tmp_path, "disk")

    assert told[0] == "limited: append LogUnavailable"
    assert told[1] == "limited: cancel LedgerUnavailable"
    assert told[3] == "limited: ready LogUnavailable"
    assert not [line for line in told if "UNANSWERED" in line]
    assert told[5:] == FREE


async def test_a_keeper_that_ended_or_a_thread_that_died_is_an_ailment(tmp_path: Path) -> None:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock())
    well = list(broker.ailments())

    broker._log.keeper.task.cancel()
    await asyncio.wait([broker._log.keeper.task])
    broker._log._reads._work.put(None)
    await eventually(lambda: not broker._log._reads.is_alive())
    ill = " ".join(broker.ailments())

    assert well == []
    assert "keeper" in ill
    assert "reading thread" in ill
    await broker._log.writer.close()
    broker._log._reading.close()
    broker._log.doorbell.close()


async def test_a_member_that_nobody_polls_is_an_ailment_unless_the_log_is_to_blame(tmp_path: Path) -> None:
    clock = ManualClock()
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name="t", partitions=1))
    never, once = (broker.consumer(group, ["t"], NoAssignment()) for group in ("never", "once"))
    await once.poll(limit=1, timeout_seconds=0.01)

    clock.advance(STILL_SECONDS - 1)
    before = list(broker.ailments())
    clock.advance(2)
    after = list(broker.ailments())
    broker._log.writer._failed_at = asyncio.get_running_loop().time()
    while_the_log_failed = list(broker.ailments())

    assert (before, after, while_the_log_failed) == ([], ["nobody polls for the group once"], [])
    await never.close()
    await broker.close()


async def test_a_deleted_doorbell_stops_no_append_and_is_hung_up_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    clock = SystemClock()
    broker = await SqliteBroker.open(path, clock=clock, session_seconds=0.3)
    await broker.admin().create_topic(TopicSpec(name="t", partitions=1))
    other = await SqliteBroker.open(path, clock=clock, session_seconds=0.3)
    wake = path.with_name("log.db-wake")
    shutil.rmtree(wake)

    producer = broker.producer()
    offsets = [(await producer.append([NewRecord(topic="t", key=None, value=b"x")]))[0].offset for _ in range(3)]

    async def seen_elsewhere() -> bool:
        return other._log.view.end(other._log.view.identifier(TopicPartition("t", 0))) == 3

    async def hung_up() -> bool:
        return wake.exists() and len(list(wake.iterdir())) == 2

    assert offsets == [0, 1, 2]
    assert await eventually_told(seen_elsewhere)
    assert await eventually_told(hung_up)
    await other.close()
    await broker.close()

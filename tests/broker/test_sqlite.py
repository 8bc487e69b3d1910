"""The embedded log passes the contract, and what only it promises."""

import asyncio
import gc
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, Position, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.broker.sqlite.cleaning import claim_chore
from pabal.broker.sqlite.storage import Storage
from pabal.clock import Clock, ManualClock, SystemClock
from pabal.errors import LogError, LogUnavailable
from pabal.testing import BrokerContract
from pabal.testing._broker_lab import Lab, record, text
from tests.broker.hooks import SqliteHooks

Open = Callable[..., Awaitable[SqliteBroker]]


class TestSqliteBroker(SqliteHooks, BrokerContract):
    async def test_a_handover_repeats_no_record(self, lab: Lab) -> None:
        topic, group = await lab.topic(partitions=4), lab.name()
        members = [lab.member(group, topic, broker=await lab.connect()) for _ in range(3)]
        sent = 0

        def handed() -> list[str]:
            return [value for member in members for value in member.values]

        for present in (members[:1], members[:2], members, members[1:]):
            if len(present) < len(members) and members[0] not in present:
                await members[0].close()
            for partition in range(4):
                await lab.append(topic, *(str(sent + number) for number in range(25)), partition=partition)
                sent += 25
            expected = set(map(str, range(sent)))
            await lab.poll_until(lambda: expected <= set(handed()), *present)  # noqa: B023 - called at once

        assert sorted(map(int, handed())) == list(range(sent))

    async def test_members_share_the_partitions_a_topic_has_grown_by(self, lab: Lab) -> None:
        topic, group = await lab.topic(partitions=1), lab.name()
        first, second = lab.member(group, topic), lab.member(group, topic, broker=await lab.connect())
        await lab.poll_until(lambda: bool(first.owned or second.owned), first, second)

        await (await lab.connect()).admin().add_partitions(topic, total=4)
        await lab.poll_until(lambda: len(first.owned) == len(second.owned) == 2, first, second)
        await lab.append(topic, "new", partition=3)

        await lab.poll_until(lambda: "new" in first.values + second.values, first, second)

    async def test_a_fenced_instance_says_so_and_stays_out(self, lab: Lab) -> None:
        topic, group = await lab.topic(), lab.name()
        former = lab.member(group, topic, instance="one")
        await former.join()
        successor = lab.member(group, topic, instance="one", broker=await lab.connect())
        await successor.join()

        for _ in range(2):
            with pytest.raises(LogError, match="fenced"):
                await former.poll(timeout_seconds=1)

        await lab.append(topic, "a")
        assert await successor.take(1) == ["a"]

    async def test_tombstones_stay_for_a_day(self, lab: Lab) -> None:
        topic = await lab.topic(compacted=True)
        producer = lab.broker.producer()
        await producer.append([record(topic, "v", key="k")])
        await producer.append([NewRecord(topic=topic, key=b"k", value=None)])
        assert isinstance(lab.broker, SqliteBroker)

        self.clock.ahead += timedelta(hours=23)
        await lab.broker.clean()
        values_before = [each.value for each in await lab.read(topic)]
        self.clock.ahead += timedelta(hours=2)
        await lab.broker.clean()

        assert values_before == [None]
        assert await lab.read(topic) == []
        assert await lab.append(topic, "next", key="k") == [2]

    async def test_records_without_a_key_are_never_compacted(self, lab: Lab) -> None:
        topic = await lab.topic(compacted=True)
        await lab.append(topic, "a", "b")

        await self.compact(lab.broker, topic)

        assert [text(each) for each in await lab.read(topic)] == ["a", "b"]

    @pytest.mark.slow
    async def test_members_of_a_dead_process_are_replaced_before_their_session_ends(
        self, lab: Lab, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(self), "session_seconds", 3 * self.patience_seconds)
        topic, group = await lab.topic(), lab.name()
        process = await lab.start_process("member", group, topic)
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), self.patience_seconds)

        process.kill()
        await process.wait()
        successor = lab.member(group, topic, broker=await lab.connect())

        await successor.join()


@pytest.fixture
async def open_log(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens the log of this test once more."""
    opened = []

    async def open_log(
        *, path: Path = tmp_path / "log.db", clock: Clock | None = None, session_seconds: float = 60.0
    ) -> SqliteBroker:
        broker = await SqliteBroker.open(path, clock=clock or SystemClock(), session_seconds=session_seconds)
        await broker.admin().create_topic(TopicSpec(name="t", partitions=1, retention_seconds=3600))
        opened.append(broker)
        return broker

    yield open_log
    for broker in opened:
        await broker.close()


class Onlooker:
    """An assignment that only listens."""

    def assigned(self, partitions: object) -> None:
        self.partitions = partitions

    def revoked(self, partitions: object) -> dict[TopicPartition, int]:
        return {}

    def lost(self, partitions: object) -> None:
        self.partitions = None


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def values(broker: SqliteBroker, *, start: int | datetime | None = None) -> list[str]:
    batches = broker.reader().read(TopicPartition("t", 0), start=start)
    return [text(each) async for batch in batches for each in batch]


async def test_offsets_are_dense_when_connections_append_at_once(open_log: Open) -> None:
    brokers = [await open_log() for _ in range(3)]

    async def append(broker: SqliteBroker, name: int) -> list[int]:
        producer = broker.producer()
        return [(await producer.append([record("t", f"{name}:{turn}")]))[0].offset for turn in range(30)]

    offsets = await asyncio.gather(*(append(broker, name) for name, broker in enumerate(brokers)))

    assert sorted(offset for each in offsets for offset in each) == list(range(90))
    kept = await values(brokers[0])
    assert [[kept[offset] for offset in each] for each in offsets] == [
        [f"{name}:{turn}" for turn in range(30)] for name in range(3)
    ]


async def test_a_large_append_is_read_in_pieces_and_whole(open_log: Open) -> None:
    broker = await open_log()
    sent = [str(number) for number in range(2_500)]

    positions = await broker.producer().append([record("t", each) for each in sent])
    consumer = (await open_log()).consumer("g", ["t"], Onlooker())
    handed: list[str] = []
    while len(handed) < 2_500:
        handed += map(text, await consumer.poll(limit=700, timeout_seconds=5))

    assert [each.offset for each in positions] == list(range(2_500))
    assert await values(broker) == sent
    assert await values(broker, start=1_234) == sent[1_234:]
    assert handed == sent


async def test_records_from_memory_are_the_records_in_the_file(open_log: Open) -> None:
    broker = await open_log()
    consumer = broker.consumer("g", ["t"], Onlooker())
    await consumer.poll(limit=1, timeout_seconds=0)
    headers = (("a", b""), ("a", b"2"))
    new = [NewRecord(topic="t", key=key, value=value, headers=headers) for key, value in ((b"k", b""), (None, None))]

    await broker.producer().append(new)
    handed = await consumer.poll(limit=10, timeout_seconds=5)

    assert list(handed) == [each async for batch in broker.reader().read(TopicPartition("t", 0)) for each in batch]


async def test_another_connection_is_woken_long_before_its_next_look(open_log: Open) -> None:
    broker, other = await open_log(), await open_log()
    consumer = other.consumer("g", ["t"], Onlooker())
    await consumer.poll(limit=1, timeout_seconds=0)

    poll = asyncio.ensure_future(consumer.poll(limit=1, timeout_seconds=60))
    await broker.producer().append([record("t", "a")])

    assert [text(each) for each in await asyncio.wait_for(poll, 5)] == ["a"]


async def test_a_connection_that_cannot_be_rung_looks_by_itself(open_log: Open, tmp_path: Path) -> None:
    broker, other = await open_log(), await open_log(session_seconds=0.6)
    consumer = other.consumer("g", ["t"], Onlooker())
    await consumer.poll(limit=1, timeout_seconds=0)
    for path in files(tmp_path / "log.db-wake"):
        path.unlink()

    poll = asyncio.ensure_future(consumer.poll(limit=1, timeout_seconds=60))
    await broker.producer().append([record("t", "a")])

    assert [text(each) for each in await asyncio.wait_for(poll, 5)] == ["a"]


async def test_a_path_too_long_for_a_socket_works_too(open_log: Open, tmp_path: Path) -> None:
    path = tmp_path / ("long" * 30) / "log.db"
    broker, other = await open_log(path=path), await open_log(path=path)
    consumer = other.consumer("g", ["t"], Onlooker())
    await consumer.poll(limit=1, timeout_seconds=0)

    poll = asyncio.ensure_future(consumer.poll(limit=1, timeout_seconds=60))
    await broker.producer().append([record("t", "a")])

    assert [text(each) for each in await asyncio.wait_for(poll, 5)] == ["a"]


async def test_an_append_that_gets_no_lock_in_time_raises_and_is_not_written(open_log: Open, tmp_path: Path) -> None:
    broker = await open_log()
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(LogUnavailable, match="deadline"):
        await broker.producer(deadline_seconds=0.1).append([record("t", "late")])
    other.execute("ROLLBACK")
    other.close()
    await broker.producer().append([record("t", "after")])

    assert await values(broker) == ["after"]


async def test_a_cancelled_append_that_waits_is_not_written(open_log: Open, tmp_path: Path) -> None:
    broker = await open_log()
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    producer = broker.producer()
    first, second, third = (asyncio.ensure_future(producer.append([record("t", each)])) for each in "abc")
    await asyncio.sleep(0)

    second.cancel()
    other.execute("ROLLBACK")
    other.close()
    await asyncio.gather(first, third)

    assert set(await values(broker)) >= {"a", "c"}
    assert len(await values(broker)) <= 3


async def test_a_full_disk_is_said_and_appends_go_on_when_there_is_room(open_log: Open) -> None:
    broker = await open_log()
    producer = broker.producer()
    log = broker._log  # its file is given a limit, which SQLite treats as a full disk
    await log.write(lambda transaction: transaction.select("PRAGMA max_page_count = 64"))
    acknowledged: list[Position] = []

    async def fill() -> None:
        while True:
            acknowledged.extend(await producer.append([record("t", f"{len(acknowledged):10000}")]))

    with pytest.raises(LogUnavailable, match=r"log\.db is not available: .*full"):
        await fill()
    with pytest.raises(LogUnavailable, match="full"):
        await producer.append([record("t", "x" * 10_000)])
    await log.write(lambda transaction: transaction.select("PRAGMA max_page_count = 1073741823"))
    await producer.append([record("t", "after")])

    kept = await values(broker)
    assert [int(each) for each in kept[:-1]] == list(range(len(acknowledged)))
    assert kept[-1] == "after"


async def test_a_poll_waits_while_the_file_cannot_be_written(open_log: Open) -> None:
    broker = await open_log()
    await broker.producer().append([record("t", "a")])
    [(pages,)] = await broker._log.write(lambda transaction: transaction.select("PRAGMA page_count"))
    await broker._log.write(lambda transaction: transaction.select(f"PRAGMA max_page_count = {pages}"))
    consumer = broker.consumer("a group with a long name" * 1_000, ["t"], Onlooker())

    refused = await consumer.poll(limit=1, timeout_seconds=0.1)
    await broker._log.write(lambda transaction: transaction.select("PRAGMA max_page_count = 1073741823"))
    handed = await consumer.poll(limit=1, timeout_seconds=10)

    assert list(refused) == []
    assert [text(each) for each in handed] == ["a"]


async def test_a_poll_keeps_its_time_while_another_holds_the_lock(open_log: Open, tmp_path: Path) -> None:
    broker = await open_log()
    await broker.producer().append([record("t", "a")])
    consumer = broker.consumer("g", ["t"], Onlooker())
    other = sqlite3.connect(tmp_path / "log.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    waiting = await asyncio.wait_for(consumer.poll(limit=1, timeout_seconds=0.05), 4)
    other.execute("ROLLBACK")
    other.close()
    handed = await consumer.poll(limit=1, timeout_seconds=10)

    assert list(waiting) == []
    assert [text(each) for each in handed] == ["a"]


async def test_what_is_not_a_log_is_refused(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "other.db")
    other.execute("CREATE TABLE t (x)")
    other.close()
    newer = sqlite3.connect(tmp_path / "newer.db")
    newer.executescript(f"CREATE TABLE t (x); PRAGMA application_id = {0x70616261}; PRAGMA user_version = 99")
    newer.close()
    (tmp_path / "text.db").write_text("not a database at all, " * 100)

    for name, message in (
        ("other.db", "another program"),
        ("newer.db", "version 99"),
        ("text.db", "not a database"),
    ):
        with pytest.raises(LogError, match=message):
            await SqliteBroker.open(tmp_path / name, clock=SystemClock())


async def test_a_log_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "log.db").mkdir()

    with pytest.raises(LogUnavailable, match=r"log\.db"):
        await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock())


async def test_only_the_user_who_made_the_log_can_read_it(open_log: Open, tmp_path: Path) -> None:
    await open_log()

    others_may = {path.name: path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) for path in files(tmp_path)}
    assert others_may == dict.fromkeys(("log.db", "log.db-lock", "log.db-shm", "log.db-wal", "log.db-wake"), 0)


async def test_a_closed_log_leaves_its_file_and_no_socket(open_log: Open, tmp_path: Path) -> None:
    broker = await open_log()

    await broker.close()

    assert files(tmp_path / "log.db-wake") == []
    assert not (tmp_path / "log.db-wal").exists()


async def test_time_does_not_go_back_within_a_partition(open_log: Open) -> None:
    clock = ManualClock(datetime(2026, 1, 2, tzinfo=UTC))
    broker = await open_log(clock=clock)
    producer = broker.producer()
    await producer.append([record("t", "a")])

    clock.advance(-3600)
    await producer.append([record("t", "b")])
    clock.advance(7200)
    await producer.append([record("t", "c")])

    assert await values(broker, start=datetime(2026, 1, 2, tzinfo=UTC)) == ["a", "b", "c"]
    assert await values(broker, start=datetime(2026, 1, 2, 0, 30, tzinfo=UTC)) == ["c"]


async def test_reading_by_time_finds_the_place_among_many(open_log: Open) -> None:
    clock = ManualClock()
    begin = clock.now()
    broker = await open_log(clock=clock)
    producer = broker.producer()
    for number in range(50):
        await producer.append([record("t", f"{number}a"), record("t", f"{number}b")])
        clock.advance(1)

    for number in (0, 1, 7, 25, 48, 49):
        found = await values(broker, start=begin + timedelta(seconds=number))
        assert (len(found), found[0]) == (2 * (50 - number), f"{number}a")


async def test_old_records_go_by_themselves(open_log: Open) -> None:
    clock = ManualClock()
    broker = await open_log(clock=clock, session_seconds=0.15)
    await broker.producer().append([record("t", "a")])
    clock.advance(7200)
    low = 0

    async def look() -> None:
        nonlocal low
        while not low:
            low = (await broker.admin().watermarks("t"))[TopicPartition("t", 0)].low

    await asyncio.wait_for(look(), 10)

    assert low == 1


async def test_many_old_batches_go_in_several_transactions(open_log: Open) -> None:
    clock = ManualClock()
    broker = await open_log(clock=clock)
    producer = broker.producer()
    for number in range(1_100):
        await producer.append([record("t", str(number))])
    clock.advance(3601)
    await producer.append([record("t", "young")])

    await broker.clean()

    assert await values(broker) == ["young"]


def test_one_process_at_a_time_gets_a_chore(tmp_path: Path) -> None:
    clock = ManualClock()
    storage = Storage(tmp_path / "log.db", clock=clock)
    storage.prepare()

    def claims() -> bool:
        [is_mine] = storage.write([lambda transaction: claim_chore(transaction, name="x", every_seconds=60)]).results
        return bool(is_mine)

    assert [claims(), claims()] == [True, False]
    clock.advance(61)
    assert [claims(), claims()] == [True, False]
    clock.advance(-3600)  # set back: a claim from the future binds nobody
    assert [claims(), claims()] == [True, False]
    storage.close()


async def test_a_consumer_that_was_forgotten_leaves_its_group_when_the_broker_is_closed(open_log: Open) -> None:
    broker, onlooker = await open_log(), await open_log()

    async def join_and_forget() -> None:
        await broker.consumer("g", ["t"], Onlooker()).poll(limit=1, timeout_seconds=0)

    await join_and_forget()
    gc.collect()
    joined = (await onlooker.admin().members(["g"]))["g"].members
    await broker.close()

    assert joined == 1
    assert (await onlooker.admin().members(["g"]))["g"].members == 0

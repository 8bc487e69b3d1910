"""The SQLite ledger keeps the laws of a ledger; and what is its own: files, locks, boots, full disks."""

import asyncio
import contextlib
import resource
import shutil
import sqlite3
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from pabal.clock import ManualClock
from pabal.errors import ConfigError, LedgerUnavailable, OwnerEnded
from pabal.ledger.port import Ledger
from pabal.ledger.protocol import GHOST, Call, Decided, Held
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.outcome import Deferred, Expired
from tests.ledger.laws.contract import LedgerContract, LedgerStore
from tests.ledger.laws.lab import RETRY, Member
from tests.waiting import eventually


class SqliteStore(LedgerStore):
    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = ManualClock()

    async def connect(self, worker: str) -> Ledger:
        return await SqliteLedger.open(self.path, clock=self.clock, worker=worker)

    async def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def process(self, *arguments: str) -> Sequence[str]:
        return [sys.executable, "-m", "tests.ledger.ledger_process", str(self.path), *arguments]


class TestSqliteLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path / "ledger.db"

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[LedgerStore]:
        yield SqliteStore(self.path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@contextlib.asynccontextmanager
async def member(path: Path, clock: ManualClock, *, worker: str = "a", **options: Any) -> AsyncIterator[Member]:
    ledger = await SqliteLedger.open(path, clock=clock, worker=worker, **options)
    try:
        yield Member(ledger)
    finally:
        await ledger.close()


def query(path: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def test_a_reboot_ends_every_lease(path: Path, clock: ManualClock) -> None:
    delivery = uuid4()
    async with member(path, clock) as before:
        await before.hold(delivery)
        clock.reboot()

        async with member(path, clock, worker="b") as after:
            assert await after.claim(delivery) == Call(attempt=2, took_over=1)
            assert query(path, "SELECT ended FROM owners WHERE owner = 1") == [("the machine was booted",)]


async def test_an_owner_whose_lock_is_gone_is_found_dead_by_a_ledger_already_open(
    path: Path, clock: ManualClock
) -> None:
    delivery = uuid4()
    async with member(path, clock) as a, member(path, clock, worker="b") as b:
        claim = await a.hold(delivery)
        held = await b.claim(delivery)
        (path.with_name("ledger.db.owners") / f"{claim.owner}.lock").unlink()

        assert isinstance(held, Held)
        assert await b.claim(delivery) == Call(attempt=2, took_over=1)
        with pytest.raises(OwnerEnded, match="its process is gone"):
            await a.claim(uuid4())


async def test_the_file_can_be_read_in_the_shell(path: Path, clock: ManualClock) -> None:
    delivery = UUID("00112233-4455-6677-8899-aabbccddeeff")
    async with member(path, clock) as a:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim, outcome=Deferred(reason="busy"))

    [row] = query(path, "SELECT lower(hex(id)), attempt, state, settled, verdict, outcome FROM deliveries")

    assert row == (
        delivery.hex,
        1,
        "decided",
        0,
        '{"kind":"retryat","due":"2026-01-01T12:30:05.250000Z","rung":1}',
        '{"kind":"deferred","reason":"busy"}',
    )


async def test_its_files_are_for_their_owner_alone(path: Path, clock: ManualClock) -> None:
    ledger = await SqliteLedger.open(path, clock=clock, worker="w")
    try:
        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    finally:
        await ledger.close()

    assert modes.pop(f"{path.name}.owners") == 0o700
    assert path.name in modes
    assert set(modes.values()) == {0o600}


async def test_closing_leaves_one_file_and_no_lock(path: Path, clock: ManualClock) -> None:
    async with member(path, clock) as a:
        await a.hold(uuid4())

    assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.db", "ledger.db.owners"]
    assert list(path.with_name("ledger.db.owners").iterdir()) == []
    assert query(path, "SELECT ended FROM owners") == [("closed",)]


async def test_a_settlement_that_nothing_follows_is_written_within_a_second(path: Path, clock: ManualClock) -> None:
    delivery = uuid4()
    async with member(path, clock) as a:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim)

        a.settle(delivery, claim)

        await eventually(lambda: query(path, "SELECT settled FROM deliveries") == [(1,)], within_seconds=5)


async def test_calls_of_one_moment_share_a_transaction(path: Path, clock: ManualClock) -> None:
    async with member(path, clock) as a:
        with contextlib.closing(sqlite3.connect(path)) as other:
            [(before,)] = other.execute("PRAGMA data_version")
            size = log_size(path)
            await asyncio.gather(*(a.claim(uuid4()) for _ in range(200)))
            [(after,)] = other.execute("PRAGMA data_version")

        assert after > before
        # 200 transactions would write their pages 200 times.
        assert log_size(path) - size < 60 * 4096


async def test_a_file_that_is_held_fails_the_calls_that_wait_and_no_later_one(path: Path, clock: ManualClock) -> None:
    first, second = uuid4(), uuid4()
    async with member(path, clock, patience_seconds=0.02) as a:
        settled = await a.hold(first)
        await a.finish(first, settled)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            a.settle(first, settled)
            with pytest.raises(LedgerUnavailable, match="locked"):
                await a.claim(second)
            holder.execute("ROLLBACK")

        assert await a.claim(second) == Call(attempt=1)
        assert await a.claim(first) == GHOST  # the settlement was tried again


@contextlib.contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file may grow beyond the write-ahead log's present end."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (log_size(path), limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_full_disk_fails_calls_until_there_is_room(path: Path, clock: ManualClock) -> None:
    first, second = uuid4(), uuid4()
    async with member(path, clock) as a:
        claim = await a.hold(first)
        with full_disk(path):
            for _ in range(3):
                with pytest.raises(LedgerUnavailable):
                    await a.claim(second)

        assert await a.claim(second) == Call(attempt=1)
        assert await a.finish(first, claim) == Decided(attempt=1, verdict=RETRY)


async def test_a_ledger_closes_on_a_full_disk(path: Path, clock: ManualClock) -> None:
    delivery = uuid4()
    a = Member(await SqliteLedger.open(path, clock=clock, worker="a"))
    await a.hold(delivery)

    async with member(path, clock, worker="b") as b:
        with full_disk(path):
            await a.ledger.close()

        assert await b.claim(delivery) == Call(attempt=2, took_over=1)


async def test_a_call_that_cannot_be_stored_fails_alone(path: Path, clock: ManualClock) -> None:
    broken, sound = uuid4(), uuid4()
    async with member(path, clock) as a:
        claims = [await a.hold(broken), await a.hold(sound)]

        answers = await asyncio.gather(
            a.finish(broken, claims[0], outcome=Deferred(reason="\ud800 is no text")),
            a.finish(sound, claims[1]),
            return_exceptions=True,
        )

        assert isinstance(answers[0], UnicodeEncodeError)
        assert answers[1] == Decided(attempt=1, verdict=RETRY)


async def test_a_group_that_fails_leaves_nothing_behind(path: Path, clock: ManualClock) -> None:
    delivery = uuid4()
    async with member(path, clock) as a:
        too_large = msgspec.structs.replace(a.ask(), token=2**70)

        with pytest.raises(LedgerUnavailable, match="too large"):
            await a.ledger.claim(delivery, too_large)

        assert await a.claim(delivery) == Call(attempt=1)


async def test_pruning_goes_through_all_rows_in_steps(path: Path, clock: ManualClock) -> None:
    async with member(path, clock) as a:
        await asyncio.gather(
            *(a.ledger.claim(uuid4(), a.ask(refusal=Expired(), prune_after=clock.now())) for _ in range(2_300))
        )
        clock.advance(1)

        pruned, claimed = await asyncio.gather(a.ledger.prune(now=clock.now()), a.claim(uuid4()))

        assert pruned == 2_300
        assert claimed == Call(attempt=1)


@pytest.mark.parametrize(
    "statements", [["PRAGMA user_version = 99"], ["CREATE TABLE accounts (name TEXT)"]], ids=["newer", "another's"]
)
async def test_a_file_that_is_no_ledger_of_ours_is_left_alone(
    path: Path, clock: ManualClock, statements: Sequence[str]
) -> None:
    for statement in statements:
        query(path, statement)
    before = query(path, "SELECT * FROM sqlite_schema")

    with pytest.raises(ConfigError, match=r"ledger\.db"):
        await SqliteLedger.open(path, clock=clock, worker="a")

    assert query(path, "SELECT * FROM sqlite_schema") == before


async def test_a_file_that_is_no_database_is_said_to_be_none(path: Path, clock: ManualClock) -> None:
    shutil.copyfile(__file__, path)

    with pytest.raises(LedgerUnavailable, match="not a database"):
        await SqliteLedger.open(path, clock=clock, worker="a")


async def test_many_processes_open_a_new_file_at_once(path: Path, clock: ManualClock) -> None:
    ledgers = await asyncio.gather(
        *(SqliteLedger.open(path, clock=clock, worker=f"worker-{number}") for number in range(8))
    )

    assert sorted(ledger.owner for ledger in ledgers) == list(range(1, 9))
    for ledger in ledgers:
        await ledger.close()


async def test_a_claim_made_while_old_rows_are_forgotten_waits_for_that(path: Path) -> None:
    """What runs in the ledger's thread and what runs in the loop must not meet within one transaction."""
    clock = ManualClock()
    ledger = await SqliteLedger.open(path, clock=clock, worker="a")
    member = Member(ledger)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        for _ in range(5):
            other.execute("BEGIN IMMEDIATE")
            pruning = asyncio.create_task(ledger.prune(now=clock.now()))
            await asyncio.sleep(0)  # the pruning waits in its thread for the file
            other.execute("COMMIT")
            claiming = member.claim(uuid4())

            pruned, answer = await asyncio.gather(pruning, claiming)
            assert pruned == 0
            assert answer == Call(attempt=1)

    await ledger.close()

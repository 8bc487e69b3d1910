"""The store in SQLite keeps the laws of a store; and what is its own: the file, its migration, other processes."""

import asyncio
import contextlib
import resource
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from pabal.clock import ManualClock
from pabal.errors import ConfigError, StoreUnavailable
from pabal.store import queries, schema
from pabal.store.port import DeliveryFilter, SetAside, Store
from pabal.store.schema import REVISION
from pabal.store.sql import SqlStore
from tests.store.laws.contract import StoreContract, StoreDatabase
from tests.store.laws.lab import NOW, TENANT, a_dead_letter, a_delivery, a_receipt, an_event, at, status_of


class SqliteDatabase(StoreDatabase):
    def __init__(self, path: Path) -> None:
        self._path = path

    async def connect(self, clock: ManualClock) -> Store:
        return SqlStore(f"sqlite:{self._path}", clock=clock)


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _path(self, tmp_path: Path) -> None:
        self.path = tmp_path

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[StoreDatabase]:
        yield SqliteDatabase(self.path / f"{uuid4()}.db")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:{path}", clock=ManualClock(NOW))
    try:
        yield store
    finally:
        await store.close()


def query(path: Path, statement: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(statement).fetchall()


async def test_the_first_call_makes_the_file_and_its_tables_for_its_owner_alone(path: Path) -> None:
    async with opened(path) as store:
        before = list(path.parent.iterdir())
        await store.fold([a_delivery()])

        modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}

    assert before == []
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert query(path, "SELECT version_num FROM store_version") == [(REVISION,)]


async def test_closing_leaves_one_file(path: Path) -> None:
    async with opened(path) as store:
        await store.fold([a_delivery()])

    assert [each.name for each in path.parent.iterdir()] == ["store.db"]


async def test_stores_that_open_a_new_file_at_once_both_find_the_tables(path: Path) -> None:
    async with opened(path) as one, opened(path) as other:
        await asyncio.gather(one.fold([a_delivery()]), other.fold([a_delivery()]))

    assert query(path, "SELECT count(*) FROM deliveries") == [(2,)]


async def test_another_programs_file_is_left_alone(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (x)")

    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match="an SQLite file, but no store"):
            await store.fold([a_delivery()])

    assert query(path, "SELECT name FROM sqlite_schema") == [("theirs",)]


async def test_a_newer_stores_file_is_left_alone(path: Path) -> None:
    async with opened(path) as store:
        await store.fold([a_delivery()])
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE store_version SET version_num = '9999'")

    async with opened(path) as store:
        with pytest.raises(StoreUnavailable, match="are at 9999, which this Pabal"):
            await store.fold([a_delivery()])


async def test_reading_goes_on_while_another_process_writes(path: Path) -> None:
    delivery = a_delivery()
    async with opened(path) as store:
        await store.fold([delivery])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")

            assert await status_of(store, delivery) == "accepted"


async def test_a_file_that_is_held_too_long_fails_the_fold_and_no_later_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.store.database.PATIENCE_SECONDS", 0.05)
    delivery = a_delivery()
    async with opened(path) as store:
        await store.fold([a_delivery()])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                await store.fold([delivery])
            holder.execute("ROLLBACK")

        await store.fold([delivery])
        assert await status_of(store, delivery) == "accepted"


async def test_a_full_disk_is_said_and_survived(path: Path) -> None:
    deliveries = [a_delivery(seconds=number) for number in range(2000)]
    async with opened(path) as store:
        await store.fold([a_delivery()])
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("store.db-wal").stat().st_size, limits[1]))
        try:
            with pytest.raises(StoreUnavailable, match=r"disk|full|I/O"):
                await store.fold(deliveries)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

        await store.fold(deliveries)

    assert query(path, "SELECT count(*) FROM deliveries") == [(2001,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


async def test_forgetting_leaves_nothing_behind(path: Path) -> None:
    delivery = a_delivery(tags=("a",))
    sent = an_event(delivery, "sent", provider_id="m-1")
    async with opened(path) as store:
        await store.fold([delivery, sent, a_receipt("delivered", provider_id="m-1"), a_dead_letter(None)])
        record = SetAside(topic="t", partition=0, offset=1, at=NOW, error="not JSON", size=1, start=b"{")
        await store.set_aside([record])
        before = {table: query(path, f"SELECT count(*) FROM {table}") for table in schema.metadata.tables}

        await store.prune(before=at(10_000))

    assert all(count != [(0,)] for count in before.values())
    assert all(query(path, f"SELECT count(*) FROM {table}") == [(0,)] for table in before)


@pytest.mark.parametrize("url", ["sqlite:", "mysql://h/d", "store.db", ""])
def test_what_is_no_store_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match="is not a store"):
        SqlStore(url, clock=ManualClock(NOW))


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (DeliveryFilter(), "deliveries_by_time"),
        (DeliveryFilter(since=NOW), "deliveries_by_time"),
        (DeliveryFilter(recipient="ana@example.com"), "deliveries_by_address"),
        (DeliveryFilter(status="sent"), "deliveries_by_status"),
        (DeliveryFilter(channel="email"), "deliveries_by_channel"),
        (DeliveryFilter(class_="bulk"), "deliveries_by_class"),
        (DeliveryFilter(tag="june"), "tags_by_time"),
        (DeliveryFilter(status="unaccounted"), "deliveries_open_by_end"),
    ],
)
async def test_each_filter_has_an_index(path: Path, wanted: DeliveryFilter, index: str) -> None:
    engine = sa.create_engine(f"sqlite:///{path}")
    schema.metadata.create_all(engine)

    with engine.connect() as connection:
        listing, at, number = queries._list(wanted, tenant=TENANT, cutoff=0.0)
        after = sa.tuple_(at, number) < sa.tuple_(sa.literal(1.0), sa.literal(1))
        page = listing.where(after).order_by(at.desc(), number.desc())
        text = page.compile(connection, compile_kwargs={"literal_binds": True})
        plan = " ".join(row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}"))
    engine.dispose()

    assert f"INDEX {index} " in plan
    if wanted.status != "unaccounted":
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan

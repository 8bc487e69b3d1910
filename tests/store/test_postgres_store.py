"""The store in PostgreSQL keeps the laws of a store; and what is its own: migration by hand, a server that ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import psycopg
import pytest
from servers.postgres import PostgresServer

from pabal.clock import ManualClock
from pabal.errors import StoreUnavailable
from pabal.store.port import Store
from pabal.store.schema import REVISION
from pabal.store.sql import SqlStore
from tests.store.laws.contract import StoreContract, StoreDatabase
from tests.store.laws.lab import NOW, a_delivery, an_event, status_of


class PostgresDatabase(StoreDatabase):
    def __init__(self, url: str) -> None:
        self._url = url

    async def connect(self, clock: ManualClock) -> Store:
        store = SqlStore(self._url, clock=clock)
        await store.migrate()
        return store


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.server = postgres_server

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[StoreDatabase]:
        with self.server.new_database() as url:
            yield PostgresDatabase(url)


async def test_until_a_person_migrates_every_call_says_so(postgres_url: str) -> None:
    delivery = a_delivery()
    store = SqlStore(postgres_url, clock=ManualClock(NOW))

    with pytest.raises(StoreUnavailable, match=r"are at nothing, this Pabal needs .*; run: pabal store migrate"):
        await store.fold([delivery])
    await store.migrate()
    await store.fold([delivery])

    assert await status_of(store, delivery) == "accepted"
    await store.close()


async def test_several_that_migrate_at_once_do_it_once(postgres_url: str) -> None:
    stores = [SqlStore(postgres_url, clock=ManualClock(NOW)) for _ in range(3)]

    found = await asyncio.gather(*(store.migrate() for store in stores))

    for store in stores:
        await store.close()
    assert sorted(map(str, found)) == [REVISION, REVISION, "None"]


async def test_its_tables_have_a_schema_of_their_own(postgres_url: str) -> None:
    store = SqlStore(postgres_url, clock=ManualClock(NOW))
    await store.migrate()
    await store.close()

    with psycopg.connect(postgres_url) as connection:
        rows = connection.execute(
            "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
    assert rows == [("pabal_store",)]


async def test_a_server_that_restarts_between_two_calls_is_not_noticed(postgres_server: PostgresServer) -> None:
    delivery = a_delivery()
    with postgres_server.new_database() as url:
        store = SqlStore(url, clock=ManualClock(NOW))
        await store.migrate()
        await store.fold([delivery])

        postgres_server.restart()
        read = await status_of(store, delivery)
        postgres_server.restart()
        await store.fold([an_event(delivery, "sent")])

        assert (read, await status_of(store, delivery)) == ("accepted", "sent")
        await store.close()


async def test_a_server_that_is_away_is_said_without_its_password(postgres_server: PostgresServer) -> None:
    with postgres_server.new_database() as url:
        store = SqlStore(url.replace("pabal@", "pabal:geheim@"), clock=ManualClock(NOW))
        await store.migrate()
        postgres_server.kill()
        try:
            with pytest.raises(StoreUnavailable) as raised:
                await store.fold([a_delivery()])
        finally:
            postgres_server.launch()

        await store.fold([a_delivery()])
        await store.close()

    assert "geheim" not in str(raised.value)
    assert "did not answer" in str(raised.value)


async def test_a_url_that_cannot_be_read_is_not_repeated() -> None:
    store = SqlStore("postgresql://pabal:geheim@host:port/d", clock=ManualClock(NOW))

    with pytest.raises(StoreUnavailable) as raised:
        await store.fold([a_delivery()])

    await store.close()
    assert "geheim" not in str(raised.value)

"""The store in PostgreSQL keeps the laws of a store; and what is its own: migration by hand, a server that ends."""

import contextlib
from collections.abc import AsyncIterator

import pytest

from pabal.clock import ManualClock
from pabal.store.port import Store
from pabal.store.sql import SqlStore
from pabal.testing import StoreContract, StoreDatabase
from pabal.testing.postgres import PostgresServer


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

"""The store in SQLite keeps the laws of a store; and what is its own: the file, its migration, other processes."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from pabal.clock import ManualClock
from pabal.store.port import Store
from pabal.store.sql import SqlStore
from pabal.testing import StoreContract, StoreDatabase


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

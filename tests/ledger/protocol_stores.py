"""Where the real ledgers of `protocol_real.py` are: an SQLite file, a PostgreSQL database."""

import uuid
from abc import ABC, abstractmethod
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from pabal.clock import ManualClock
from pabal.ledger.port import Ledger
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger


class RealStore(ABC):
    """Where a world's ledgers are: new for each world, or with nothing in it that it knows."""

    @abstractmethod
    async def connect(self, worker: str, *, clock: ManualClock) -> Ledger: ...

    @abstractmethod
    def let_time_pass(self, seconds: float) -> None:
        """Beyond what the clock of `connect` is advanced by."""


class SqliteFile(RealStore):
    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{uuid.uuid4().hex}.db"

    async def connect(self, worker: str, *, clock: ManualClock) -> Ledger:
        return await SqliteLedger.open(self._path, clock=clock, worker=worker)

    def let_time_pass(self, seconds: float) -> None:
        """Its leases are counted on the clock."""


class PostgresDatabase(RealStore):
    def __init__(self, connection: psycopg.Connection[Any], url: str) -> None:
        self._connection = connection
        self._url = url

    async def connect(self, worker: str, *, clock: ManualClock) -> Ledger:
        return await PostgresLedger.open(self._url, worker=worker)

    def let_time_pass(self, seconds: float) -> None:
        """Its leases are counted on the server's clock, so they end earlier instead."""
        shorter = "UPDATE pabal_ledger.deliveries SET lease_until = lease_until - %s WHERE state = 'claimed'"
        self._connection.execute(shorter, (timedelta(seconds=seconds),))

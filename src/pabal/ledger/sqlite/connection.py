"""The connection to a ledger's file: what it must be like, and transactions that wait for other processes.

Nothing here runs at the same time as anything else. What SQLite and the file system raise comes out as it is.
"""

import sqlite3
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from pabal.errors import ConfigError
from pabal.ledger.sqlite.rows import SCHEMA
from pabal.private_files import make_private_file, make_private_folder

SCHEMA_VERSION = 3

_PAUSE_SECONDS = 0.0005
"""How often a transaction asks for a file that another process is writing to. A transaction takes one or two
milliseconds; SQLite's own waiting backs off to a tenth of a second. Measured, one call at a time beside a process with
32 at once: p99 14 ms instead of 240."""


class LedgerConnection:
    """An open file of a ledger; its tables are made if there are none. A transaction waits up to `patience_seconds`.

    Raises ConfigError when another version made the file, when it is no ledger, or where SQLite cannot share it.
    """

    def __init__(self, path: Path, *, patience_seconds: float) -> None:
        self._patience_seconds = patience_seconds
        make_private_folder(path.parent)
        make_private_file(path)
        # Every statement of every size stays prepared.
        self._connection = sqlite3.connect(
            path, isolation_level=None, timeout=0, cached_statements=64, check_same_thread=False
        )
        self.execute = self._connection.execute
        try:
            self.ledger_id = self._prepare(path)
        except BaseException:
            self._connection.close()
            raise

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction has begun and not ended."""
        return self._connection.in_transaction

    def begin(self) -> None:
        """Begin to write, once no other process does."""
        self._insist("BEGIN IMMEDIATE")

    def begin_at_once(self) -> bool:
        """Begin to write, unless another process does."""
        try:
            self.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return False
        return True

    def roll_back(self) -> None:
        """Undo the transaction, if one has begun."""
        if self._connection.in_transaction:
            self.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _prepare(self, path: Path) -> UUID:
        [(mode,)] = self._insist("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise ConfigError(f"the ledger {path} is on a file system that SQLite cannot share (journal mode {mode})")
        self.execute("PRAGMA synchronous = FULL")
        self.begin()
        [(version,)] = self.execute("PRAGMA user_version")
        if version == 0:
            [(tables,)] = self.execute("SELECT count(*) FROM sqlite_schema")
            if tables:
                raise ConfigError(f"{path} is an SQLite file, but no ledger")
            for statement in SCHEMA:
                self.execute(statement)
            self.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ConfigError(f"the ledger {path} has version {version}; this Pabal reads {SCHEMA_VERSION}")
        [(ledger_id,)] = self.execute("SELECT id FROM ledger")
        self.execute("COMMIT")
        return UUID(bytes=ledger_id)

    def _insist(self, statement: str) -> list[Any]:
        """Execute what may find the file busy, for as long as our patience lasts."""
        waited_seconds = 0.0
        while True:
            try:
                return self.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or waited_seconds >= self._patience_seconds:
                    raise
            time.sleep(_PAUSE_SECONDS)
            waited_seconds += _PAUSE_SECONDS


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

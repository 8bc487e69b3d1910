"""Looks at a database that another process may be using. Changes nothing: does not make it, does not migrate it.

The last process to close an SQLite file in WAL mode removes the `-wal` file. SQLite would make a new `-wal` even to
read, so a file without one is opened as `immutable`. A `-wal` file means that a process uses the database, or was
killed: then the database is read together with it.
"""

import sqlite3
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import msgspec

from pabal.errors import LedgerUnavailable, StoreUnavailable
from pabal.extras import require_extra
from pabal.places import without_password

_CONNECT_SECONDS: Final = 5


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen. `version`: of the tables (None: there are none). `expected`: the version that this Pabal needs.

    `id` and `has_rows`: of a ledger. `now`: the clock of a PostgreSQL, when this machine's clock showed `asked_at`.
    """

    version: str | None
    expected: str
    id: UUID | None = None
    has_rows: bool = False
    now: datetime | None = None
    asked_at: datetime | None = None


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that only reads, for any thread, one at a time. Raises sqlite3.Error; also when there is no file."""
    has_wal = path.with_name(f"{path.name}-wal").exists()
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("" if has_wal else "&immutable=1")
    return sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)


def ask_postgres(url: str, question: str, *, error: type[LedgerUnavailable | StoreUnavailable]) -> tuple[Any, ...]:
    """The one row that answers a question, read in a transaction that may only read.

    Raises `error` with one line, and ConfigError without the extra `postgres`.
    """
    require_extra("postgres", wanted_by="a ledger or a store in PostgreSQL")
    # Loaded only where there is a PostgreSQL.
    import psycopg

    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_SECONDS) as connection:
            connection.read_only = True
            connection.execute("SET LOCAL statement_timeout = '5s'")
            row = connection.execute(question.encode()).fetchone()
    except psycopg.Error as failed:
        said = str(failed).strip().partition("\n")[0]
        raise error(f"{without_password(url)} cannot be opened: {said}") from failed
    assert row is not None
    return row

"""Looks at a database that may be another process's, and changes nothing: neither makes it nor migrates it.

The last one to close an SQLite file in WAL mode leaves it whole and without `-wal`. SQLite would make one again even to
read; so such a file is opened as one that nobody changes (`immutable`). With a `-wal` beside it somebody uses it, or
was killed: then it is read with what that holds.
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
    """What was seen. `version`: of its tables (None: there are none); `expected`: the one this Pabal has.

    `id`, `has_rows`: a ledger's. `now`, `asked_at`: the database's clock and ours at that moment, where it has one.
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
    require_extra("postgres", wanted_by="a look into PostgreSQL")
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

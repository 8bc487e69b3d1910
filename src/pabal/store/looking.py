"""Looks at a ledger or a store, and changes nothing: neither makes it, nor migrates it, nor becomes an owner."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec

from pabal.errors import LedgerUnavailable, StoreUnavailable
from pabal.places import is_postgres, without_password
from pabal.sqlite_reading import open_read_only
from pabal.store import _ledger_file
from pabal.store.migrations import VERSION_TABLE
from pabal.store.schema import REVISION

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


async def look_at_ledger(setting: str) -> Looked | None:
    """The ledger at a path or URL; None: there is none. Raises LedgerUnavailable when it cannot be looked at."""
    try:
        return await asyncio.to_thread(_ledger_of_postgres if is_postgres(setting) else _ledger_of_file, setting)
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnavailable(f"{without_password(setting)} cannot be opened: {error}") from error


async def look_at_store(url: str) -> Looked | None:
    """The store at a URL; None: there is none. Raises StoreUnavailable when it cannot be looked at."""
    try:
        return await asyncio.to_thread(_store_of_postgres if is_postgres(url) else _store_of_file, url)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{without_password(url)} cannot be opened: {error}") from error


def _ledger_of_file(setting: str) -> Looked | None:
    path = Path(setting.removeprefix("sqlite:"))
    if not path.exists():
        return None
    with closing(open_read_only(path)) as connection:
        [(version,)] = connection.execute("PRAGMA user_version")
        expected = str(_ledger_file.SCHEMA_VERSION)
        if str(version) != expected:
            return Looked(version=str(version), expected=expected)
        [(id_, has_rows)] = connection.execute("SELECT id, EXISTS (SELECT 1 FROM deliveries) FROM ledger")
        return Looked(version=expected, expected=expected, id=UUID(bytes=id_), has_rows=bool(has_rows))


def _store_of_file(url: str) -> Looked | None:
    path = Path(url.removeprefix("sqlite:"))
    if not path.exists():
        return None
    with closing(open_read_only(path)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (VERSION_TABLE,)).fetchone()
        version = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() if known else None  # noqa: S608
        return Looked(version=version[0] if version else None, expected=REVISION)


def _ledger_of_postgres(url: str) -> Looked | None:
    from pabal.store._ledger_postgres_rows import SCHEMA_VERSION

    expected = str(SCHEMA_VERSION)
    asked_at = datetime.now(UTC)
    now, table = _ask(
        url, "SELECT clock_timestamp(), to_regclass('pabal_ledger.ledger')::text", error=LedgerUnavailable
    )
    if table is None:
        return None
    id_, version, has_rows = _ask(
        url,
        "SELECT id, version, EXISTS (SELECT 1 FROM pabal_ledger.deliveries) FROM pabal_ledger.ledger",
        error=LedgerUnavailable,
    )
    return Looked(version=str(version), expected=expected, id=id_, has_rows=bool(has_rows), now=now, asked_at=asked_at)


def _store_of_postgres(url: str) -> Looked | None:
    table = f"pabal_store.{VERSION_TABLE}"
    asked_at = datetime.now(UTC)
    now, found = _ask(url, f"SELECT clock_timestamp(), to_regclass('{table}')::text", error=StoreUnavailable)
    if found is None:
        return None
    [version] = _ask(url, f"SELECT max(version_num) FROM {table}", error=StoreUnavailable)  # noqa: S608
    return Looked(version=version, expected=REVISION, now=now, asked_at=asked_at)


def _ask(url: str, question: str, *, error: type[LedgerUnavailable | StoreUnavailable]) -> tuple[Any, ...]:
    """One row, in a transaction that may only read."""
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

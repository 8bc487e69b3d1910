"""Looks at a ledger, and changes nothing: neither makes it nor becomes an owner."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from pabal.database_reading import Looked, ask_postgres, open_read_only
from pabal.errors import LedgerUnavailable
from pabal.ledger.sqlite.connection import SCHEMA_VERSION
from pabal.places import is_postgres, without_password


async def look_at_ledger(setting: str) -> Looked | None:
    """The ledger at a path or URL; None: there is none. Raises LedgerUnavailable when it cannot be looked at."""
    try:
        return await asyncio.to_thread(_in_postgres if is_postgres(setting) else _in_file, setting)
    except (sqlite3.Error, OSError) as error:
        raise LedgerUnavailable(f"{without_password(setting)} cannot be opened: {error}") from error


def _in_file(setting: str) -> Looked | None:
    path = Path(setting.removeprefix("sqlite:"))
    if not path.exists():
        return None
    with closing(open_read_only(path)) as connection:
        [(version,)] = connection.execute("PRAGMA user_version")
        expected = str(SCHEMA_VERSION)
        if str(version) != expected:
            return Looked(version=str(version), expected=expected)
        [(id_, has_rows)] = connection.execute("SELECT id, EXISTS (SELECT 1 FROM deliveries) FROM ledger")
        return Looked(version=expected, expected=expected, id=UUID(bytes=id_), has_rows=bool(has_rows))


def _in_postgres(url: str) -> Looked | None:
    # Loaded only where there is a PostgreSQL.
    from pabal.ledger.postgres.rows import SCHEMA_VERSION as POSTGRES_SCHEMA_VERSION

    expected = str(POSTGRES_SCHEMA_VERSION)
    asked_at = datetime.now(UTC)
    now, table = ask_postgres(
        url, "SELECT clock_timestamp(), to_regclass('pabal_ledger.ledger')::text", error=LedgerUnavailable
    )
    if table is None:
        return None
    id_, version, has_rows = ask_postgres(
        url,
        "SELECT id, version, EXISTS (SELECT 1 FROM pabal_ledger.deliveries) FROM pabal_ledger.ledger",
        error=LedgerUnavailable,
    )
    return Looked(version=str(version), expected=expected, id=id_, has_rows=bool(has_rows), now=now, asked_at=asked_at)

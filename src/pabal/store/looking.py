"""Looks at a store, and changes nothing: neither makes it nor migrates it."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from pabal.database_reading import Looked, ask_postgres, open_read_only
from pabal.errors import StoreUnavailable
from pabal.places import is_postgres, without_password
from pabal.store.migrations import VERSION_TABLE
from pabal.store.schema import REVISION


async def look_at_store(url: str) -> Looked | None:
    """The store at a URL; None: there is none. Raises StoreUnavailable when it cannot be looked at."""
    try:
        return await asyncio.to_thread(_in_postgres if is_postgres(url) else _in_file, url)
    except (sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"{without_password(url)} cannot be opened: {error}") from error


def _in_file(url: str) -> Looked | None:
    path = Path(url.removeprefix("sqlite:"))
    if not path.exists():
        return None
    with closing(open_read_only(path)) as connection:
        known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (VERSION_TABLE,)).fetchone()
        version = connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchone() if known else None  # noqa: S608
        return Looked(version=version[0] if version else None, expected=REVISION)


def _in_postgres(url: str) -> Looked | None:
    table = f"pabal_store.{VERSION_TABLE}"
    asked_at = datetime.now(UTC)
    now, found = ask_postgres(url, f"SELECT clock_timestamp(), to_regclass('{table}')::text", error=StoreUnavailable)
    if found is None:
        return None
    [version] = ask_postgres(url, f"SELECT max(version_num) FROM {table}", error=StoreUnavailable)  # noqa: S608
    return Looked(version=version, expected=REVISION, now=now, asked_at=asked_at)

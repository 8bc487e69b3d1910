"""Opens an SQLite file to look at it, and changes nothing: no file is made, none is written to.

The last one to close a file in WAL mode leaves it whole and without `-wal`. SQLite would make one again even to read;
so such a file is opened as one that nobody changes (`immutable`). With a `-wal` beside it somebody uses it, or was
killed: then it is read with what that holds.
"""

import sqlite3
from pathlib import Path
from urllib.parse import quote


def open_read_only(path: Path) -> sqlite3.Connection:
    """A connection that only reads, for any thread, one at a time. Raises sqlite3.Error; also when there is no file."""
    has_wal = path.with_name(f"{path.name}-wal").exists()
    uri = f"file:{quote(str(path.absolute()))}?mode=ro" + ("" if has_wal else "&immutable=1")
    return sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None, check_same_thread=False)

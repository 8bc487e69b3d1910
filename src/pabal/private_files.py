"""Files and folders for this user alone: they hold addresses, contents of notifications, keys.

Beside a database lie SQLite's own files; one that is made gets the mode of the database.
"""

import contextlib
from pathlib import Path
from typing import Final

_BESIDE: Final = ("", "-wal", "-shm", "-journal", "-lock")
_OURS: Final = ("log.db", "ledger.db", "store.db", "up.lock", "development.")


def make_private_folder(folder: Path) -> None:
    """Make it if there is none (0700). Raises OSError.

    One that was there is closed to others if nothing but Pabal's own files stands in it: any other may be shared on
    purpose (`/tmp`, a home). Where that is not ours to decide it stays as it is, and `pabal doctor` says so.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        names = [path.name for path in folder.iterdir()]
        if names and all(name.startswith(_OURS) for name in names):
            _close(folder, mode=0o700)


def make_private_file(path: Path) -> None:
    """Make it if there is none (0600), and close it, and what SQLite keeps beside it, to others. Raises OSError."""
    path.touch(mode=0o600)
    tighten(path)


def tighten(path: Path) -> None:
    """Close a file, and what SQLite keeps beside it, to others; what is not there is left out."""
    for each in (path.with_name(path.name + end) for end in _BESIDE):
        if each.exists() and each.stat().st_mode & 0o077:
            _close(each, mode=0o600)


def _close(path: Path, *, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # another user's; `pabal doctor` names it
        path.chmod(mode)

"""Files and folders for this user alone: they hold addresses, contents of notifications, keys.

SQLite keeps files of its own beside a database, and gives a new one the mode of the database.
"""

import contextlib
from pathlib import Path
from typing import Final

_BESIDE: Final = ("", "-wal", "-shm", "-journal", "-lock")
_OURS: Final = ("log.db", "ledger.db", "store.db", "up.lock", "development.")


def make_private_folder(folder: Path) -> None:
    """Make the folder with mode 0700, if it does not exist. Raises OSError.

    A folder that exists gets that mode only if it holds nothing but Pabal's files: another folder may be shared on
    purpose (`/tmp`, a home). A folder of another user stays as it is, and `pabal doctor` says so.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        names = [path.name for path in folder.iterdir()]
        if names and all(name.startswith(_OURS) for name in names):
            _close(folder, mode=0o700)


def make_private_file(path: Path) -> None:
    """Make the file with mode 0600, if it does not exist, then `tighten` it. Raises OSError."""
    path.touch(mode=0o600)
    tighten(path)


def tighten(path: Path) -> None:
    """Give mode 0600 to a file, and to the files that SQLite keeps beside it. A missing file is passed by."""
    for each in (path.with_name(path.name + end) for end in _BESIDE):
        if each.exists() and each.stat().st_mode & 0o077:
            _close(each, mode=0o600)


def _close(path: Path, *, mode: int) -> None:
    with contextlib.suppress(PermissionError):  # another user's; `pabal doctor` names it
        path.chmod(mode)

"""A disk small enough to fill up."""

import contextlib
import errno
import os
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chaos.failed import RunFailed

_SIZE_MB = 64


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """One in memory, mounted on `folder` as long as this lasts. Raises RunFailed where none may be mounted."""
    leave = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*leave, "mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "chaos", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode != 0:
        raise RunFailed(f"no small disk can be mounted here (root may, or sudo without a password): {done.stderr}")
    try:
        yield
    finally:
        subprocess.run([*leave, "umount", "--lazy", str(folder)], check=True)


def missing() -> str | None:
    """Why no small disk can be mounted here, or None."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder)):
                return None
        except RunFailed as error:
            return str(error)


def fill(ballast: Path) -> None:
    """Leave no room on the disk of this file."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def integrity(database: Path) -> str:
    """SQLite's own verdict on a file; `ok` if it is whole."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        verdict = connection.execute("PRAGMA integrity_check").fetchone()
    return str(verdict[0])

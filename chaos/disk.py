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

NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount", "--")
"""In front of a command: it runs as root of namespaces of its own, where anyone may mount, seen by nobody outside."""


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """One in memory, mounted on `folder` as long as this lasts. Raises RunFailed where none may be mounted."""
    leave = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*leave, "mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "chaos", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except OSError as error:
        raise RunFailed(f"no small disk can be mounted: there is no `{error.filename}` to run") from None
    if done.returncode != 0:
        reason = done.stderr.strip()
        raise RunFailed(f"no small disk can be mounted (root may, or sudo without a password): {reason}")
    try:
        yield
    finally:
        subprocess.run([*leave, "umount", "--lazy", str(folder)], check=True)


def refusal_here() -> str | None:
    """Why this process can mount no small disk, or None."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder)):
                return None
        except RunFailed as error:
            return str(error)


def refusal_apart() -> str | None:
    """Why a process in namespaces of its own can mount none either, or None."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*NAMESPACES, "mount", "-t", "tmpfs", "-o", f"size={_SIZE_MB}m", "chaos", folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError:
            return "no `unshare` on this machine (Debian: util-linux)"
    return None if done.returncode == 0 else f"no namespaces with a mount of their own: {done.stderr.strip()}"


def missing() -> str | None:
    """Why no small disk can be had on this machine, neither here nor apart; or None."""
    here = refusal_here()
    apart = here and refusal_apart()
    return f"{here}; {apart}" if apart else None


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

"""The owners of a ledger's file: which of them is alive.

Every process that opens the file becomes an *owner*, with a number, a lock file beside the database, and the machine's
boot id. An owner's leases end when the owner closes the ledger, when another process opens the file under the same
worker name, when the owner's process is gone (the kernel then frees its lock, and the lock can be taken), or when the
machine was booted since. The process that finds this out writes it down in the transaction that acts on it. An owner
that was written off so claims nothing more: the two cannot both be right.
"""

import fcntl
import os
from pathlib import Path
from typing import IO

from pabal.clock import Clock
from pabal.ledger.sqlite.connection import LedgerConnection


class Owners:
    """The owners of one file, as one of them sees them. `own` is its number: it becomes an owner here."""

    def __init__(self, path: Path, connection: LedgerConnection, *, clock: Clock, worker: str) -> None:
        self._connection = connection
        self._clock = clock
        self._locks = path.with_name(f"{path.name}.owners")
        self._locks.mkdir(mode=0o700, exist_ok=True)
        self.own: int
        self._lock = self._register(worker)

    def is_alive(self, owner: int) -> bool:
        """Whether an owner's leases hold as long as they say. If they do not, that is written down."""
        if owner == self.own:
            return True
        execute = self._connection.execute
        found = execute("SELECT boot_id, ended FROM owners WHERE owner = ?", (owner,)).fetchone()
        if found is None or found[1] is not None:
            return False
        if found[0] != self._clock.boot_id:
            why = "the machine was booted"
        elif self._can_take_lock(owner):
            why = "its process is gone"
        else:
            return True
        self._end(owner, why)
        self._lock_path(owner).unlink(missing_ok=True)
        return False

    def end_own(self) -> None:
        """End this owner's leases."""
        self._end(self.own, "closed")

    def let_go(self) -> None:
        """Give the lock back: from now on every process sees that this owner is gone."""
        self._lock.close()
        self._lock_path(self.own).unlink(missing_ok=True)

    def _register(self, worker: str) -> IO[str]:
        """Become an owner, and write off the dead. The lock is held before the number can be seen."""
        execute = self._connection.execute
        self._connection.begin()
        owner = execute(
            "INSERT INTO owners (worker, pid, boot_id, opened_at) VALUES (?, ?, ?, ?)",
            (worker, os.getpid(), self._clock.boot_id, self._clock.now().isoformat()),
        ).lastrowid
        assert owner is not None
        self.own = owner
        execute(
            "UPDATE owners SET ended = ? WHERE worker = ? AND owner <> ? AND ended IS NULL",
            (f"owner {owner} has its name", worker, owner),
        )
        lock = self._lock_path(owner).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for (other,) in execute("SELECT owner FROM owners WHERE ended IS NULL").fetchall():
                self.is_alive(other)
            execute("COMMIT")
        except BaseException:
            lock.close()
            raise
        return lock

    def _end(self, owner: int, why: str) -> None:
        self._connection.execute("UPDATE owners SET ended = ? WHERE owner = ? AND ended IS NULL", (why, owner))

    def _can_take_lock(self, owner: int) -> bool:
        try:
            with self._lock_path(owner).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            return True
        return True

    def _lock_path(self, owner: int) -> Path:
        return self._locks / f"{owner}.lock"

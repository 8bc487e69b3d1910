"""The ledger's file, as one of its owners sees it: transactions over rows, and who of the others is alive.

Whose leases have ended. Every process that opens the file becomes an *owner*, with a number, a lock file beside the
database, and the machine's boot id. An owner's leases end when it closes, when another opens the file under the same
worker name, when its process is gone (its lock, which the kernel frees, can be taken), or when the machine was booted
since. Whoever finds that out writes it down in the transaction that acts on it, and an owner so written off claims
nothing more: the two cannot both be right.

Nothing here runs at the same time as anything else. What SQLite and the file system raise comes out as it is.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from pabal.clock import Clock
from pabal.errors import ConfigError
from pabal.ledger.protocol import Row
from pabal.ledger.sqlite.rows import (
    LAST_OF_STEP,
    PRUNE,
    SCHEMA,
    SELECT_GATE,
    SUPPRESS,
    UNSUPPRESS,
    decode,
    select,
    select_suppressed,
    settle,
    upsert,
)
from pabal.ledger.steps import MOST_ROWS, Ask, Failure, Transaction, ids_of, recipients_of, run
from pabal.private_files import make_private_file, make_private_folder

SCHEMA_VERSION = 3

_PAUSE_SECONDS = 0.0005
"""How often a transaction asks for a file that another process is writing to. A transaction takes one or two
milliseconds; SQLite's own waiting backs off to a tenth of a second. Measured, one call at a time beside a process with
32 at once: p99 14 ms instead of 240."""

_PRUNE_STEP = 1000

_MOST_REMEMBERED = 10_000
"""Rows of claims that are not settled; more than a worker has in flight means that some never will be."""


class LedgerFile:
    """An open ledger. `ledger_id` is its own, `owner` the number it was opened as."""

    def __init__(self, path: Path, *, clock: Clock, worker: str, patience_seconds: float) -> None:
        self._clock = clock
        self._worker = worker
        self._patience_seconds = patience_seconds
        self._unsettled: dict[bytes, Row] = {}
        self._data_version: int | None = None
        self._has_suppressions = True
        self._ended: str | None = None
        self._locks = path.with_name(f"{path.name}.owners")
        make_private_folder(path.parent)
        self._locks.mkdir(mode=0o700, exist_ok=True)
        make_private_file(path)
        # Every statement of every size stays prepared.
        self._connection = sqlite3.connect(
            path, isolation_level=None, timeout=0, cached_statements=64, check_same_thread=False
        )
        try:
            self._prepare(path)
            self.owner, self._lock = self._register()
        except BaseException:
            self._connection.close()
            raise

    def transact(self, asks: Sequence[Ask]) -> list[Any | Failure]:
        """Do what is asked, in order, in one durable transaction.

        Returns the answers. A step that raises changed nothing, and its answer says why. At most MOST_ROWS ids.
        """
        self._begin()
        return self.commit(self._do(asks))

    def begin_at_once(self, asks: Sequence[Ask]) -> list[Any | Failure] | None:
        """`transact` up to its commit, without a wait; None: another process is writing, and nothing was done."""
        self._end_what_failed()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return None
        return self._do(asks)

    def commit(self, answers: list[Any | Failure]) -> list[Any | Failure]:
        """What has begun is durable on return; its answers hold."""
        try:
            self._connection.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        return answers

    def _do(self, asks: Sequence[Ask]) -> list[Any | Failure]:
        try:
            self._forget_what_others_may_have_changed()
            transaction = self._read(asks)
            answers = run(asks, transaction)
            self._write(transaction)
            self._remember(transaction)  # a commit that fails forgets everything
        except BaseException:
            self._roll_back()
            raise
        return answers

    def _forget_what_others_may_have_changed(self) -> None:
        """Keep what is remembered only if no other connection has committed since (PRAGMA data_version)."""
        [(version,)] = self._connection.execute("PRAGMA data_version")
        if version != self._data_version or len(self._unsettled) > _MOST_REMEMBERED:
            self._data_version = version
            self._unsettled.clear()
            [(self._has_suppressions, self._ended)] = self._connection.execute(SELECT_GATE, (self.owner,))

    def _roll_back(self) -> None:
        self._unsettled.clear()
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _read(self, asks: Sequence[Ask]) -> Transaction:
        keys = ids_of(asks)
        recipients = recipients_of(asks) if self._has_suppressions else ()
        execute = self._connection.execute
        rows = {key: self._unsettled[key] for key in keys if key in self._unsettled}
        suppressed = set[bytes]()
        if unknown := keys - rows.keys():
            [(found,)] = execute(*select(list(unknown)))
            rows |= decode(found)
        if recipients:
            suppressed = {found for (found,) in execute(*select_suppressed(list(recipients)))}
        return Transaction(
            rows,
            now_seconds=self._clock.boot_seconds(),
            ended=self._ended,
            suppressed=suppressed,
            is_alive=self._is_alive,
        )

    def _write(self, transaction: Transaction) -> None:
        execute = self._connection.execute
        if transaction.rows_to_write:
            execute(*upsert(list(transaction.rows_to_write.values())))
        if transaction.ids_to_settle:
            execute(*settle(list(transaction.ids_to_settle)))
        for recipient, is_suppressed in transaction.suppressions_to_write.items():
            execute(SUPPRESS if is_suppressed else UNSUPPRESS, (recipient,))

    def _remember(self, transaction: Transaction) -> None:
        """A claim is followed by its end and its settlement: three reads of one row that nobody else writes."""
        for key, row in transaction.changed_rows:
            if row.settled:
                self._unsettled.pop(key, None)
            else:
                self._unsettled[key] = row
        if transaction.suppressions_to_write:
            self._forget()

    def _forget(self) -> None:
        """Rows were deleted, or suppressions changed."""
        self._unsettled.clear()
        self._data_version = None

    def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        """See `Database.prune`; the place is the last number looked at."""
        self._begin()
        execute = self._connection.execute
        try:
            [(last,)] = execute(LAST_OF_STEP, (after, _PRUNE_STEP))
            count = 0
            if last is not None:
                count = execute(PRUNE, (after, last, before, self._clock.boot_seconds())).rowcount
            execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        if count:
            self._forget()
        return count, last

    def suppressed(self) -> Collection[bytes]:
        """See `Database.suppressed`."""
        return [recipient for (recipient,) in self._connection.execute("SELECT recipient FROM suppressions")]

    def known(self, keys: Collection[bytes]) -> Collection[bytes]:
        """See `Database.known`."""
        found: list[bytes] = []
        wanted = list(keys)
        for first in range(0, len(wanted), MOST_ROWS):
            [(rows,)] = self._connection.execute(*select(wanted[first : first + MOST_ROWS]))
            found += decode(rows)
        return found

    def close(self) -> None:
        """End this owner's leases and let go."""
        try:
            self._end(self.owner, "closed")
        finally:
            self._connection.close()
            self._lock.close()
            self._lock_path(self.owner).unlink(missing_ok=True)

    def _is_alive(self, owner: int) -> bool:
        """Whether an owner's leases hold as long as they say. If not, that is written down."""
        if owner == self.owner:
            return True
        found = self._connection.execute("SELECT boot_id, ended FROM owners WHERE owner = ?", (owner,)).fetchone()
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

    def _prepare(self, path: Path) -> None:
        execute = self._connection.execute
        [(mode,)] = self._insist("PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise ConfigError(f"the ledger {path} is on a file system that SQLite cannot share (journal mode {mode})")
        execute("PRAGMA synchronous = FULL")
        self._begin()
        [(version,)] = execute("PRAGMA user_version")
        if version == 0:
            [(tables,)] = execute("SELECT count(*) FROM sqlite_schema")
            if tables:
                raise ConfigError(f"{path} is an SQLite file, but no ledger")
            for statement in SCHEMA:
                execute(statement)
            execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ConfigError(f"the ledger {path} has version {version}; this Pabal reads {SCHEMA_VERSION}")
        [(ledger_id,)] = execute("SELECT id FROM ledger")
        self.ledger_id = UUID(bytes=ledger_id)
        execute("COMMIT")

    def _register(self) -> tuple[int, IO[str]]:
        """Become an owner, and write off the dead. The lock is held before the number can be seen."""
        execute = self._connection.execute
        self._begin()
        owner = execute(
            "INSERT INTO owners (worker, pid, boot_id, opened_at) VALUES (?, ?, ?, ?)",
            (self._worker, os.getpid(), self._clock.boot_id, self._clock.now().isoformat()),
        ).lastrowid
        assert owner is not None
        self.owner = owner
        execute(
            "UPDATE owners SET ended = ? WHERE worker = ? AND owner <> ? AND ended IS NULL",
            (f"owner {owner} has its name", self._worker, owner),
        )
        lock = self._lock_path(owner).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for (other,) in execute("SELECT owner FROM owners WHERE ended IS NULL").fetchall():
                self._is_alive(other)
            execute("COMMIT")
        except BaseException:
            lock.close()
            raise
        return owner, lock

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

    def _begin(self) -> None:
        self._end_what_failed()
        self._insist("BEGIN IMMEDIATE")

    def _end_what_failed(self) -> None:
        """A rollback that failed as well (the disk) must not be in the way of every later transaction."""
        if self._connection.in_transaction:
            self._roll_back()

    def _insist(self, statement: str) -> list[Any]:
        """Execute what may find the file busy, for as long as our patience lasts."""
        waited_seconds = 0.0
        while True:
            try:
                return self._connection.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                if not _is_busy(error) or waited_seconds >= self._patience_seconds:
                    raise
            time.sleep(_PAUSE_SECONDS)
            waited_seconds += _PAUSE_SECONDS


def _is_busy(error: sqlite3.OperationalError) -> bool:
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)

"""The ledger's file, as one of its owners sees it: transactions over rows, and who of the others is alive.

Whose leases have ended. Every process that opens the file becomes an *owner*, with a number, a lock file beside the
database, and the machine's boot id. An owner's leases end when it closes, when another opens the file under the same
worker name, when its process is gone (its lock, which the kernel frees, can be taken), or when the machine was booted
since. Whoever finds that out writes it down in the transaction that acts on it, and an owner so written off claims
nothing more: the two cannot both be right.

Everything here runs in one thread. What SQLite and the file system raise comes out as it is.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from pabal.clock import Clock
from pabal.errors import ConfigError, OwnerEnded
from pabal.outcome import Suppressed
from pabal.protocol import (
    CancelAnswer,
    Claim,
    ClaimAnswer,
    Finish,
    FinishAnswer,
    Row,
    cancel,
    claim,
    finish,
    release,
    settle,
)
from pabal.store._ledger_rows import SCHEMA, decode, select, select_suppressed, to_columns, upsert
from pabal.store._ledger_rows import settle as settle_statement

SCHEMA_VERSION = 2

_PAUSE_SECONDS = 0.0005
"""How often a transaction asks for a file that another process is writing to. A transaction takes one or two
milliseconds; SQLite's own waiting backs off to a tenth of a second. Measured, one call at a time beside a process with
32 at once: p99 14 ms instead of 240."""

_PRUNE_STEP = 1000

_MOST_REMEMBERED = 10_000
"""Rows of claims that are not settled; more than a worker has in flight means that some never will be."""


class LedgerFile:
    """An open ledger. `owner` is the number it was opened as."""

    def __init__(self, path: Path, *, clock: Clock, worker: str, patience_seconds: float) -> None:
        self._clock = clock
        self._worker = worker
        self._patience_seconds = patience_seconds
        self._unsettled: dict[bytes, Row] = {}
        self._data_version: int | None = None
        self._has_suppressions = True
        self._locks = path.with_name(f"{path.name}.owners")
        self._locks.mkdir(exist_ok=True)
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

    def transact(self, asks: Sequence["Ask"]) -> "list[Any | Failure]":
        """Do what is asked, in order, in one durable transaction.

        Returns the answers. A step that raises changed nothing, and its answer says why. At most MOST_ROWS ids.
        """
        self._begin()
        try:
            self._forget_what_others_may_have_changed()
            transaction = Transaction(
                self,
                self._connection,
                {ask.key for ask in asks if ask.key},
                known=self._unsettled,
                recipients=_recipients(asks) if self._has_suppressions else (),
            )
            answers = [transaction.run(ask) for ask in asks]
            transaction.write()
            self._connection.execute("COMMIT")
            self._remember(transaction.changed)
        except BaseException:
            self._unsettled.clear()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        return answers

    def _forget_what_others_may_have_changed(self) -> None:
        """Keep what is remembered of rows only if no other connection has committed since (PRAGMA data_version)."""
        [(version,)] = self._connection.execute("PRAGMA data_version")
        if version != self._data_version or len(self._unsettled) > _MOST_REMEMBERED:
            self._data_version = version
            self._unsettled.clear()
            [(self._has_suppressions,)] = self._connection.execute("SELECT EXISTS (SELECT 1 FROM suppressions)")

    def _remember(self, changed: Iterable[tuple[bytes, Row]]) -> None:
        """A claim is followed by its end and its settlement: three reads of one row that nobody else writes."""
        for key, row in changed:
            if row.settled:
                self._unsettled.pop(key, None)
            else:
                self._unsettled[key] = row

    def forget(self) -> None:
        """Rows were deleted, or suppressions changed."""
        self._unsettled.clear()
        self._data_version = None

    def close(self) -> None:
        """End this owner's leases and let go."""
        try:
            self._end(self.owner, "closed")
        finally:
            self._connection.close()
            self._lock.close()
            self._lock_path(self.owner).unlink(missing_ok=True)

    def now_seconds(self) -> float:
        """The lease clock."""
        return self._clock.boot_seconds()

    def is_alive(self, owner: int) -> bool:
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
                self.is_alive(other)
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
        self._insist("BEGIN IMMEDIATE")

    def _insist(self, statement: str) -> list[Any]:
        """Execute what may find the file busy, for as long as our patience lasts."""
        waited_seconds = 0.0
        while True:
            try:
                return self._connection.execute(statement).fetchall()
            except sqlite3.OperationalError as error:
                is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if not is_busy or waited_seconds >= self._patience_seconds:
                    raise
            time.sleep(_PAUSE_SECONDS)
            waited_seconds += _PAUSE_SECONDS


class Transaction:
    """The rows that one group needs, as its steps change them."""

    def __init__(
        self,
        file: LedgerFile,
        connection: sqlite3.Connection,
        keys: set[bytes],
        *,
        known: Mapping[bytes, Row],
        recipients: Collection[bytes],
    ) -> None:
        self._file = file
        self._connection = connection
        self._now_seconds = file.now_seconds()
        self._rows = {key: known[key] for key in keys if key in known}
        self._ended: str | None = None
        self._changed: dict[bytes, list[Any]] = {}
        self._settled: dict[bytes, None] = {}
        self._alive: dict[int, bool] = {}
        if unknown := keys - self._rows.keys():
            [(found, self._ended)] = connection.execute(*select(list(unknown), owner=file.owner))
            self._rows |= decode(found)
        self._suppressed: set[bytes] = set()
        if recipients:
            self._suppressed = {found for (found,) in connection.execute(*select_suppressed(list(recipients)))}

    def run(self, ask: "Ask") -> "Any | Failure":
        """A step's answer. What it raises is its own affair, and no reason to fail the others."""
        try:
            return ask.step(self, ask.key, ask.argument)
        except sqlite3.Error:
            raise
        except Exception as error:
            return Failure(error)

    def claim(self, key: bytes, ask: Claim) -> ClaimAnswer:
        """See `protocol.claim`."""
        if self._ended is not None:
            raise OwnerEnded(f"this worker was written off: {self._ended}; start it anew, under its own name")
        if ask.recipient in self._suppressed and ask.refusal is None:
            ask = msgspec.structs.replace(ask, refusal=Suppressed())
        before = self._rows.get(key)
        after, answer = claim(before, ask, now_seconds=self._now_seconds, lease_left=self._lease_left)
        self._note(key, before, after)
        return answer

    def finish(self, key: bytes, ask: Finish) -> FinishAnswer:
        """See `protocol.finish`."""
        before = self._rows.get(key)
        after, answer = finish(before, ask)
        self._note(key, before, after)
        return answer

    def release(self, key: bytes, claim: tuple[int, int]) -> None:
        """See `protocol.release`. `claim`: its owner and token, as in `settle`."""
        owner, token = claim
        before = self._rows.get(key)
        self._note(key, before, release(before, owner=owner, token=token))

    def settle(self, key: bytes, claim: tuple[int, int]) -> None:
        """See `protocol.settle`. All settlements of a transaction are one short statement."""
        owner, token = claim
        before = self._rows.get(key)
        after = settle(before, owner=owner, token=token)
        if after is None or after is before:
            return
        self._rows[key] = after
        if key in self._changed:
            self._changed[key] = to_columns(key, after)
        else:
            self._settled[key] = None

    def cancel(self, key: bytes, prune_after: float) -> CancelAnswer:
        """See `protocol.cancel`."""
        before = self._rows.get(key)
        after, answer = cancel(before, prune_after=prune_after)
        self._note(key, before, after)
        return answer

    def suppress(self, _: bytes, recipients: Collection[bytes]) -> None:
        """See `Ledger.suppress`."""
        statement = "INSERT OR IGNORE INTO suppressions VALUES (?)"
        self._connection.executemany(statement, [(recipient,) for recipient in recipients])
        self._file.forget()

    def unsuppress(self, _: bytes, recipients: Collection[bytes]) -> None:
        """See `Ledger.unsuppress`."""
        statement = "DELETE FROM suppressions WHERE recipient = ?"
        self._connection.executemany(statement, [(recipient,) for recipient in recipients])
        self._file.forget()

    def prune(self, _: bytes, bounds: tuple[int, float]) -> tuple[int, int | None]:
        """Look at some rows that follow a number; delete those that need not be kept at an instant (the `bounds`).

        Returns how many, and the last number looked at (None: there were no more).
        """
        after, before = bounds
        execute = self._connection.execute
        [(last,)] = execute(
            "SELECT max(number) FROM (SELECT number FROM deliveries WHERE number > ? ORDER BY number LIMIT ?)",
            (after, _PRUNE_STEP),
        )
        if last is None:
            return 0, None
        deleted = execute(
            "DELETE FROM deliveries WHERE number > ? AND number <= ? AND prune_after < ? "
            "AND NOT (state = 'claimed' AND lease_until > ?)",
            (after, last, before, self._now_seconds),
        )
        if deleted.rowcount:
            self._file.forget()
        return deleted.rowcount, last

    @property
    def changed(self) -> Iterable[tuple[bytes, Row]]:
        """The rows that `write` stored."""
        return ((key, self._rows[key]) for keys in (self._changed, self._settled) for key in keys)

    def write(self) -> None:
        """Store what changed."""
        if self._changed:
            self._connection.execute(*upsert(list(self._changed.values())))
        if self._settled:
            self._connection.execute(*settle_statement(list(self._settled)))

    def _lease_left(self, row: Row) -> float:
        left = row.lease_until - self._now_seconds
        if left <= 0:
            return left
        if row.owner not in self._alive:
            self._alive[row.owner] = self._file.is_alive(row.owner)
        return left if self._alive[row.owner] else 0.0

    def _note(self, key: bytes, before: Row | None, after: Row | None) -> None:
        if after is not None and after is not before and after != before:
            # Here, so that a row that cannot be written fails the step that made it, and no other.
            self._changed[key] = to_columns(key, after)
            self._rows[key] = after
            self._settled.pop(key, None)


class Failure:
    """What a step raised instead of answering."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


Step = Callable[[Transaction, bytes, Any], Any]
"""One of Transaction's methods: takes the id of the row it needs (b"": none) and its argument."""


class Ask:
    """One call of a ledger: what to do, and with which row."""

    __slots__ = ("argument", "key", "step")

    def __init__(self, step: Step, key: bytes, argument: Any) -> None:
        self.step = step
        self.key = key
        self.argument = argument


def _recipients(asks: Iterable[Ask]) -> set[bytes]:
    return {ask.argument.recipient for ask in asks if isinstance(ask.argument, Claim) and ask.argument.recipient}

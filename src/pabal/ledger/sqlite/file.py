"""The ledger's file, as one of its owners sees it: transactions over rows.

`connection.py` begins and ends transactions; `owners.py` says which of the other owners is alive. Nothing here runs at
the same time as anything else. What SQLite and the file system raise comes out as it is.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from pabal.clock import Clock
from pabal.ledger.protocol import Row
from pabal.ledger.sqlite.connection import LedgerConnection
from pabal.ledger.sqlite.owners import Owners
from pabal.ledger.sqlite.rows import (
    LAST_OF_STEP,
    PRUNE,
    SELECT_GATE,
    SUPPRESS,
    UNSUPPRESS,
    decode,
    select,
    select_suppressed,
    settle,
    upsert,
)
from pabal.ledger.steps import MOST_ROWS, Ask, Failure, GroupRows, ids_of, recipients_of, run

_PRUNE_STEP = 1000

_MOST_REMEMBERED = 10_000
"""Rows of claims that are not settled; more than a worker has in flight means that some never will be."""


class LedgerFile:
    """An open ledger. `ledger_id` is its own, `owner` the number it was opened as."""

    def __init__(self, path: Path, *, clock: Clock, worker: str, patience_seconds: float) -> None:
        self._clock = clock
        self._unsettled: dict[bytes, Row] = {}
        self._data_version: int | None = None
        self._has_suppressions = True
        self._ended: str | None = None
        self._connection = LedgerConnection(path, patience_seconds=patience_seconds)
        try:
            self._owners = Owners(path, self._connection, clock=clock, worker=worker)
        except BaseException:
            self._connection.close()
            raise
        self.ledger_id = self._connection.ledger_id
        self.owner = self._owners.own

    def transact(self, asks: Sequence[Ask]) -> list[Any | Failure]:
        """Do what is asked, in order, in one durable transaction.

        Returns the answers. A step that raises changed nothing, and its answer says why. At most MOST_ROWS ids.
        """
        self._end_what_failed()
        self._connection.begin()
        return self.commit(self._do(asks))

    def begin_at_once(self, asks: Sequence[Ask]) -> list[Any | Failure] | None:
        """`transact` up to its commit, without a wait; None: another process is writing, and nothing was done."""
        self._end_what_failed()
        return self._do(asks) if self._connection.begin_at_once() else None

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
            rows = self._read(asks)
            answers = run(asks, rows)
            self._write(rows)
            self._remember(rows)  # a commit that fails forgets everything
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
        self._connection.roll_back()

    def _end_what_failed(self) -> None:
        """A rollback that failed as well (the disk) must not be in the way of every later transaction."""
        if self._connection.is_in_transaction:
            self._roll_back()

    def _read(self, asks: Sequence[Ask]) -> GroupRows:
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
        return GroupRows(
            rows,
            now_seconds=self._clock.boot_seconds(),
            ended=self._ended,
            suppressed=suppressed,
            is_alive=self._owners.is_alive,
        )

    def _write(self, changes: GroupRows) -> None:
        execute = self._connection.execute
        if changes.rows_to_write:
            execute(*upsert(list(changes.rows_to_write.values())))
        if changes.ids_to_settle:
            execute(*settle(list(changes.ids_to_settle)))
        for recipient, is_suppressed in changes.suppressions_to_write.items():
            execute(SUPPRESS if is_suppressed else UNSUPPRESS, (recipient,))

    def _remember(self, changes: GroupRows) -> None:
        """A claim is followed by its end and its settlement: three reads of one row that no other process writes."""
        for key, row in changes.changed_rows:
            if row.settled:
                self._unsettled.pop(key, None)
            else:
                self._unsettled[key] = row
        if changes.suppressions_to_write:
            self._forget()

    def _forget(self) -> None:
        """Rows were deleted, or suppressions changed."""
        self._unsettled.clear()
        self._data_version = None

    def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        """See `LedgerDatabase.prune`; the place is the last number looked at."""
        self._end_what_failed()
        self._connection.begin()
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
        """See `LedgerDatabase.suppressed`."""
        return [recipient for (recipient,) in self._connection.execute("SELECT recipient FROM suppressions")]

    def known(self, keys: Collection[bytes]) -> Collection[bytes]:
        """See `LedgerDatabase.known`."""
        found: list[bytes] = []
        wanted = list(keys)
        for first in range(0, len(wanted), MOST_ROWS):
            [(rows,)] = self._connection.execute(*select(wanted[first : first + MOST_ROWS]))
            found += decode(rows)
        return found

    def close(self) -> None:
        """End this owner's leases and let go."""
        try:
            self._owners.end_own()
        finally:
            self._connection.close()
            self._owners.let_go()

"""The ledger's database on PostgreSQL, as one of its owners sees it: one connection, and groups in transactions on it.

A group takes two round trips. Each is one statement and a transaction of its own.

* The first reads the database's clock, whether this owner was written off, which recipients are suppressed, and the
  rows there are.
* The second writes all or nothing. New rows are plain inserts. The other rows are written only if they still are what
  was read (compare-and-set on the transaction that wrote them, `xmin`). Permissions to call are written only if
  everything they rest on still holds (`_GATE`).

So the second is the whole gate in one transaction, and the first only prepares it. When another worker wrote in
between, the group runs again from the start.

A row that was not found may still be taken: another worker may be inserting it at this moment. The insert decides. It
waits for the other worker's insert, and fails when that insert commits; the group then runs again and finds the row.

Nothing is locked between the two round trips: a worker that is stopped there (SIGSTOP) holds no other worker up. When
two workers write the same rows in different orders, the database sees the deadlock and fails one; its group runs again.

A lost connection fails its group, and so does a server that is silent (`postgres_silence.py`). The next group connects
anew and goes on as the same owner. A frozen server may store the failed group late. That does no harm: the claim is
asked again under its token, or the compare-and-set finds that the rows have changed.
"""

import asyncio
import contextlib
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, errors

from pabal.errors import LedgerUnavailable, OwnerEnded
from pabal.ledger.postgres.rows import (
    ALL_SUPPRESSED,
    BLOCKS,
    KNOWN,
    PRUNE,
    READ,
    SUPPRESS,
    UNSUPPRESS,
    id_array,
    to_row,
    write,
)
from pabal.ledger.postgres.session import LedgerSession
from pabal.ledger.protocol import Row
from pabal.ledger.steps import Ask, Failure, GroupRows, ids_of, recipients_of, run

logger = logging.getLogger(__name__)

_TRIES = 8
"""How often a group runs when other workers write first. Each time it finds a row or a suppression more."""

_PRUNE_BLOCKS = 128
"""Of 8 KiB each: a megabyte, some 3,000 rows, a few milliseconds."""

_RETRIED = (errors.UniqueViolation, errors.DivisionByZero, errors.DeadlockDetected, errors.SerializationFailure)


class PostgresLedgerDatabase:
    """See the module. A `LedgerDatabase`; make one with `open`."""

    ledger_id: UUID
    owner: int

    def __init__(self, url: str, *, worker: str, patience_seconds: float) -> None:
        self._session = LedgerSession(url, worker=worker, patience_seconds=patience_seconds)
        self._busy = asyncio.Lock()
        self._is_closed = False

    async def open(self) -> None:
        """Connect, make the tables if there are none, and become an owner. Raises LedgerUnavailable, ConfigError."""
        await self._session.open()
        self.ledger_id = self._session.ledger_id
        self.owner = self._session.owner

    def transact(self, asks: Sequence[Ask]) -> asyncio.Future[list[Any]]:
        """See `LedgerDatabase.transact`."""
        return asyncio.ensure_future(self._insist(asks))

    async def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        """See `LedgerDatabase.prune`; the place is the number of blocks looked at."""
        async with self._busy:
            try:
                connection = await self._session.connected()
                async with connection.transaction():
                    [(blocks,)] = await (await connection.execute(BLOCKS)).fetchall()
                    upto = after + _PRUNE_BLOCKS
                    pruned = await connection.execute(PRUNE, (f"({after},0)", f"({upto},0)", before))
            except BaseException as error:
                await self._session.give_up(error)
                raise
        return pruned.rowcount, upto if upto < blocks else None

    async def suppressed(self) -> Collection[bytes]:
        """See `LedgerDatabase.suppressed`."""
        async with self._busy:
            try:
                connection = await self._session.connected()
                async with connection.transaction():
                    found = await (await connection.execute(ALL_SUPPRESSED)).fetchall()
            except BaseException as error:
                await self._session.give_up(error)
                raise
        return [recipient for (recipient,) in found]

    async def known(self, keys: Collection[bytes]) -> Collection[bytes]:
        """See `LedgerDatabase.known`."""
        async with self._busy:
            try:
                connection = await self._session.connected()
                async with connection.transaction():
                    found = await (await connection.execute(KNOWN, ([UUID(bytes=key) for key in keys],))).fetchall()
            except BaseException as error:
                await self._session.give_up(error)
                raise
        return [key.bytes for (key,) in found]

    async def close(self) -> None:
        """See `LedgerDatabase.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        async with self._busy:
            try:
                connection = await self._session.connected()
                statement = "UPDATE owners SET ended = 'closed' WHERE owner = %s AND ended IS NULL"
                await connection.execute(statement, (self.owner,))
            except (psycopg.Error, OSError, LedgerUnavailable, OwnerEnded) as error:
                logger.warning("could not end this worker's leases, they will by themselves: %s", error)
            finally:
                await self._session.disconnect()

    async def _insist(self, asks: Sequence[Ask]) -> list[Any]:
        for _ in range(_TRIES):
            async with self._busy:
                try:
                    return await self._transact(await self._session.connected(), asks)
                except _RETRIED as error:
                    logger.debug("asking again: %s", error)
                    await self._session.give_up(error)
                except BaseException as error:
                    await self._session.give_up(error)
                    raise
        raise LedgerUnavailable(f"the ledger did not take it: another's rows were in the way {_TRIES} times")

    async def _transact(
        self, connection: AsyncConnection[tuple[Any, ...]], asks: Sequence[Ask]
    ) -> "list[Any | Failure]":
        rows, versions = await self._read(connection, asks)
        answers = run(asks, rows)
        await self._write(connection, rows, versions=versions)
        return answers

    async def _read(
        self, connection: AsyncConnection[tuple[Any, ...]], asks: Sequence[Ask]
    ) -> tuple[GroupRows, Mapping[bytes, str]]:
        """What the steps need, and the versions of the rows there are."""
        values = (self.owner, list(recipients_of(asks)), id_array(ids_of(asks)))
        cursor = await connection.cursor(binary=True).execute(READ, values, prepare=True)
        found = await cursor.fetchall()
        now_seconds, ended, suppressed = found[0][:3]
        if ended is None:
            ended = "the ledger does not know it, it must be another or an old one"
        rows: dict[bytes, Row] = {}
        versions: dict[bytes, str] = {}
        alive: dict[int, bool] = {}
        for _, _, _, is_alive, version, *stored in found:
            if version is not None:
                key: bytes = stored[0]
                row = rows[key] = to_row(stored)
                versions[key] = version
                alive[row.owner] = bool(is_alive)
        alive[self.owner] = True
        group = GroupRows(
            rows,
            now_seconds=now_seconds,
            ended=ended or None,
            suppressed=set(suppressed),
            is_alive=lambda owner: alive.get(owner, True),
        )
        return group, versions

    async def _write(
        self,
        connection: AsyncConnection[tuple[Any, ...]],
        group: GroupRows,
        *,
        versions: Mapping[bytes, str],
    ) -> None:
        """Store what changed, durably, all or nothing."""
        written = group.rows_to_write
        suppressions = group.suppressions_to_write
        async with contextlib.AsyncExitStack() as together:
            if suppressions:
                await together.enter_async_context(connection.transaction())
            # The rows first: their gate looks at other workers' suppressions, not at those of this group's later steps.
            if written or group.ids_to_settle:
                statement, values = write(
                    [columns for key, columns in written.items() if key not in versions],
                    [columns for key, columns in written.items() if key in versions],
                    group.ids_to_settle,
                    versions=versions,
                    owner=self.owner,
                    permitted=group.recipients_permitted,
                )
                await connection.execute(statement, values, prepare=True)
            if suppressions:
                for statement, wanted in ((SUPPRESS, True), (UNSUPPRESS, False)):
                    recipients = sorted(each for each, is_suppressed in suppressions.items() if is_suppressed is wanted)
                    await connection.execute(statement, (recipients,))

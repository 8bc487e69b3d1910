"""The ledger's database on PostgreSQL, as one of its owners sees it: one connection, and groups in transactions on it.

A group takes two round trips, each one statement and a transaction of its own. The first reads: the database's clock,
whether this owner was written off, who of the recipients is suppressed, and the rows there are. The second writes all
or nothing: new rows by plain inserts, the others only if they still are what was read (compare-and-set on the
transaction that wrote them, `xmin`), and permissions to call only if everything they rest on still holds (`_GATE`).
So the second is the whole gate in one transaction, and the first only prepares it. Where another came in between, the
group is asked again, from the start.

A row that was not there is not free for that: another worker may be inserting it at this moment. The insert decides. It
waits for the other's, and fails when that one commits; the group then finds the row.

Nothing is locked between the two: a worker that is stopped in between (SIGSTOP) is in nobody's way. Should two workers
write the same rows in different orders, the database sees the deadlock, and the one is asked again.

A lost connection fails its group, and so does a server that is silent (`postgres_silence.py`); the next group connects
anew, and goes on as the same owner. What a frozen server does late, once it goes on, is the claim that is asked again
under its token, or finds that the rows are no longer what was read.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection, errors

from pabal.errors import ConfigError, LedgerUnavailable, OwnerEnded
from pabal.ledger.postgres.rows import (
    ALL_SUPPRESSED,
    BLOCKS,
    KNOWN,
    PRUNE,
    READ,
    SCHEMA,
    SCHEMA_VERSION,
    SUPPRESS,
    UNSUPPRESS,
    id_array,
    to_row,
    write,
)
from pabal.ledger.protocol import Row
from pabal.ledger.steps import Ask, Failure, Transaction, ids_of, recipients_of, run
from pabal.postgres_silence import ImpatientAsyncConnection

logger = logging.getLogger(__name__)

_TRIES = 8
"""How often a group is asked again that another came before. Each time it finds a row or a suppression more."""

_PRUNE_BLOCKS = 128
"""Of 8 KiB each: a megabyte, some 3,000 rows, a few milliseconds."""

_OPENING_LOCK: Final = 0x70616261
"""Who makes the tables or becomes an owner holds this advisory lock ("paba")."""

_SESSION = """
SET search_path = pabal_ledger;
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET idle_in_transaction_session_timeout = '5s';
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off;
SET plan_cache_mode = force_generic_plan;
SELECT set_config('synchronous_commit', 'on', false)
  WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
"""
"""A worker that was stopped (SIGSTOP) in a transaction must not hold its locks for long. Every statement knows the ids
it wants: plans made while the table was empty must not turn into scans when it has grown (a forbidden scan's cost also
makes the server compile its query, for a fifth of a second, where it has no other way). One plan fits all executions:
to make it anew costs more than to execute it. A commit that the disk does not know yet would permit a call twice."""

_RETRIED = (errors.UniqueViolation, errors.DivisionByZero, errors.DeadlockDetected, errors.SerializationFailure)


class LedgerDatabase:
    """See the module. A `Database` of `ledger/groups.py`; make one with `open`."""

    ledger_id: UUID
    owner: int

    def __init__(self, url: str, *, worker: str, patience_seconds: float) -> None:
        self._url = url
        self._patience_seconds = patience_seconds
        self._worker = worker
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None
        self._busy = asyncio.Lock()
        self._is_closed = False

    async def open(self) -> None:
        """Connect, make the tables if there are none, and become an owner. Raises LedgerUnavailable, ConfigError."""
        try:
            connection = self._connection = await self._connect()
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_OPENING_LOCK,))
                self.ledger_id = await self._prepare(connection, may_make=True)
                self.owner = await self._register(connection)
        except (psycopg.Error, OSError) as error:
            await self._disconnect()
            raise LedgerUnavailable(f"cannot open the ledger at {self._place()}: {_first_line(error)}") from error
        except BaseException:
            await self._disconnect()
            raise

    def transact(self, asks: Sequence[Ask]) -> asyncio.Future[list[Any]]:
        """See `Database.transact`."""
        return asyncio.ensure_future(self._insist(asks))

    async def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        """See `Database.prune`; the place is the number of blocks looked at."""
        async with self._busy:
            try:
                connection = await self._connected()
                async with connection.transaction():
                    [(blocks,)] = await (await connection.execute(BLOCKS)).fetchall()
                    upto = after + _PRUNE_BLOCKS
                    pruned = await connection.execute(PRUNE, (f"({after},0)", f"({upto},0)", before))
            except BaseException as error:
                await self._give_up(error)
                raise
        return pruned.rowcount, upto if upto < blocks else None

    async def suppressed(self) -> Collection[bytes]:
        """See `Database.suppressed`."""
        async with self._busy:
            try:
                connection = await self._connected()
                async with connection.transaction():
                    found = await (await connection.execute(ALL_SUPPRESSED)).fetchall()
            except BaseException as error:
                await self._give_up(error)
                raise
        return [recipient for (recipient,) in found]

    async def known(self, keys: Collection[bytes]) -> Collection[bytes]:
        """See `Database.known`."""
        async with self._busy:
            try:
                connection = await self._connected()
                async with connection.transaction():
                    found = await (await connection.execute(KNOWN, ([UUID(bytes=key) for key in keys],))).fetchall()
            except BaseException as error:
                await self._give_up(error)
                raise
        return [key.bytes for (key,) in found]

    async def close(self) -> None:
        """See `Database.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        async with self._busy:
            try:
                connection = await self._connected()
                statement = "UPDATE owners SET ended = 'closed' WHERE owner = %s AND ended IS NULL"
                await connection.execute(statement, (self.owner,))
            except (psycopg.Error, OSError, LedgerUnavailable, OwnerEnded) as error:
                logger.warning("could not end this worker's leases, they will by themselves: %s", error)
            finally:
                await self._disconnect()

    async def _insist(self, asks: Sequence[Ask]) -> list[Any]:
        for _ in range(_TRIES):
            async with self._busy:
                try:
                    return await self._transact(await self._connected(), asks)
                except _RETRIED as error:
                    logger.debug("asking again: %s", error)
                    await self._give_up(error)
                except BaseException as error:
                    await self._give_up(error)
                    raise
        raise LedgerUnavailable(f"the ledger did not take it: another's rows were in the way {_TRIES} times")

    async def _transact(
        self, connection: AsyncConnection[tuple[Any, ...]], asks: Sequence[Ask]
    ) -> "list[Any | Failure]":
        transaction, versions = await self._read(connection, asks)
        answers = run(asks, transaction)
        await self._write(connection, transaction, versions=versions)
        return answers

    async def _read(
        self, connection: AsyncConnection[tuple[Any, ...]], asks: Sequence[Ask]
    ) -> tuple[Transaction, Mapping[bytes, str]]:
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
        transaction = Transaction(
            rows,
            now_seconds=now_seconds,
            ended=ended or None,
            suppressed=set(suppressed),
            is_alive=lambda owner: alive.get(owner, True),
        )
        return transaction, versions

    async def _write(
        self,
        connection: AsyncConnection[tuple[Any, ...]],
        transaction: Transaction,
        *,
        versions: Mapping[bytes, str],
    ) -> None:
        """Store what changed, durably, all or nothing."""
        written = transaction.rows_to_write
        suppressions = transaction.suppressions_to_write
        async with contextlib.AsyncExitStack() as together:
            if suppressions:
                await together.enter_async_context(connection.transaction())
            # The rows first: they say whom others have suppressed, not whom this group's later steps have.
            if written or transaction.ids_to_settle:
                statement, values = write(
                    [columns for key, columns in written.items() if key not in versions],
                    [columns for key, columns in written.items() if key in versions],
                    transaction.ids_to_settle,
                    versions=versions,
                    owner=self.owner,
                    permitted=transaction.recipients_permitted,
                )
                await connection.execute(statement, values, prepare=True)
            if suppressions:
                for statement, wanted in ((SUPPRESS, True), (UNSUPPRESS, False)):
                    recipients = sorted(each for each, is_suppressed in suppressions.items() if is_suppressed is wanted)
                    await connection.execute(statement, (recipients,))

    async def _connected(self) -> AsyncConnection[tuple[Any, ...]]:
        """The connection, made anew if it was lost; always to the ledger that was opened."""
        if self._connection is not None and not self._connection.closed:
            return self._connection
        connection = await self._connect()
        try:
            ledger_id = await self._prepare(connection, may_make=False)
        except BaseException:
            await connection.close()
            raise
        if ledger_id != self.ledger_id:
            await connection.close()
            raise OwnerEnded(
                f"{self._place()} holds another ledger than when this worker started: {ledger_id}, not {self.ledger_id}"
            )
        logger.info("connected to the ledger again")
        self._connection = connection
        return connection

    async def _connect(self) -> AsyncConnection[tuple[Any, ...]]:
        connection = await ImpatientAsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=5,
            # A host that vanished is noticed while nothing is asked of it, too.
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
            tcp_user_timeout=8000,
            fallback_application_name=f"pabal worker {self._worker}",
        )
        try:
            await connection.execute(_SESSION)
            milliseconds = str(round(self._patience_seconds * 1000))
            await connection.execute("SELECT set_config('lock_timeout', %s, false)", (milliseconds,))
        except BaseException:
            await connection.close()
            raise
        return connection

    async def _prepare(self, connection: AsyncConnection[tuple[Any, ...]], *, may_make: bool) -> UUID:
        """The ledger's id. Where there is no ledger, one is made, but not in the place of one that this worker knew."""
        [(table,)] = await (await connection.execute("SELECT to_regclass('pabal_ledger.ledger')::text")).fetchall()
        if table is None:
            if not may_make:
                raise OwnerEnded(f"the ledger at {self._place()} is gone")
            await connection.execute(SCHEMA)
            made = "INSERT INTO pabal_ledger.ledger VALUES (gen_random_uuid(), %s)"
            await connection.execute(made, (SCHEMA_VERSION,))
        found = await connection.execute("SELECT id, version FROM pabal_ledger.ledger")
        [(ledger_id, version)] = await found.fetchall()
        if version != SCHEMA_VERSION:
            raise ConfigError(f"the ledger at {self._place()} has version {version}; this Pabal reads {SCHEMA_VERSION}")
        assert isinstance(ledger_id, UUID)
        return ledger_id

    async def _register(self, connection: AsyncConnection[tuple[Any, ...]]) -> int:
        found = await connection.execute(
            "INSERT INTO owners (worker, host, pid, opened_at) VALUES (%s, %s, %s, clock_timestamp()) RETURNING owner",
            (self._worker, socket.gethostname(), os.getpid()),
        )
        [(owner,)] = await found.fetchall()
        await connection.execute(
            "UPDATE owners SET ended = %s WHERE worker = %s AND owner <> %s AND ended IS NULL",
            (f"owner {owner} has its name", self._worker, owner),
        )
        assert isinstance(owner, int)
        return owner

    async def _give_up(self, error: BaseException) -> None:
        """End the transaction; where that cannot be done, the connection."""
        connection = self._connection
        if connection is None or connection.closed:
            return
        if isinstance(error, psycopg.Error) and not isinstance(error, psycopg.InterfaceError):
            try:
                await connection.rollback()
            except (psycopg.Error, OSError) as lost:
                logger.debug("the connection was lost: %s", lost)
            else:
                return
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _place(self) -> str:
        """The URL without a password."""
        words = psycopg.conninfo.conninfo_to_dict(self._url)
        return f"{words.get('host') or 'localhost'}/{words.get('dbname') or ''}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]

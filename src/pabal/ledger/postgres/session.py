"""The one connection of a ledger on PostgreSQL: how it is made, lost and made anew, always as the same owner."""

import logging
import os
import socket
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from pabal.errors import ConfigError, LedgerUnavailable, OwnerEnded
from pabal.ledger.postgres.rows import SCHEMA, SCHEMA_VERSION
from pabal.postgres_silence import ImpatientAsyncConnection

logger = logging.getLogger(__name__)

_OPENING_LOCK: Final = 0x70616261
"""A process that makes the tables, or becomes an owner, holds this advisory lock ("paba")."""

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


class LedgerSession:
    """One connection at a time. `ledger_id` and `owner` are known once it is open."""

    ledger_id: UUID
    owner: int

    def __init__(self, url: str, *, worker: str, patience_seconds: float) -> None:
        self._url = url
        self._worker = worker
        self._patience_seconds = patience_seconds
        self._connection: AsyncConnection[tuple[Any, ...]] | None = None

    async def open(self) -> None:
        """Connect, make the tables if there are none, and become an owner. Raises LedgerUnavailable, ConfigError."""
        try:
            connection = self._connection = await self._connect()
            async with connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_OPENING_LOCK,))
                self.ledger_id = await self._prepare(connection, may_make=True)
                self.owner = await self._register(connection)
        except (psycopg.Error, OSError) as error:
            await self.disconnect()
            raise LedgerUnavailable(f"cannot open the ledger at {self._place()}: {_first_line(error)}") from error
        except BaseException:
            await self.disconnect()
            raise

    async def connected(self) -> AsyncConnection[tuple[Any, ...]]:
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

    async def give_up(self, error: BaseException) -> None:
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
        await self.disconnect()

    async def disconnect(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

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

    def _place(self) -> str:
        """The URL without a password."""
        words = psycopg.conninfo.conninfo_to_dict(self._url)
        return f"{words.get('host') or 'localhost'}/{words.get('dbname') or ''}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]

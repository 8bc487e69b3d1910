"""The ledger in one SQLite file, for all workers of one host.

One group of calls after another (`ledger/groups.py`) runs in one transaction each, which is durable when it is
answered (WAL, `synchronous=FULL`). Statements touch many rows at once.

A statement that fails (the disk is full, another process holds the file for too long) fails its whole group.

docs/ledger.md tells how to read the file with the sqlite3 shell.
"""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from pabal.clock import Clock
from pabal.database_thread import DatabaseThread
from pabal.errors import LedgerUnavailable
from pabal.ledger.grouped_ledger import GroupedLedger
from pabal.ledger.sqlite.file import LedgerFile
from pabal.ledger.steps import Ask

T = TypeVar("T")

PATIENCE_SECONDS = 3.0
"""How long a transaction waits for a file that another process is writing to."""


class SqliteLedger(GroupedLedger):
    """See the module, and `pabal.ledger.port.Ledger`. Make one with `open`."""

    @classmethod
    async def open(cls, path: Path, *, clock: Clock, worker: str, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """Open or make the file, as a new owner; a former owner of the same `worker` name has ended by that.

        A call waits up to `patience_seconds` for other processes that write to the file.

        Raises:
            LedgerUnavailable: the file cannot be opened or written.
            ConfigError: it was made by another version, is no ledger, or lies where SQLite cannot share it.
        """
        thread = DatabaseThread("pabal-ledger")
        try:
            file = await thread.submit(
                functools.partial(LedgerFile, path, clock=clock, worker=worker, patience_seconds=patience_seconds)
            )
        except BaseException as error:
            await thread.stop(lambda: None)
            if isinstance(error, sqlite3.Error | OSError):
                raise LedgerUnavailable(f"cannot open the ledger {path}: {error}") from error
            raise
        return cls(_FileInThread(thread, file))


class _FileInThread:
    """The file as a `LedgerDatabase`: what waits for the disk, or for other processes, runs in the thread.

    What comes before a commit is done at once, in the loop. It takes a millisecond or two for a group of a hundred, and
    in the thread it costs half as much again, because the two threads wrest the interpreter from each other.
    """

    def __init__(self, thread: DatabaseThread, file: LedgerFile) -> None:
        self.ledger_id = file.ledger_id
        self.owner = file.owner
        self._thread = thread
        self._file = file
        self._upkeep: set[asyncio.Future[Any]] = set()

    def transact(self, asks: Sequence[Ask]) -> asyncio.Future[list[Any]]:
        try:
            answers = None if self._upkeep else self._file.begin_at_once(asks)
        except Exception as error:
            failed: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            return failed
        if answers is None:
            return self._thread.submit(functools.partial(self._file.transact, asks))
        return self._thread.submit(functools.partial(self._file.commit, answers))

    def prune(self, *, after: int, before: float) -> asyncio.Future[tuple[int, int | None]]:
        return self._keep_up(functools.partial(self._file.prune, after=after, before=before))

    def suppressed(self) -> asyncio.Future[Collection[bytes]]:
        return self._keep_up(self._file.suppressed)

    def known(self, keys: Collection[bytes]) -> asyncio.Future[Collection[bytes]]:
        return self._keep_up(functools.partial(self._file.known, keys))

    def _keep_up(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Beside it nothing may be done in the loop."""
        done = self._thread.submit(work)
        self._upkeep.add(done)
        done.add_done_callback(self._upkeep.discard)
        return asyncio.shield(done)  # the thread goes on when its caller stops waiting

    async def close(self) -> None:
        await self._thread.stop(self._close_file)

    def _close_file(self) -> None:
        try:
            self._file.close()
        except (sqlite3.Error, OSError):
            # The disk is full, or the file is held: then others find out by its lock that this owner is gone.
            return

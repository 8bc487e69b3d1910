"""One process's hold on an embedded log: two threads, what it knows, the doorbell, and the keeper.

The *writer* thread makes the transactions, the *reading* thread runs the queries; each has its connection, and a
query never waits for a transaction (WAL). The *keeper* (`keeper.py`) is one background task.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine
from functools import partial
from typing import TypeVar

from pabal.broker.port import TopicPartition
from pabal.broker.sqlite import groups
from pabal.broker.sqlite.cleaning import clean
from pabal.broker.sqlite.doorbell import Doorbell
from pabal.broker.sqlite.keeper import STILL_SECONDS, Keeper
from pabal.broker.sqlite.storage import Catalogue, Changes, Operation, Storage
from pabal.broker.sqlite.view import View
from pabal.broker.sqlite.writer import Writer
from pabal.clock import Clock
from pabal.database_thread import DatabaseThread
from pabal.errors import LogError, UnknownTopic

_CLOSE_SECONDS = 5.0
"""How long `close` waits for a disk that does not answer."""

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class OpenLog:
    """What the clients of one `SqliteBroker` share. Lives in the event loop it was made in."""

    def __init__(self, storage: Storage, *, clock: Clock, session_seconds: float) -> None:
        """Take over `storage` (prepared) for writing and open another connection for reading."""
        self.clock = clock
        self.path = storage.path
        self.session_seconds = session_seconds
        self._reading = Storage(storage.path, clock=clock)
        self._reads = DatabaseThread("pabal-log-reader")
        self.view = View(self._reading.catalogue())
        self.writer = Writer(storage, changed=self._note)
        self.doorbell = Doorbell(storage.path, heard=self._look, found_dead=self._evict)
        self._is_looking = False
        self._must_look_again = False
        self._background: set[asyncio.Future[None]] = set()
        self.keeper = Keeper(self, self.doorbell, clock=clock, session_seconds=session_seconds, look=self._look)
        # Other processes learn of this one, and this one learns which processes have died.
        self.doorbell.ring()

    def read(self, query: Callable[[Storage], T]) -> Awaitable[T]:
        """Run a query on the reading connection."""
        return self._reads.submit(partial(query, self._reading))

    def write(self, operation: Operation[T]) -> Awaitable[T]:
        """Run an operation in a write transaction."""
        return self.writer.run(operation)

    async def learn_catalogue(self) -> Catalogue:
        """Look what topics and partitions there are now."""
        catalogue = await self.read(Storage.catalogue)
        self.view.learn(catalogue)
        return catalogue

    async def find(self, partition: TopicPartition) -> int:
        """The id of a partition, also if another process made it a moment ago. Raises UnknownTopic."""
        try:
            return self.view.identifier(partition)
        except UnknownTopic:
            await self.learn_catalogue()
            return self.view.identifier(partition)

    async def clean(self, *, is_due_only: bool) -> None:
        """Apply retention and compaction."""
        await clean(self, clock=self.clock, is_due_only=is_due_only)

    def ailments(self) -> list[str]:
        """See `Broker.ailments`."""
        found = [] if (writer := self.writer.ailment()) is None else [writer]
        if not self._reads.is_alive():
            found.append("the embedded log's reading thread has died")
        if self.keeper.task.done():
            found.append("the embedded log's keeper has ended: nobody renews the leases of this process")
        # A role that insists on an append does not poll meanwhile. That is the log's fault, or was a moment ago.
        if not self._reads.is_working and self.writer.well_for_seconds > STILL_SECONDS:
            found += [f"nobody polls for the group {group}" for group in self.keeper.unpolled_groups()]
        return found

    async def close(self) -> None:
        """Stop the keeper, end what is under way, close the file."""
        self.keeper.task.cancel()
        await asyncio.wait([self.keeper.task, *self._background], timeout=_CLOSE_SECONDS)
        for stop in (self.writer.close(), self._reads.stop(self._reading.close)):
            try:
                await asyncio.wait_for(stop, _CLOSE_SECONDS)
            except TimeoutError:
                _logger.warning("the disk of %s does not answer; it is left open", self._reading.path)
        self.doorbell.close()

    def _note(self, changes: Changes) -> None:
        """Something was committed here."""
        self.view.note(changes)
        if any(changes):
            self.doorbell.ring()

    def _look(self) -> None:
        """Something was committed elsewhere; look what, one look at a time."""
        if self._is_looking:
            self._must_look_again = True
            return
        self._is_looking = True
        self._spawn(self._look_until_fresh())

    async def _look_until_fresh(self) -> None:
        try:
            self._must_look_again = True
            while self._must_look_again:
                self._must_look_again = False
                pulse = await self.read(Storage.pulse)
                if len(pulse.watermarks) > len(self.view.partitions):
                    await self.learn_catalogue()
                self.view.feel(pulse)
        except LogError as error:
            _logger.warning("cannot see what other processes wrote: %s", error)
        finally:
            self._is_looking = False

    def _evict(self, processes: Collection[str]) -> None:
        for process in processes:
            self._spawn(self._evict_process(process))

    async def _evict_process(self, process: str) -> None:
        try:
            await self.write(partial(groups.evict_process, process=process))
        except LogError as error:
            _logger.warning("the members of a dead process stay until their leases end: %s", error)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

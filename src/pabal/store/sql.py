"""The store in SQLite or PostgreSQL: one set of statements (SQLAlchemy Core), one thread, one connection.

SQLAlchemy is synchronous here and works in a thread of its own (`pabal.database_thread`). The database, and SQLAlchemy
itself, are opened by the first call; a process that is never asked pays for neither. Readers and
writers do not wait for each other.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

from pabal.clock import Clock
from pabal.database_thread import DatabaseThread
from pabal.errors import ConfigError, StoreRefused, StoreUnavailable
from pabal.extras import require_extra
from pabal.notification import Receipt
from pabal.places import is_postgres
from pabal.store.port import DeliveryFilter, DeliveryPage, DeliveryView, RecordPlace, Reprocessed, SetAside, StoredFact
from pabal.store.projection import UNACCOUNTED_GRACE_SECONDS, Gathered, gather

if TYPE_CHECKING:
    from pabal.store.connected import ConnectedStore

logger = logging.getLogger(__name__)

T = TypeVar("T")

ANSWER_WITHIN_SECONDS: Final = 10.0
"""How long a look-up or a fold waits for the database, and for what was asked of it before."""

PRUNE_STEP: Final = 500
"""Deliveries forgotten in one transaction: some ten milliseconds in which no other process writes."""


class SqlStore:
    """See the module, and `pabal.store.port.Store`."""

    def __init__(self, url: str, *, clock: Clock) -> None:
        """`url`: `sqlite:PATH` or `postgresql://…`. Raises ConfigError when it is neither, and without the extra."""
        if not url.startswith(("sqlite:", "postgresql:")) or url == "sqlite:":
            raise ConfigError(f"{url.partition(':')[0]!r} is not a store; write sqlite:PATH or postgresql://HOST/NAME")
        if is_postgres(url):
            require_extra("postgres", wanted_by="a store in PostgreSQL")
        self._url = url
        self._clock = clock
        self._thread: DatabaseThread | None = None
        self._connected: ConnectedStore | None = None
        self._is_closed = False

    async def fold(self, facts: Sequence[StoredFact]) -> None:
        """See `Store.fold`."""
        if facts:
            await self._ask(lambda store: store.fold(_gathered(facts)))

    async def reported(self, facts: Sequence[StoredFact]) -> Sequence[tuple[Receipt, DeliveryView]]:
        """See `Store.reported`."""
        cutoff = self._cutoff()
        return await self._ask(lambda store: store.reported(facts, cutoff=cutoff))

    async def notification(self, notification: UUID, *, tenant: str) -> Sequence[DeliveryView]:
        """See `Store.notification`."""
        cutoff = self._cutoff()
        return await self._ask(lambda store: store.notification(notification, tenant=tenant, cutoff=cutoff))

    async def delivery(self, delivery: UUID, *, tenant: str) -> DeliveryView | None:
        """See `Store.delivery`."""
        cutoff = self._cutoff()
        return await self._ask(lambda store: store.delivery(delivery, tenant=tenant, cutoff=cutoff))

    async def deliveries(
        self, wanted: DeliveryFilter, *, tenant: str, limit: int, cursor: str | None = None
    ) -> DeliveryPage:
        """See `Store.deliveries`."""
        cutoff = self._cutoff()
        return await self._ask(
            lambda store: store.deliveries(wanted, tenant=tenant, limit=limit, cursor=cursor, cutoff=cutoff)
        )

    async def set_aside(self, records: Sequence[SetAside]) -> None:
        """See `Store.set_aside`."""
        if records:
            await self._ask(lambda store: store.set_aside(records))

    async def take_up(self, places: Sequence[RecordPlace]) -> int:
        """See `Store.take_up`."""
        return await self._ask(lambda store: store.take_up(places)) if places else 0

    async def aside(self, *, limit: int) -> Sequence[SetAside]:
        """See `Store.aside`."""
        return await self._ask(lambda store: store.aside(limit=limit))

    async def unaccounted(self, *, now: datetime, limit: int) -> Sequence[DeliveryView]:
        """See `Store.unaccounted`."""
        cutoff = now.timestamp() - UNACCOUNTED_GRACE_SECONDS
        return await self._run(lambda store: store.unaccounted(limit=limit, cutoff=cutoff))

    async def dead_letters_open(self) -> Mapping[str, int]:
        """See `Store.dead_letters_open`."""
        return await self._run(lambda store: store.dead_letters_open())

    async def reprocessed(self, *, since: datetime, until: datetime) -> Sequence[Reprocessed]:
        """See `ReprocessingSource.reprocessed`."""
        return await self._run(lambda store: store.reprocessed(since=since, until=until))

    async def prune(self, *, before: datetime) -> int:
        """See `Store.prune`."""
        pruned = 0
        while True:
            count = await self._run(lambda store: store.prune(before=before.timestamp(), limit=PRUNE_STEP))
            pruned += count
            if count < PRUNE_STEP:
                return pruned
            await asyncio.sleep(0)  # other calls have their turn in between

    async def migrate(self) -> str | None:
        """Bring the tables to this version; returns the one they were at. Raises StoreUnavailable."""
        return await self._run(lambda store: store.migrate())

    async def close(self) -> None:
        """See `Store.close`."""
        self._is_closed = True
        if self._thread is not None:
            try:
                async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                    await self._thread.stop(self._disconnect)
            except TimeoutError:
                logger.warning(
                    "the store gave no answer for %.0f s; its connection is left as it is", ANSWER_WITHIN_SECONDS
                )

    async def _ask(self, work: "Callable[[ConnectedStore], T]") -> T:
        """Work that a caller waits for, and would ask for again. It may be done after the caller gave up."""
        is_awaited = True

        def if_awaited(store: "ConnectedStore") -> T:
            # A database that comes back need not do the work of callers that have left meanwhile.
            if not is_awaited:
                raise StoreUnavailable("nobody waits for it any more")
            return work(store)

        try:
            async with asyncio.timeout(ANSWER_WITHIN_SECONDS):
                return await self._run(if_awaited)
        except TimeoutError as error:
            raise StoreUnavailable(f"the store gave no answer for {ANSWER_WITHIN_SECONDS:.0f} s") from error
        finally:
            is_awaited = False

    async def _run(self, work: "Callable[[ConnectedStore], T]") -> T:
        if self._is_closed:
            raise StoreUnavailable("the store was closed")
        if self._thread is None:
            self._thread = DatabaseThread("pabal-store")
        return await self._thread.submit(lambda: work(self._connect()))

    def _connect(self) -> "ConnectedStore":
        if self._connected is None:
            try:
                from pabal.store.connected import ConnectedStore
            except OSError as error:
                # Its files cannot be read now (no free descriptor); the next call tries again.
                raise StoreUnavailable(f"the store cannot be opened: {error}") from error

            self._connected = ConnectedStore(self._url)
        return self._connected

    def _disconnect(self) -> None:
        if self._connected is not None:
            self._connected.close()

    def _cutoff(self) -> float:
        return self._clock.now().timestamp() - UNACCOUNTED_GRACE_SECONDS


def _gathered(facts: Sequence[StoredFact]) -> Gathered:
    """Merging is pure: where it fails, one of the facts is at fault. Raises StoreRefused."""
    try:
        return gather(facts)
    except MemoryError:
        raise
    except Exception as error:
        raise StoreRefused(f"it cannot be folded: {type(error).__name__}: {error}") from error


def store_url(url: str | None, *, data: Path) -> str:
    """The store's URL by the settings; by default a file in the data folder."""
    return url or f"sqlite:{data / 'store.db'}"

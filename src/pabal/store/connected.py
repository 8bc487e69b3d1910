"""The store as its thread sees it: every call a transaction. The only module that `sql.py` loads SQLAlchemy by."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from pabal.errors import StoreUnavailable
from pabal.notification import Receipt
from pabal.store import queries, reprocessing
from pabal.store.aside import aside, set_aside, take_up
from pabal.store.database import Database
from pabal.store.port import DeliveryFilter, DeliveryPage, DeliveryView, RecordPlace, Reprocessed, SetAside, StoredFact
from pabal.store.projection import Gathered
from pabal.store.writing import Statements, write


class ConnectedStore:
    """See the module. Every call raises StoreUnavailable; `cutoff` is `projection.is_unaccounted`'s."""

    def __init__(self, url: str) -> None:
        self._database = Database(_sqlalchemy_url(url))
        self._statements = Statements(self._database.dialect)

    def fold(self, gathered: Gathered) -> None:
        """See `Store.fold`."""
        self._database.write(lambda connection: write(connection, self._statements, gathered))

    def reported(self, facts: Sequence[StoredFact], *, cutoff: float) -> list[tuple[Receipt, DeliveryView]]:
        """See `Store.reported`."""
        return self._database.read(lambda connection: queries.reported(connection, facts, cutoff=cutoff))

    def notification(self, notification: UUID, *, tenant: str, cutoff: float) -> list[DeliveryView]:
        """See `Store.notification`."""
        return self._database.read(
            lambda connection: queries.notification(connection, notification, tenant=tenant, cutoff=cutoff)
        )

    def delivery(self, delivery: UUID, *, tenant: str, cutoff: float) -> DeliveryView | None:
        """See `Store.delivery`."""
        return self._database.read(
            lambda connection: queries.delivery(connection, delivery, tenant=tenant, cutoff=cutoff)
        )

    def deliveries(
        self, wanted: DeliveryFilter, *, tenant: str, limit: int, cursor: str | None, cutoff: float
    ) -> DeliveryPage:
        """See `Store.deliveries`."""
        return self._database.read(
            lambda connection: queries.deliveries(
                connection, wanted, tenant=tenant, limit=limit, cursor=cursor, cutoff=cutoff
            )
        )

    def set_aside(self, records: Sequence[SetAside]) -> None:
        """See `Store.set_aside`."""
        self._database.write(lambda connection: set_aside(connection, records))

    def take_up(self, places: Sequence[RecordPlace]) -> int:
        """See `Store.take_up`."""
        return self._database.write(lambda connection: take_up(connection, places))

    def aside(self, *, limit: int) -> Sequence[SetAside]:
        """See `Store.aside`."""
        return self._database.read(lambda connection: aside(connection, limit=limit))

    def unaccounted(self, *, limit: int, cutoff: float) -> list[DeliveryView]:
        """See `Store.unaccounted`."""
        return self._database.read(lambda connection: queries.unaccounted(connection, limit=limit, cutoff=cutoff))

    def dead_letters_open(self) -> dict[str, int]:
        """See `Store.dead_letters_open`."""
        return self._database.read(queries.dead_letters_open)

    def reprocessed(self, *, since: datetime, until: datetime) -> list[Reprocessed]:
        """See `ReprocessingSource.reprocessed`."""
        return self._database.read(lambda connection: reprocessing.reprocessed(connection, since=since, until=until))

    def prune(self, *, before: float, limit: int) -> int:
        """Forget up to `limit` deliveries; how many it were."""
        return self._database.write(lambda connection: queries.prune(connection, before=before, limit=limit))

    def migrate(self) -> str | None:
        """See `SqlStore.migrate`."""
        return self._database.migrate()

    def close(self) -> None:
        """Let go."""
        self._database.close()


def _sqlalchemy_url(url: str) -> URL:
    if url.startswith("sqlite:"):
        return URL.create("sqlite", database=url.removeprefix("sqlite:"))
    try:
        return make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):
        # Not the error's own words: they may hold a password.
        raise StoreUnavailable("the store's URL cannot be read; write postgresql://USER:PASSWORD@HOST/NAME") from None

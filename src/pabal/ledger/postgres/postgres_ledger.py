"""The ledger in a PostgreSQL database, for workers on any number of hosts.

Calls gather into groups (`ledger/groups.py`), each stored in one transaction over one connection
(`ledger/postgres/database.py`), durable when it is answered (`synchronous_commit=on`). Leases are counted on the
database's clock alone, so the workers' clocks may say what they like; a lease ends by its time, or when a worker
of the same name starts. Statements touch many rows at once.

docs/ledger.md tells how to create the database, what to look at in psql, and what a failover may cost.
"""

from typing import Self

from pabal.ledger.grouped_ledger import GroupedLedger
from pabal.ledger.postgres.database import PostgresLedgerDatabase

PATIENCE_SECONDS = 3.0
"""How long a transaction waits for rows that another holds: a worker that was stopped, a person's open transaction."""


class PostgresLedger(GroupedLedger):
    """See the module, and `pabal.ledger.port.Ledger`. Make one with `open`."""

    @classmethod
    async def open(cls, url: str, *, worker: str, patience_seconds: float = PATIENCE_SECONDS) -> Self:
        """Open the ledger of a database (`postgresql://…`), as a new owner; its tables are made if there are none.

        A former owner of the same `worker` name has ended by that. A call waits up to `patience_seconds` for rows that
        others hold.

        Raises:
            LedgerUnavailable: the database does not answer, or does not let us.
            ConfigError: the ledger was made by another version.
        """
        database = PostgresLedgerDatabase(url, worker=worker, patience_seconds=patience_seconds)
        await database.open()
        return cls(database)

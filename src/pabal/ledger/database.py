"""The database below a ledger: what the two of them must do, for groups of calls."""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from typing import Any, Protocol
from uuid import UUID

from pabal.ledger.steps import Ask


class LedgerDatabase(Protocol):
    """Where a ledger's rows are. Used by one event loop; raises whatever its client library does."""

    ledger_id: UUID
    owner: int

    def transact(self, asks: Sequence[Ask]) -> asyncio.Future[list[Any]]:
        """Do what is asked (at most MOST_ROWS), in order, in one durable transaction; the answers.

        A step that raises changed nothing, and its answer is a `Failure`. Never called while another is under way.
        """
        ...

    def prune(self, *, after: int, before: float) -> Awaitable[tuple[int, int | None]]:
        """One small step through the rows, from a place `after`, 0 at first: forget those that need not be kept at an
        instant `before` (seconds since the epoch). How many, and the place reached (None: that was all)."""
        ...

    def suppressed(self) -> Awaitable[Collection[bytes]]:
        """Every suppressed recipient."""
        ...

    def known(self, keys: Collection[bytes]) -> Awaitable[Collection[bytes]]:
        """Which of these ids have a row."""
        ...

    async def close(self) -> None:
        """End this owner's leases and let go; idempotent."""
        ...

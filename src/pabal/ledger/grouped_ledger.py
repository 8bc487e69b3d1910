"""A ledger on a database: each call of the port becomes a step, and steps gather into groups (`groups.py`)."""

from collections.abc import Awaitable, Collection
from datetime import datetime
from uuid import UUID

from pabal.channels.suppression import suppression_key
from pabal.ledger.database import LedgerDatabase
from pabal.ledger.groups import Groups, unavailable
from pabal.ledger.protocol import CancelAnswer, Claim, ClaimAnswer, Finish, FinishAnswer
from pabal.ledger.steps import GroupRows
from pabal.notification import Suppression
from pabal.outcome import Outcome


class GroupedLedger:
    """A `pabal.ledger.port.Ledger` on a database."""

    def __init__(self, database: LedgerDatabase) -> None:
        self.id = database.ledger_id
        self.owner = database.owner
        self._database = database
        self._groups = Groups(database)
        self._ask = self._groups.ask
        self._tokens = 0

    def new_token(self) -> int:
        """See `Ledger.new_token`."""
        self._tokens += 1
        return self._tokens

    def claim(self, delivery: UUID, ask: Claim) -> Awaitable[ClaimAnswer]:
        """See `Ledger.claim`."""
        return self._ask(GroupRows.claim, delivery.bytes, ask)

    def finish(self, delivery: UUID, ask: Finish) -> Awaitable[FinishAnswer]:
        """See `Ledger.finish`."""
        return self._ask(GroupRows.finish, delivery.bytes, ask)

    def release(self, delivery: UUID, *, owner: int, token: int) -> Awaitable[None]:
        """See `Ledger.release`."""
        return self._ask(GroupRows.release, delivery.bytes, (owner, token))

    def settle(self, delivery: UUID, *, owner: int, token: int) -> None:
        """See `Ledger.settle`."""
        self._groups.note(GroupRows.settle, delivery.bytes, (owner, token))

    def cancel(self, delivery: UUID, *, prune_after: float) -> Awaitable[CancelAnswer]:
        """See `Ledger.cancel`."""
        return self._ask(GroupRows.cancel, delivery.bytes, prune_after)

    def acknowledge(self, delivery: UUID, outcome: Outcome) -> Awaitable[None]:
        """See `Ledger.acknowledge`."""
        return self._ask(GroupRows.acknowledge, delivery.bytes, outcome)

    def suppress(self, suppressions: Collection[Suppression]) -> Awaitable[None]:
        """See `Ledger.suppress`."""
        keys = [
            suppression_key(tenant=each.tenant, channel=each.channel, address=each.address) for each in suppressions
        ]
        return self._ask(GroupRows.suppress, b"", keys)

    def unsuppress(self, keys: Collection[bytes]) -> Awaitable[None]:
        """See `Ledger.unsuppress`."""
        return self._ask(GroupRows.unsuppress, b"", keys)

    async def suppressed(self) -> Collection[bytes]:
        """See `Ledger.suppressed`."""
        self._groups.refuse_if_closed()
        try:
            return await self._database.suppressed()
        except Exception as error:
            raise unavailable(error) from error

    async def known(self, deliveries: Collection[UUID]) -> Collection[UUID]:
        """See `Ledger.known`."""
        self._groups.refuse_if_closed()
        try:
            return [UUID(bytes=key) for key in await self._database.known([each.bytes for each in deliveries])]
        except Exception as error:
            raise unavailable(error) from error

    async def prune(self, *, now: datetime) -> int:
        """See `Ledger.prune`."""
        pruned = 0
        after: int | None = 0
        while after is not None:
            self._groups.refuse_if_closed()
            try:
                count, after = await self._database.prune(after=after, before=now.timestamp())
            except Exception as error:
                raise unavailable(error) from error
            pruned += count
        return pruned

    async def close(self) -> None:
        """See `Ledger.close`."""
        await self._groups.close()
        await self._database.close()

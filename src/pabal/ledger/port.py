"""The ledger permits calls: one row per delivery says which call may be made and what was decided.

The rules are the pure functions of `pabal.ledger.protocol`. A ledger runs them in a transaction, durably, for many
deliveries at once: calls made in the same moment share a transaction (micro-batches), and none is answered before its
own is durable. A call is made at once, whether or not it is awaited. `tests/ledger/laws/` states the laws.

Tasks. Any number of tasks of one event loop may call at once. Cancelling a call leaves it unknown whether it
happened; `finish` and `claim` are safe to repeat.
"""

from collections.abc import Awaitable, Collection
from datetime import datetime
from typing import Protocol
from uuid import UUID

from pabal.ledger.protocol import CancelAnswer, Claim, ClaimAnswer, Finish, FinishAnswer
from pabal.notification import Suppression
from pabal.outcome import Outcome


class Ledger(Protocol):
    """See the module."""

    id: UUID
    """Names the ledger itself: made with it, once."""

    owner: int
    """Names this process's claims; a new one at every start."""

    def new_token(self) -> int:
        """A number that no other claim of this owner has."""
        ...

    def claim(self, delivery: UUID, ask: Claim) -> Awaitable[ClaimAnswer]:
        """Ask to call. A `Call` answer is durable before it is given.

        Raises:
            LedgerUnavailable: nothing was claimed that we know of; repeat it.
            OwnerEnded: this owner was written off (another process took its name): it may claim nothing more.
        """
        ...

    def finish(self, delivery: UUID, ask: Finish) -> Awaitable[FinishAnswer]:
        """Store how a call ended. Raises LedgerUnavailable (unknown whether stored; repeat it)."""
        ...

    def release(self, delivery: UUID, *, owner: int, token: int) -> Awaitable[None]:
        """Give a claim back uncalled. Raises LedgerUnavailable."""
        ...

    def settle(self, delivery: UUID, *, owner: int, token: int) -> None:
        """Note that a verdict's records are in the log. Written with the next transaction, or within a second."""
        ...

    def cancel(self, delivery: UUID, *, prune_after: float) -> Awaitable[CancelAnswer]:
        """Take a delivery back; its row is made when there is none. Safe to repeat. Raises LedgerUnavailable."""
        ...

    def acknowledge(self, delivery: UUID, outcome: Outcome) -> Awaitable[None]:
        """The far side reports that it has the delivery: nothing is called again (`protocol.acknowledge`). Safe to
        repeat. Raises LedgerUnavailable."""
        ...

    def suppress(self, suppressions: Collection[Suppression]) -> Awaitable[None]:
        """Let the gate refuse these addresses from now on. Safe to repeat. Raises LedgerUnavailable."""
        ...

    def unsuppress(self, keys: Collection[bytes]) -> Awaitable[None]:
        """Let the gate take these again (`suppression_key`). Safe to repeat. Raises LedgerUnavailable."""
        ...

    async def suppressed(self) -> Collection[bytes]:
        """Every recipient that the gate refuses, by `suppression_key`. Raises LedgerUnavailable."""
        ...

    async def known(self, deliveries: Collection[UUID]) -> Collection[UUID]:
        """Which of these deliveries (at most 1,000) have a row: a worker claimed them, or they were taken back.

        Changes nothing. Raises LedgerUnavailable.
        """
        ...

    async def prune(self, *, now: datetime) -> int:
        """Forget rows whose `prune_after` has passed, in small steps; returns how many."""
        ...

    async def close(self) -> None:
        """Write what waits, end this owner's leases and let go; idempotent. Calls after it raise LedgerUnavailable."""
        ...

"""The ledger: one row per delivery that says which call is permitted and what was decided.

The rules are `pabal.protocol`'s pure functions; a ledger runs them in a transaction, durably, for many deliveries at
once: calls made in the same moment share a transaction (micro-batches), and none returns before its own is durable.
`pabal.testing.LedgerContract` states the laws.

Tasks. Any number of tasks of one event loop may call at once. Cancelling a call leaves it unknown whether it
happened; `finish` and `claim` are safe to repeat.
"""

from datetime import datetime
from typing import Protocol
from uuid import UUID

from pabal.protocol import Claim, ClaimAnswer, Finish, FinishAnswer


class Ledger(Protocol):
    """See the module."""

    owner: int
    """Names this process's claims; a new one at every start."""

    def new_token(self) -> int:
        """A number that no other claim of this owner has."""
        ...

    async def claim(self, delivery: UUID, ask: Claim) -> ClaimAnswer:
        """Ask to call. A `Call` answer is durable before it is given.

        Raises:
            LedgerUnavailable: nothing was claimed that we know of; repeat it.
            OwnerEnded: this owner was written off (another process took its name): it may claim nothing more.
        """
        ...

    async def finish(self, delivery: UUID, ask: Finish) -> FinishAnswer:
        """Store how a call ended. Raises LedgerUnavailable (unknown whether stored; repeat it)."""
        ...

    async def release(self, delivery: UUID, *, owner: int, token: int) -> None:
        """Give a claim back uncalled. Raises LedgerUnavailable."""
        ...

    def settle(self, delivery: UUID, *, owner: int, token: int) -> None:
        """Note that a verdict's records are in the log. Written with the next transaction, or within a second."""
        ...

    async def prune(self, *, now: datetime) -> int:
        """Forget rows whose `prune_after` has passed, in small steps; returns how many."""
        ...

    async def close(self) -> None:
        """Write what waits, end this owner's leases and let go; idempotent. Calls after it raise LedgerUnavailable."""
        ...

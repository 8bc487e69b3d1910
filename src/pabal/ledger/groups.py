"""Calls of one moment gather and are handed to the database as a group, which runs in one transaction.

A transaction costs about the same for twenty calls as for one: one read of all rows, the protocol's pure functions in
order, one write of those that changed, one durable commit. While a group commits, the next gathers.

A group that fails (the disk is full, the database is away) fails each of its calls with LedgerUnavailable, and the next
group tries anew.
"""

import asyncio
import functools
from collections.abc import Awaitable, Collection, Sequence
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from pabal.errors import LedgerUnavailable, PabalError
from pabal.ledger.protocol import CancelAnswer, Claim, ClaimAnswer, Finish, FinishAnswer
from pabal.ledger.steps import MOST_ROWS, Ask, Failure, Step, Transaction
from pabal.notification import Suppression, suppression_key
from pabal.outcome import Outcome

BUSY_GROUP = 8
GATHER_SECONDS = 0.004
"""After a group of more calls than `BUSY_GROUP` the next one gathers for this long. A transaction costs about the same
for 20 calls as for 100, so under load this takes a sixth off a delivery's CPU; a lone call never waits."""

SETTLE_WITHIN_SECONDS = 1.0
"""How long a settlement waits for a transaction to ride with. Lost in a crash, it costs a repeated append."""


class Database(Protocol):
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


class GroupedLedger:
    """A `pabal.ledger.port.Ledger` on a database."""

    def __init__(self, database: Database) -> None:
        self.id = database.ledger_id
        self.owner = database.owner
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._tokens = 0
        self._gathered: list[_Ask] = []
        self._running: asyncio.Future[list[Any]] | None = None
        self._is_scheduled = False
        self._last_size = 0
        self._settling: asyncio.TimerHandle | None = None
        self._is_closed = False

    def new_token(self) -> int:
        """See `Ledger.new_token`."""
        self._tokens += 1
        return self._tokens

    def claim(self, delivery: UUID, ask: Claim) -> Awaitable[ClaimAnswer]:
        """See `Ledger.claim`."""
        return self._ask(Transaction.claim, delivery.bytes, ask)

    def finish(self, delivery: UUID, ask: Finish) -> Awaitable[FinishAnswer]:
        """See `Ledger.finish`."""
        return self._ask(Transaction.finish, delivery.bytes, ask)

    def release(self, delivery: UUID, *, owner: int, token: int) -> Awaitable[None]:
        """See `Ledger.release`."""
        return self._ask(Transaction.release, delivery.bytes, (owner, token))

    def settle(self, delivery: UUID, *, owner: int, token: int) -> None:
        """See `Ledger.settle`."""
        self._refuse_if_closed()
        self._gathered.append(_Ask(Transaction.settle, delivery.bytes, (owner, token), None))
        self._settle_soon()

    def cancel(self, delivery: UUID, *, prune_after: float) -> Awaitable[CancelAnswer]:
        """See `Ledger.cancel`."""
        return self._ask(Transaction.cancel, delivery.bytes, prune_after)

    def acknowledge(self, delivery: UUID, outcome: Outcome) -> Awaitable[None]:
        """See `Ledger.acknowledge`."""
        return self._ask(Transaction.acknowledge, delivery.bytes, outcome)

    def suppress(self, suppressions: Collection[Suppression]) -> Awaitable[None]:
        """See `Ledger.suppress`."""
        keys = [
            suppression_key(tenant=each.tenant, channel=each.channel, address=each.address) for each in suppressions
        ]
        return self._ask(Transaction.suppress, b"", keys)

    def unsuppress(self, keys: Collection[bytes]) -> Awaitable[None]:
        """See `Ledger.unsuppress`."""
        return self._ask(Transaction.unsuppress, b"", keys)

    async def suppressed(self) -> Collection[bytes]:
        """See `Ledger.suppressed`."""
        self._refuse_if_closed()
        try:
            return await self._database.suppressed()
        except Exception as error:
            raise _unavailable(error) from error

    async def known(self, deliveries: Collection[UUID]) -> Collection[UUID]:
        """See `Ledger.known`."""
        self._refuse_if_closed()
        try:
            return [UUID(bytes=key) for key in await self._database.known([each.bytes for each in deliveries])]
        except Exception as error:
            raise _unavailable(error) from error

    async def prune(self, *, now: datetime) -> int:
        """See `Ledger.prune`."""
        pruned = 0
        after: int | None = 0
        while after is not None:
            self._refuse_if_closed()
            try:
                count, after = await self._database.prune(after=after, before=now.timestamp())
            except Exception as error:
                raise _unavailable(error) from error
            pruned += count
        return pruned

    async def close(self) -> None:
        """See `Ledger.close`."""
        self._is_closed = True
        while self._gathered or self._running is not None:
            self._run()
            if self._running is not None:
                await asyncio.wait([self._running])
        await self._database.close()

    def _ask(self, step: Step, key: bytes, argument: Any) -> asyncio.Future[Any]:
        self._refuse_if_closed()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._gathered.append(_Ask(step, key, argument, answer))
        self._run_soon()
        return answer

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise LedgerUnavailable("the ledger was closed")

    def _run_soon(self) -> None:
        """Run the group at the end of this round of the loop; under load a moment later, for more to ride along."""
        if not self._is_scheduled and self._running is None:
            self._is_scheduled = True
            if self._last_size > BUSY_GROUP:
                self._loop.call_later(GATHER_SECONDS, self._run)
            else:
                self._loop.call_soon(self._run)

    def _settle_soon(self) -> None:
        if self._settling is None:
            self._settling = self._loop.call_later(SETTLE_WITHIN_SECONDS, self._run)

    def _run(self) -> None:
        """Hand over what has gathered, unless a group is under way; then its end does."""
        self._is_scheduled = False
        if self._running is not None or not self._gathered:
            return
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        group, self._gathered = self._gathered[:MOST_ROWS], self._gathered[MOST_ROWS:]
        self._last_size = len(group)
        try:
            running = self._database.transact(group)
        except Exception as error:
            self._refuse(group, error)
            self._go_on()
            return
        self._running = running
        if running.done():
            self._answer(group, running)
        else:
            running.add_done_callback(functools.partial(self._answer, group))

    def _answer(self, group: "Sequence[_Ask]", done: "asyncio.Future[list[Any]]") -> None:
        self._running = None
        try:
            for ask, answer in zip(group, done.result(), strict=True):
                ask.tell(answer)
        except asyncio.CancelledError:
            # Nobody here cancels a group; the end of the event loop does.
            self._refuse(group, LedgerUnavailable("the ledger's transaction was cancelled"))
        except BaseException as error:
            self._refuse(group, error)
        self._go_on()

    def _go_on(self) -> None:
        if any(ask.answer is not None for ask in self._gathered):
            self._run_soon()
        elif self._gathered:
            self._settle_soon()

    def _refuse(self, group: "Sequence[_Ask]", error: BaseException) -> None:
        """Nothing of the group was stored, that we know of."""
        failure = Failure(_unavailable(error))
        for ask in group:
            ask.tell(failure)
        if not self._is_closed:
            # A settlement has nobody who would ask again.
            self._gathered[:0] = [ask for ask in group if ask.answer is None]


def _unavailable(error: BaseException) -> PabalError:
    if isinstance(error, PabalError):
        return error
    failure = LedgerUnavailable(f"the ledger did not take it: {error}")
    failure.__cause__ = error
    return failure


class _Ask(Ask):
    """One call, and who waits for its answer (None: nobody, so it is tried until it succeeds)."""

    __slots__ = ("answer",)

    def __init__(self, step: Step, key: bytes, argument: Any, answer: asyncio.Future[Any] | None) -> None:
        super().__init__(step, key, argument)
        self.answer = answer

    def tell(self, answer: Any) -> None:
        """Give the answer to who waits, if they still do."""
        if self.answer is None or self.answer.done():
            return
        if isinstance(answer, Failure):
            self.answer.set_exception(answer.error)
        else:
            self.answer.set_result(answer)

"""Calls of one moment gather and are handed to the database as a group, which runs in one transaction.

A transaction costs about the same for twenty calls as for one: one read of all rows, the protocol's pure functions in
order, one write of those that changed, one durable commit. While a group commits, the next gathers.

A group that fails (the disk is full, the database is away) fails each of its calls with LedgerUnavailable, and the next
group tries anew.
"""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any

from pabal.errors import LedgerUnavailable, PabalError
from pabal.ledger.database import LedgerDatabase
from pabal.ledger.steps import MOST_ROWS, Ask, Failure, Step

BUSY_GROUP = 8
GATHER_SECONDS = 0.004
"""After a group of more calls than `BUSY_GROUP` the next one gathers for this long. A transaction costs about the same
for 20 calls as for 100, so under load this takes a sixth off a delivery's CPU; a lone call never waits."""

SETTLE_WITHIN_SECONDS = 1.0
"""How long a settlement waits for a transaction to ride with. Lost in a crash, it costs a repeated append."""


class Groups:
    """The calls of one ledger, group after group. `note` and `ask` are called in the event loop it was made in."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self._loop = asyncio.get_running_loop()
        self._gathered: list[_Ask] = []
        self._running: asyncio.Future[list[Any]] | None = None
        self._is_scheduled = False
        self._last_size = 0
        self._settling: asyncio.TimerHandle | None = None
        self._is_closed = False

    def ask(self, step: Step, key: bytes, argument: Any) -> asyncio.Future[Any]:
        """The answer of a step, which runs with the next group. Raises LedgerUnavailable."""
        self.refuse_if_closed()
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._gathered.append(_Ask(step, key, argument, answer))
        self._run_soon()
        return answer

    def note(self, step: Step, key: bytes, argument: Any) -> None:
        """Have a step run with the next group, or within a second; a group that fails is no reason to forget it."""
        self.refuse_if_closed()
        self._gathered.append(_Ask(step, key, argument, None))
        self._settle_soon()

    def refuse_if_closed(self) -> None:
        """Raises LedgerUnavailable after `close`."""
        if self._is_closed:
            raise LedgerUnavailable("the ledger was closed")

    async def close(self) -> None:
        """Run what has gathered, and take nothing more."""
        self._is_closed = True
        while self._gathered or self._running is not None:
            self._run()
            if self._running is not None:
                await asyncio.wait([self._running])

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
            # Only the end of the event loop cancels a group.
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
        failure = Failure(unavailable(error))
        for ask in group:
            ask.tell(failure)
        if not self._is_closed:
            # No caller asks again for a settlement.
            self._gathered[:0] = [ask for ask in group if ask.answer is None]


def unavailable(error: BaseException) -> PabalError:
    """What a call raises when the database raised `error`."""
    if isinstance(error, PabalError):
        return error
    failure = LedgerUnavailable(f"the ledger did not take it: {error}")
    failure.__cause__ = error
    return failure


class _Ask(Ask):
    """One call and the future of its answer (None: no caller waits, so the call is tried until it succeeds)."""

    __slots__ = ("answer",)

    def __init__(self, step: Step, key: bytes, argument: Any, answer: asyncio.Future[Any] | None) -> None:
        super().__init__(step, key, argument)
        self.answer = answer

    def tell(self, answer: Any) -> None:
        """Give the answer to the caller, if it still waits."""
        if self.answer is None or self.answer.done():
            return
        if isinstance(answer, Failure):
            self.answer.set_exception(answer.error)
        else:
            self.answer.set_result(answer)

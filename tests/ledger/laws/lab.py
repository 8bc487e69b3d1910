"""What the laws of the ledger work with: a store of one's own, and the few words that they are written in."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Final
from uuid import UUID, uuid4

import pytest

from pabal.ledger.port import Ledger
from pabal.ledger.protocol import Call, Claim, ClaimAnswer, Finish, FinishAnswer, Source
from pabal.outcome import Deferred, Outcome, RetryAt, Verdict

LEASE_SECONDS: Final = 60.0

FIRST: Final = Source(1, 0)
"""The record that the API writes."""

KEPT_UNTIL: Final = datetime(2030, 1, 1, tzinfo=UTC)
"""Up to when rows are kept, where a law does not say otherwise."""

BUSY: Final = Deferred(reason="busy", retry_after_seconds=7.5, response="503")
RETRY: Final = RetryAt(due=datetime(2026, 1, 1, 12, 30, 5, 250_000, tzinfo=UTC), rung=1)


class LedgerStore(ABC):
    """One empty store, for one law, on which any number of ledgers can be opened."""

    @abstractmethod
    async def connect(self, worker: str) -> Ledger:
        """A new ledger on it, opened under this worker name. The laws close it."""

    @abstractmethod
    async def let_time_pass(self, seconds: float) -> None:
        """Make every lease that is held that much shorter, without waiting."""

    async def let_deaths_be_noticed(self) -> None:
        """Do what ends the leases of processes that died: nothing, where a ledger finds out by itself."""
        return

    @abstractmethod
    def process(self, *arguments: str) -> Sequence[str]:
        """The command of a process that claims on it until it is killed; run in the repository's folder."""


class Member:
    """One worker with its ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def ask(
        self,
        source: Source = FIRST,
        *,
        may_repeat: bool = True,
        refusal: Verdict | None = None,
        prune_after: datetime = KEPT_UNTIL,
    ) -> Claim:
        """A claim with a new token."""
        return Claim(
            source=source,
            owner=self.ledger.owner,
            token=self.ledger.new_token(),
            lease_seconds=LEASE_SECONDS,
            provider="webhook",
            may_repeat=may_repeat,
            refusal=refusal,
            prune_after=prune_after.timestamp(),
        )

    async def claim(self, delivery: UUID, source: Source = FIRST, *, may_repeat: bool = True) -> ClaimAnswer:
        """The answer to a claim with a new token."""
        return await self.ledger.claim(delivery, self.ask(source, may_repeat=may_repeat))

    async def hold(self, delivery: UUID, *, prune_after: datetime = KEPT_UNTIL) -> Claim:
        """Claim a delivery that is free; the claim that now holds."""
        ask = self.ask(prune_after=prune_after)
        assert isinstance(await self.ledger.claim(delivery, ask), Call)
        return ask

    async def finish(
        self, delivery: UUID, claim: Claim, *, outcome: Outcome = BUSY, verdict: Verdict = RETRY, attempt: int = 1
    ) -> FinishAnswer:
        """The answer to the end of a claim's call."""
        end = Finish(attempt=attempt, owner=claim.owner, token=claim.token, outcome=outcome, verdict=verdict)
        return await self.ledger.finish(delivery, end)

    async def release(self, delivery: UUID, claim: Claim) -> None:
        """Give a claim back."""
        await self.ledger.release(delivery, owner=claim.owner, token=claim.token)

    def settle(self, delivery: UUID, claim: Claim) -> None:
        """The records of a claim's verdict are in the log."""
        self.ledger.settle(delivery, owner=claim.owner, token=claim.token)


class Lab:
    """A store and the members that a law opens on it."""

    def __init__(self, store: LedgerStore) -> None:
        self.store = store
        self._opened: list[Ledger] = []

    async def member(self, worker: str) -> Member:
        """A new member of that name, closed after the law."""
        ledger = await self.store.connect(worker)
        self._opened.append(ledger)
        return Member(ledger)

    async def close(self) -> None:
        """Close every member."""
        for ledger in self._opened:
            await ledger.close()


class LedgerHarness(ABC):
    """Makes what a law needs."""

    @abstractmethod
    def store(self) -> AbstractAsyncContextManager[LedgerStore]:
        """A new, empty store, gone after the law."""

    @pytest.fixture
    async def lab(self) -> AsyncIterator[Lab]:
        """A new store, and members on it."""
        async with self.store() as store:
            lab = Lab(store)
            yield lab
            await lab.close()

    @pytest.fixture
    async def a(self, lab: Lab) -> Member:
        """A worker."""
        return await lab.member("a")

    @pytest.fixture
    async def b(self, lab: Lab) -> Member:
        """Another worker on the same store."""
        return await lab.member("b")

    @pytest.fixture
    def delivery(self) -> UUID:
        """A delivery that no ledger knows."""
        return uuid4()

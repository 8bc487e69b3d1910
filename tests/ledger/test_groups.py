"""Whatever becomes of a group's transaction, every call of it is answered."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

import pytest

from pabal.errors import LedgerUnavailable
from pabal.ledger.grouped_ledger import GroupedLedger
from pabal.ledger.steps import Ask


class FailingDatabase:
    """Fails its first transaction in one of the ways that a client library and an event loop know."""

    ledger_id = UUID(int=1)
    owner = 1

    def __init__(self, way: str) -> None:
        self._way = way

    def transact(self, asks: Sequence[Ask]) -> asyncio.Future[list[Any]]:
        way, self._way = self._way, "works"
        if way == "raises at once":
            raise OSError(24, "Too many open files")
        done: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        if way == "is cancelled":
            done.cancel()
        else:
            done.set_result([None] * (len(asks) - (way == "answers too few")))
        return done

    async def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        raise NotImplementedError

    async def suppressed(self) -> Collection[bytes]:
        raise NotImplementedError

    async def known(self, keys: Collection[bytes]) -> Collection[bytes]:
        raise NotImplementedError

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("way", ["raises at once", "is cancelled", "answers too few"])
async def test_a_group_that_fails_in_any_way_answers_its_calls_and_lets_the_next_one_run(way: str) -> None:
    ledger = GroupedLedger(FailingDatabase(way))

    failed = await asyncio.wait_for(
        asyncio.gather(*(ledger.unsuppress([b"x"]) for _ in range(2)), return_exceptions=True), 5
    )
    await asyncio.wait_for(ledger.unsuppress([b"x"]), 5)

    assert isinstance(failed[-1], LedgerUnavailable)
    await asyncio.wait_for(ledger.close(), 5)

"""A PostgreSQL that is frozen: ledger and store say so within their time, and go on by themselves when it does."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg.waiting import Ready, Wait
from servers.postgres import PostgresServer

from pabal.clock import ManualClock
from pabal.errors import LedgerUnavailable, StoreUnavailable
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.protocol import Call, Decided
from pabal.postgres_silence import ImpatientAsyncConnection, ImpatientConnection, ServerSilent, _until_silent
from pabal.store import database, sql
from pabal.store.sql import SqlStore
from tests.ledger.laws.lab import RETRY, Member
from tests.store.laws.lab import NOW, a_delivery, an_event, status_of

SHORT_SECONDS = 0.3


@pytest.fixture
def server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A server for this test alone, which may freeze it."""
    with PostgresServer.start() as own:
        yield own


@contextlib.asynccontextmanager
async def frozen(server: PostgresServer) -> AsyncIterator[None]:
    """Meanwhile patience is short; while the server works, it is as always."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImpatientAsyncConnection, "silent_seconds", SHORT_SECONDS)
        patch.setattr(sql, "ANSWER_WITHIN_SECONDS", SHORT_SECONDS)
        server.pause()
        try:
            yield
        finally:
            server.resume()


@contextlib.asynccontextmanager
async def store_of(server: PostgresServer) -> AsyncIterator[SqlStore]:
    with server.new_database() as url:
        store = SqlStore(url, clock=ManualClock(NOW))
        await store.migrate()
        try:
            yield store
        finally:
            await store.close()


async def test_the_ledger_says_that_it_has_no_answer_and_goes_on_as_the_same_owner(
    server: PostgresServer,
) -> None:
    known, unknown = uuid4(), uuid4()
    with server.new_database() as url:
        a = Member(await PostgresLedger.open(url, worker="a"))
        claim, ask = await a.hold(known), a.ask()

        async with frozen(server):
            with pytest.raises(LedgerUnavailable, match="PostgreSQL gave no answer"):
                await a.ledger.claim(unknown, ask)

        assert await a.ledger.claim(unknown, ask) == Call(attempt=1)
        assert await a.finish(known, claim) == Decided(attempt=1, verdict=RETRY)
        await a.ledger.close()


async def test_a_worker_that_starts_says_that_the_ledger_does_not_answer(server: PostgresServer) -> None:
    with server.new_database() as url:
        async with frozen(server):
            with pytest.raises(LedgerUnavailable, match=r"cannot open the ledger at .* timeout expired"):
                await PostgresLedger.open(url, worker="a")


async def test_a_ledger_closes_while_the_server_is_frozen(server: PostgresServer) -> None:
    with server.new_database() as url:
        ledger = await PostgresLedger.open(url, worker="a")

        async with frozen(server):
            await ledger.close()

        with pytest.raises(LedgerUnavailable, match="closed"):
            await Member(ledger).claim(uuid4())


async def test_the_store_says_that_it_has_no_answer_and_takes_the_same_facts_afterwards(
    server: PostgresServer,
) -> None:
    delivery = a_delivery()
    async with store_of(server) as store:
        await store.fold([delivery])

        async with frozen(server):
            for _ in range(2):
                with pytest.raises(StoreUnavailable, match="the store gave no answer"):
                    await store.delivery(delivery.id, tenant="shop")
                with pytest.raises(StoreUnavailable, match="the store gave no answer"):
                    await store.fold([an_event(delivery, "sent")])

        assert await status_of(store, delivery) == "accepted"
        await store.fold([an_event(delivery, "sent")])
        assert await status_of(store, delivery) == "sent"


async def test_the_store_leaves_a_connection_that_stays_silent(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SILENT_SECONDS", 1.5)
    async with store_of(server) as store:
        async with frozen(server):
            with pytest.raises(StoreUnavailable, match="did not answer: PostgreSQL gave no answer"):
                await store.unaccounted(now=NOW, limit=1)

        assert await store.unaccounted(now=NOW, limit=1) == []


async def test_a_store_closes_while_the_server_is_frozen(server: PostgresServer) -> None:
    async with store_of(server) as store:
        async with frozen(server):
            pending = asyncio.ensure_future(store.unaccounted(now=NOW, limit=1))
            await asyncio.sleep(0)

            await store.close()

        assert await pending == []


def test_only_silence_counts_however_long_the_whole_answer_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 9.0, 9.5, 19.0, 20.0])  # when it began, and when each step looks
    monkeypatch.setattr("pabal.postgres_silence.time.monotonic", lambda: next(times))
    waiting = _until_silent(endless_steps(), silent_seconds=10.0)
    next(waiting)

    for ready in (Ready.NONE, Ready.R, Ready.NONE):
        waiting.send(ready)

    with pytest.raises(ServerSilent, match="gave no answer for 10 s"):
        waiting.send(Ready.NONE)


def endless_steps() -> Generator[Any, Any, None]:
    """A statement whose answer never ends."""
    while True:
        yield Wait.R


def test_a_silent_connection_is_closed(server: PostgresServer) -> None:
    connection = ImpatientConnection.connect(server.url(), autocommit=True)
    connection.silent_seconds = SHORT_SECONDS

    with pytest.raises(ServerSilent):
        connection.execute("SELECT pg_sleep(5)")

    assert connection.closed
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")

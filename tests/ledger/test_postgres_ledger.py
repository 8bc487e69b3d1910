"""The PostgreSQL ledger keeps the laws of a ledger; and what is its own: connections, locks, the database's clock."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import psycopg
import pytest
from servers.postgres import PostgresServer

from pabal.channels.suppression import suppression_key
from pabal.errors import ConfigError, LedgerUnavailable, OwnerEnded
from pabal.ledger.port import Ledger
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.protocol import GHOST, Call, Decided, Held, Resume
from pabal.ledger.steps import Ask, GroupRows, run
from pabal.notification import Suppression
from pabal.outcome import Deferred, Expired, Suppressed
from tests.ledger.laws.contract import LedgerContract, LedgerStore
from tests.ledger.laws.lab import KEPT_UNTIL, LEASE_SECONDS, RETRY, Member
from tests.waiting import eventually


class PostgresStore(LedgerStore):
    def __init__(self, url: str) -> None:
        self.url = url

    async def connect(self, worker: str) -> Ledger:
        return await PostgresLedger.open(self.url, worker=worker)

    async def let_time_pass(self, seconds: float) -> None:
        query(
            self.url,
            f"UPDATE deliveries SET lease_until = lease_until - interval '{seconds} seconds' WHERE state = 'claimed'",
        )

    async def let_deaths_be_noticed(self) -> None:
        await self.let_time_pass(LEASE_SECONDS + 1)

    def process(self, *arguments: str) -> Sequence[str]:
        return [sys.executable, "-m", "tests.ledger.ledger_process", self.url, *arguments]


class TestPostgresLedger(LedgerContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.url = postgres_url

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[LedgerStore]:
        yield PostgresStore(self.url)


@pytest.fixture
def own_server(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A server for this test alone, which may end it."""
    with PostgresServer.start() as server:
        yield server


@contextlib.asynccontextmanager
async def member(url: str, *, worker: str = "a") -> AsyncIterator[Member]:
    ledger = await PostgresLedger.open(url, worker=worker)
    try:
        yield Member(ledger)
    finally:
        await ledger.close()


def query(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET search_path = pabal_ledger")
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def test_the_tables_can_be_read_in_psql(postgres_url: str) -> None:
    delivery = UUID("00112233-4455-6677-8899-aabbccddeeff")
    async with member(postgres_url) as a:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim, outcome=Deferred(reason="busy"))

        [row] = query(postgres_url, "SELECT id, attempt, state, settled, verdict->>'due', outcome FROM deliveries")

    assert row == (
        delivery,
        1,
        "decided",
        False,
        "2026-01-01T12:30:05.250000Z",
        {"kind": "deferred", "reason": "busy"},
    )
    assert query(postgres_url, "SELECT worker, ended FROM owners") == [("a", "closed")]


async def test_calls_of_one_moment_share_a_transaction(postgres_url: str) -> None:
    async with member(postgres_url) as a:
        await asyncio.gather(*(a.claim(uuid4()) for _ in range(200)))

    assert query(postgres_url, "SELECT count(DISTINCT xmin::text) FROM deliveries") == [(1,)]


async def test_a_commit_is_on_the_disk_whatever_the_database_defaults_to(postgres_url: str) -> None:
    query(
        postgres_url, f"ALTER DATABASE {postgres_url.partition('@/')[2].partition('?')[0]} SET synchronous_commit = off"
    )
    ledger = await PostgresLedger.open(postgres_url, worker="a")

    connection = await ledger._database._session.connected()  # type: ignore[attr-defined]
    setting = await (await connection.execute("SHOW synchronous_commit")).fetchall()
    await connection.commit()
    await ledger.close()

    assert setting == [("on",)]


@pytest.mark.parametrize("how", ["restart", "kill"])
async def test_a_worker_goes_on_as_the_same_owner_after_the_server_was_away(
    how: str, own_server: PostgresServer
) -> None:
    known, unknown = uuid4(), uuid4()
    with own_server.new_database() as url:
        async with member(url) as a:
            claim = await a.hold(known)
            if how == "kill":
                own_server.kill()
                for _ in range(3):
                    with pytest.raises(LedgerUnavailable):
                        await a.claim(unknown)
                own_server.launch()
            else:
                own_server.restart()
                with pytest.raises(LedgerUnavailable):
                    await a.claim(unknown)

            assert await a.claim(unknown) == Call(attempt=1)
            assert await a.finish(known, claim) == Decided(attempt=1, verdict=RETRY)


async def test_a_settlement_is_tried_again_once_the_server_is_back(own_server: PostgresServer) -> None:
    delivery = uuid4()
    with own_server.new_database() as url:
        async with member(url) as a:
            claim = await a.hold(delivery)
            await a.finish(delivery, claim)
            own_server.restart()
            a.settle(delivery, claim)
            with pytest.raises(LedgerUnavailable):
                await a.claim(uuid4())

        async with member(url, worker="b") as b:
            assert await b.claim(delivery) == GHOST


async def test_a_ledger_closes_while_the_server_is_away(own_server: PostgresServer) -> None:
    with own_server.new_database() as url:
        ledger = await PostgresLedger.open(url, worker="a")
        own_server.kill()

        await ledger.close()

        own_server.launch()
        assert query(url, "SELECT ended FROM owners") == [(None,)]


async def test_a_server_that_is_not_there_is_said_so_without_the_password() -> None:
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1/pabal") as raised:
        await PostgresLedger.open("postgresql://pabal:secret@127.0.0.1:1/pabal", worker="a")

    assert "secret" not in str(raised.value)


async def test_another_ledger_in_the_old_ones_place_is_not_used(postgres_url: str) -> None:
    async with member(postgres_url) as a:
        query(postgres_url, "UPDATE ledger SET id = gen_random_uuid()")
        query(
            postgres_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'pabal%'"
        )

        with pytest.raises(LedgerUnavailable):
            await a.claim(uuid4())
        with pytest.raises(OwnerEnded, match="another ledger"):
            await a.claim(uuid4())


async def test_a_worker_that_the_ledger_does_not_know_claims_nothing(postgres_url: str) -> None:
    async with member(postgres_url) as a:
        query(postgres_url, "DELETE FROM owners")

        with pytest.raises(OwnerEnded, match="does not know it"):
            await a.claim(uuid4())


async def test_rows_that_are_held_fail_the_calls_that_wait_and_no_later_one(postgres_url: str) -> None:
    held, free = uuid4(), uuid4()
    ledger = await PostgresLedger.open(postgres_url, worker="a", patience_seconds=0.1)
    a = Member(ledger)
    claim = await a.hold(held)
    with psycopg.connect(postgres_url) as holder:
        holder.execute("SELECT * FROM pabal_ledger.deliveries FOR UPDATE")
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            await a.finish(held, claim)

        assert await a.claim(free) == Call(attempt=1)

    assert await a.finish(held, claim) == Decided(attempt=1, verdict=RETRY)
    await ledger.close()


@pytest.fixture
def overtake(monkeypatch: pytest.MonkeyPatch, postgres_url: str) -> Callable[[str], None]:
    """Has another connection commit a statement once, between what the next group reads and what it writes."""
    statements: list[str] = []

    def run_and_be_overtaken(asks: Iterable[Ask], transaction: GroupRows) -> list[Any]:
        answers = run(asks, transaction)
        while statements:
            query(postgres_url, statements.pop())
        return answers

    monkeypatch.setattr("pabal.ledger.postgres.database.run", run_and_be_overtaken)
    return statements.append


RECIPIENT = b"shop/email/a@b.c"
SUPPRESSES = f"INSERT INTO suppressions VALUES ('{RECIPIENT.decode()}')"


@pytest.mark.parametrize("is_known", [False, True], ids=["a new row", "a row there is"])
async def test_a_suppression_that_commits_between_read_and_write_stops_the_claim(
    is_known: bool, postgres_url: str, overtake: Callable[[str], None]
) -> None:
    delivery = uuid4()
    async with member(postgres_url) as a:
        if is_known:
            await a.release(delivery, await a.hold(delivery))
        ask = msgspec.structs.replace(a.ask(), recipient=RECIPIENT)
        other = msgspec.structs.replace(a.ask(), recipient=b"shop/email/other@b.c")

        overtake(SUPPRESSES)
        refused, called = await asyncio.gather(a.ledger.claim(delivery, ask), a.ledger.claim(uuid4(), other))

    assert isinstance(refused, Resume)
    assert refused.verdict == Suppressed()
    assert called == Call(attempt=1)


async def test_a_suppression_that_commits_in_between_stops_no_end_of_a_call(
    postgres_url: str, overtake: Callable[[str], None]
) -> None:
    delivery = uuid4()
    async with member(postgres_url) as a:
        ask = msgspec.structs.replace(a.ask(), recipient=RECIPIENT)
        await a.ledger.claim(delivery, ask)

        overtake(SUPPRESSES)
        answer = await a.finish(delivery, ask)

    assert answer == Decided(attempt=1, verdict=RETRY)


async def test_a_claim_stands_before_a_suppression_of_its_own_group_but_after_one_by_another(
    postgres_url: str, overtake: Callable[[str], None]
) -> None:
    gone = Suppression(tenant="shop", channel="email", address="a@b.c", reason="bounced", since=KEPT_UNTIL)
    recipient = suppression_key(tenant="shop", channel="email", address="a@b.c")
    async with member(postgres_url) as a:
        ask = msgspec.structs.replace(a.ask(), recipient=recipient)

        overtake(f"INSERT INTO suppressions VALUES ('\\x{recipient.hex()}')")
        refused, _ = await asyncio.gather(a.ledger.claim(uuid4(), ask), a.ledger.suppress([gone]))

    assert isinstance(refused, Resume)
    assert refused.verdict == Suppressed()


async def test_an_owner_written_off_between_read_and_write_claims_nothing(
    postgres_url: str, overtake: Callable[[str], None]
) -> None:
    delivery = uuid4()
    async with member(postgres_url) as a:
        overtake("UPDATE owners SET ended = 'owner 2 has its name'")
        with pytest.raises(OwnerEnded, match="owner 2 has its name"):
            await a.claim(delivery)

    assert query(postgres_url, "SELECT count(*) FROM deliveries") == [(0,)]


def is_waiting(url: str) -> bool:
    """Whether a ledger waits for somebody's rows."""
    found = query(url, "SELECT wait_event_type FROM pg_stat_activity WHERE application_name LIKE 'pabal%'")
    return ("Lock",) in found


async def test_a_row_that_another_is_inserting_is_waited_for_and_not_free(postgres_url: str) -> None:
    there, coming = uuid4(), uuid4()
    async with member(postgres_url) as a, member(postgres_url, worker="b") as b:
        await b.hold(there)
        with psycopg.connect(postgres_url) as other:
            other.execute("SET search_path = pabal_ledger")
            other.execute("CREATE TEMP TABLE theirs AS SELECT * FROM deliveries")
            other.execute("UPDATE theirs SET id = %s", (coming,))
            other.execute("INSERT INTO deliveries SELECT * FROM theirs")
            answer = asyncio.ensure_future(a.claim(coming))
            await eventually(lambda: is_waiting(postgres_url))

            other.commit()

        assert isinstance(await answer, Held)


async def test_a_deadlock_with_somebody_elses_statement_is_not_the_callers_affair(postgres_url: str) -> None:
    first, second = sorted(uuid4() for _ in range(2))
    async with member(postgres_url) as a:
        claims = [await a.hold(delivery) for delivery in (first, second)]
        with psycopg.connect(postgres_url, autocommit=False) as other:
            other.execute("SET search_path = pabal_ledger")
            other.execute("SET deadlock_timeout = '1min'")
            lock = "SELECT 1 FROM deliveries WHERE id = %s FOR UPDATE"
            other.execute(lock, (second,))
            ends = asyncio.gather(*(a.finish(*each) for each in zip((first, second), claims, strict=True)))
            await eventually(lambda: is_waiting(postgres_url))

            await asyncio.to_thread(other.execute, lock, (first,))
            other.rollback()

        assert await ends == [Decided(attempt=1, verdict=RETRY)] * 2


async def test_a_call_that_cannot_be_stored_fails_alone(postgres_url: str) -> None:
    broken, sound = uuid4(), uuid4()
    async with member(postgres_url) as a:
        claims = [await a.hold(broken), await a.hold(sound)]

        answers = await asyncio.gather(
            a.finish(broken, claims[0], outcome=Deferred(reason="\ud800 is no text")),
            a.finish(sound, claims[1]),
            return_exceptions=True,
        )

        assert isinstance(answers[0], UnicodeEncodeError)
        assert answers[1] == Decided(attempt=1, verdict=RETRY)


async def test_a_response_with_a_zero_byte_comes_back_as_it_was(postgres_url: str) -> None:
    delivery, outcome = uuid4(), Deferred(reason="busy\0")
    async with member(postgres_url) as a:
        claim = await a.hold(delivery)
        await a.finish(delivery, claim, outcome=outcome)

        found = await a.claim(delivery)

    assert isinstance(found, Resume)
    assert found.outcome == outcome


async def test_a_group_that_fails_leaves_nothing_behind(postgres_url: str) -> None:
    delivery = uuid4()
    async with member(postgres_url) as a:
        too_large = msgspec.structs.replace(a.ask(), token=2**70)

        with pytest.raises(LedgerUnavailable, match="bigint"):
            await a.ledger.claim(delivery, too_large)

        assert await a.claim(delivery) == Call(attempt=1)


async def test_pruning_goes_through_all_rows_in_steps(postgres_url: str) -> None:
    async with member(postgres_url) as a:
        claims = (a.ledger.claim(uuid4(), a.ask(refusal=Expired(), prune_after=KEPT_UNTIL)) for _ in range(4_000))
        await asyncio.gather(*claims)
        [(blocks,)] = query(postgres_url, "SELECT pg_relation_size('deliveries') / 8192")

        now = KEPT_UNTIL + timedelta(seconds=1)
        pruned, claimed = await asyncio.gather(a.ledger.prune(now=now), a.claim(uuid4()))

        assert blocks > 128
        assert pruned == 4_000
        assert claimed == Call(attempt=1)


async def test_pruning_passes_over_rows_that_somebody_holds(postgres_url: str) -> None:
    async with member(postgres_url) as a:
        for _ in range(2):
            await a.ledger.claim(uuid4(), a.ask(refusal=Expired(), prune_after=KEPT_UNTIL))
        with psycopg.connect(postgres_url) as holder:
            holder.execute("SELECT * FROM pabal_ledger.deliveries LIMIT 1 FOR UPDATE")
            now = KEPT_UNTIL + timedelta(seconds=1)

            assert await a.ledger.prune(now=now) == 1

        assert await a.ledger.prune(now=now) == 1


async def test_a_ledger_of_another_version_is_left_alone(postgres_url: str) -> None:
    async with member(postgres_url):
        query(postgres_url, "UPDATE ledger SET version = 99")

    with pytest.raises(ConfigError, match="version 99"):
        await PostgresLedger.open(postgres_url, worker="b")

    assert query(postgres_url, "SELECT count(*) FROM owners") == [(1,)]


async def test_many_workers_open_a_new_database_at_once(postgres_url: str) -> None:
    ledgers = await asyncio.gather(
        *(PostgresLedger.open(postgres_url, worker=f"worker-{number}") for number in range(8))
    )

    assert sorted(ledger.owner for ledger in ledgers) == list(range(1, 9))
    assert len({ledger.id for ledger in ledgers}) == 1
    for ledger in ledgers:
        await ledger.close()

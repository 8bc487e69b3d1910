"""docs/ledger.md speaks of the ledgers that there are."""

import contextlib
import re
import sqlite3
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from pabal.clock import ManualClock
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.outcome import DeadLetter, Unknown
from tests.ledger.laws.lab import LEASE_SECONDS, Member

PAGE = Path(__file__).parents[2].joinpath("docs/ledger.md").read_text()
ON_SQLITE, _, ON_POSTGRESQL = PAGE.partition("## On PostgreSQL")
DELIVERY = UUID("00112233-4455-6677-8899-aabbccddeeff")


def queries(text: str) -> list[object]:
    found = re.findall(r"```sql\n(.*?)```", text, flags=re.DOTALL)
    return [pytest.param(query, id=query.split("\n", 1)[0][:40]) for query in found]


async def lose_a_call(worker: Member) -> None:
    """Take over a call whose lease has ended, and hear nothing again."""
    again = worker.ask()
    await worker.ledger.claim(DELIVERY, again)
    uncertain = DeadLetter(error_class="uncertain", message="no answer")
    await worker.finish(DELIVERY, again, attempt=2, outcome=Unknown(reason="no answer"), verdict=uncertain)


@pytest.mark.parametrize("query", queries(ON_SQLITE))
async def test_every_query_for_sqlite_finds_something(tmp_path: Path, query: str) -> None:
    path, clock = tmp_path / "ledger.db", ManualClock()
    ledger = await SqliteLedger.open(path, clock=clock, worker="a")
    await Member(ledger).hold(DELIVERY)
    clock.advance(3600)
    await lose_a_call(Member(ledger))

    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()

    await ledger.close()
    assert rows


@pytest.mark.parametrize("query", queries(ON_POSTGRESQL))
async def test_every_query_for_postgresql_finds_something(postgres_url: str, query: str) -> None:
    ledger = await PostgresLedger.open(postgres_url, worker="a")
    await Member(ledger).hold(DELIVERY)
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        ended = f"UPDATE pabal_ledger.deliveries SET lease_until = lease_until - interval '{LEASE_SECONDS + 1} seconds'"
        connection.execute(ended.encode())
        await lose_a_call(Member(ledger))

        rows = connection.execute(query.encode()).fetchall()

    await ledger.close()
    assert rows


async def test_every_column_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = await SqliteLedger.open(path, clock=ManualClock(), worker="a")
    await ledger.close()

    with contextlib.closing(sqlite3.connect(path)) as connection:
        columns = [column for _, column, *_ in connection.execute("PRAGMA table_info(deliveries)")]

    section = PAGE.partition("## Columns of `deliveries`")[2].partition("`owners.ended`")[0]
    explained = [
        cell for line in re.findall(r"^\| (`.+?`) \|", section, flags=re.MULTILINE) for cell in line.split(", ")
    ]
    assert [cell.strip("`") for cell in explained] == columns


async def test_postgresql_has_the_same_columns_but_for_the_number(postgres_url: str, tmp_path: Path) -> None:
    ledger = await PostgresLedger.open(postgres_url, worker="a")
    await ledger.close()
    ledger_file = tmp_path / "ledger.db"
    file = await SqliteLedger.open(ledger_file, clock=ManualClock(), worker="a")
    await file.close()

    with psycopg.connect(postgres_url) as connection:
        ours = connection.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'pabal_ledger' AND table_name = 'deliveries' ORDER BY ordinal_position"
        ).fetchall()
    with contextlib.closing(sqlite3.connect(ledger_file)) as connection_to_file:
        theirs = [column for _, column, *_ in connection_to_file.execute("PRAGMA table_info(deliveries)")]

    assert ["number", *(name for (name,) in ours)] == theirs

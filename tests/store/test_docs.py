"""docs/ledger.md speaks of the ledger that there is."""

import contextlib
import re
import sqlite3
from pathlib import Path
from uuid import UUID

import pytest

from pabal.clock import ManualClock
from pabal.outcome import DeadLetter, Unknown
from pabal.store.ledger import SqliteLedger
from pabal.testing._ledger_lab import Member

PAGE = Path(__file__).parents[2].joinpath("docs/ledger.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
DELIVERY = UUID("00112233-4455-6677-8899-aabbccddeeff")


@pytest.mark.parametrize("query", QUERIES, ids=[query.split("\n", 1)[0][:40] for query in QUERIES])
async def test_every_query_of_the_page_finds_something(tmp_path: Path, query: str) -> None:
    path, clock = tmp_path / "ledger.db", ManualClock()
    ledger = await SqliteLedger.open(path, clock=clock, worker="a")
    worker = Member(ledger)
    await worker.hold(DELIVERY)
    clock.advance(3600)
    again = worker.ask()
    await ledger.claim(DELIVERY, again)
    uncertain = DeadLetter(error_class="uncertain", message="no answer")
    await worker.finish(DELIVERY, again, attempt=2, outcome=Unknown(reason="no answer"), verdict=uncertain)

    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(query).fetchall()

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

"""docs/store.md speaks of the store that there is."""

import contextlib
import re
import sqlite3
from pathlib import Path

import pytest

from pabal.clock import ManualClock
from pabal.store.projection import _RANKS, _SENT_RANKS, UNACCOUNTED_GRACE_SECONDS
from pabal.store.sql import SqlStore
from tests.store.laws.lab import NOW, a_dead_letter, a_delivery, a_receipt, an_event, at

PAGE = Path(__file__).parents[2].joinpath("docs/store.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
ROWS = re.findall(r"^\| [^|]*\| ([^|]+) \| (\d+)? ?\| ([^|]+) \|$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("query", QUERIES, ids=[" ".join(query.split())[:50] for query in QUERIES])
async def test_every_query_of_the_page_finds_something(tmp_path: Path, query: str) -> None:
    delivery = a_delivery()
    path = tmp_path / "store.db"
    store = SqlStore(f"sqlite:{path}", clock=ManualClock(NOW))
    waiting = an_event(delivery, "deferred", due=at(30))
    await store.fold([delivery, waiting, a_receipt("bounced", provider_id="m-1"), a_dead_letter(None)])
    await store.close()

    asked = query.replace("00112233445566778899aabbccddeeff", delivery.id.hex)
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        rows = connection.execute(asked).fetchall()

    assert rows


def test_the_table_of_ranks_is_the_merge_order() -> None:
    told: dict[tuple[str, bool], tuple[int, str]] = {}
    for facts, rank, statuses in ROWS:
        if rank:
            names = re.findall(r"`(\w+)`", facts) or ["queued"]
            told |= {(name, facts.startswith(("receipt", "event `sent`"))): (int(rank), statuses) for name in names}

    for name, (rank, status) in _RANKS.items():
        told_rank, statuses = told.pop((name, False))
        assert (told_rank, f"`{status}`" in statuses) == (rank, True), name
    for kind, (rank, status) in _SENT_RANKS.items():
        assert told.pop((kind, True)) == (rank, f"`{status}`"), kind
    assert told == {("sent", True): (0, "`sent`")}


def test_the_grace_is_the_one_of_the_page() -> None:
    assert "by more than 15 minutes" in PAGE
    assert UNACCOUNTED_GRACE_SECONDS == 15 * 60

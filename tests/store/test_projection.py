"""The pure fold: which status stands, and that rows merge the same in any order; the store's upsert agrees with it."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pabal.clock import ManualClock
from pabal.notification import Delivery, EventKind, ReceiptKind
from pabal.store import schema
from pabal.store.port import StoredFact
from pabal.store.projection import Gathered, Projected, gather, merge
from pabal.store.sql import SqlStore
from tests.store.laws.folding import histories
from tests.store.laws.lab import NOW, a_dead_letter, a_delivery, a_receipt, an_event, at

DELIVERY = a_delivery(of=UUID(int=1))


def event(kind: EventKind, attempt: int = 1) -> StoredFact:
    return an_event(DELIVERY, kind, attempt=attempt)


def receipt(kind: ReceiptKind) -> StoredFact:
    return a_receipt(kind, event=kind, delivery_id=DELIVERY.id)


def queued(attempt: int = 1) -> Delivery:
    return msgspec.structs.replace(DELIVERY, attempt=attempt)


def projected(facts: Sequence[StoredFact]) -> Projected:
    [row] = gather(facts).deliveries.values()
    return row


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ([queued()], "accepted"),
        ([event("scheduled")], "scheduled"),
        ([event("scheduled"), queued()], "accepted"),
        ([queued(), event("parked")], "deferred"),
        ([queued(), event("parked"), event("deferred")], "deferred"),
        ([queued(), event("deferred"), queued(2)], "deferred"),
        ([queued(), event("unknown"), queued(2)], "deferred"),
        ([queued(), event("deferred"), event("expired", 2)], "expired"),
        ([queued(), event("parked"), event("expired")], "expired"),
        ([queued(), event("suppressed")], "suppressed"),
        ([queued(), event("rejected")], "rejected"),
        ([queued(), event("unknown"), event("rejected", 2)], "rejected"),
        ([queued(), event("dead_lettered", 3)], "dead_lettered"),
        ([queued(), event("dead_lettered", 3), event("redriven", 4)], "deferred"),
        ([event("dead_lettered", 3), event("redriven", 4), queued(4)], "deferred"),
        ([event("dead_lettered", 3), queued(4)], "deferred"),
        ([event("dead_lettered", 3), event("redriven", 4), event("dead_lettered", 4)], "dead_lettered"),
        ([event("dead_lettered", 3), event("discarded", 3)], "discarded"),
        ([event("deferred", 3), event("cancelled", 1)], "cancelled"),
        ([event("dead_lettered", 3), event("cancelled", 3)], "cancelled"),
        ([event("cancelled", 3), event("sent", 1)], "sent"),
        ([event("sent", 1), event("dead_lettered", 4)], "sent"),
        ([event("sent", 1), event("rejected", 2)], "sent"),
        ([event("sent"), receipt("deferred")], "sent"),
        ([event("sent"), receipt("delivered")], "delivered"),
        ([event("sent"), receipt("opened")], "delivered"),
        ([event("sent"), receipt("clicked"), receipt("deferred")], "delivered"),
        ([event("sent"), receipt("unsubscribed")], "delivered"),
        ([event("sent"), receipt("delivered"), receipt("bounced")], "bounced"),
        ([event("sent"), receipt("delivered"), receipt("rejected")], "bounced"),
        ([event("sent"), receipt("bounced"), receipt("complained")], "complained"),
        ([event("dead_lettered", 1), receipt("delivered")], "delivered"),
        ([event("unknown", 1), event("sent", 2), receipt("delivered")], "delivered"),
    ],
)
def test_the_status_follows_from_the_facts_in_whatever_order(facts: Sequence[StoredFact], status: str) -> None:
    one_by_one = [projected([fact]) for fact in facts]

    assert projected(facts).status == status
    assert projected(facts[::-1]).status == status
    assert functools.reduce(merge, reversed(one_by_one)).status == status


def test_a_wait_that_is_over_has_no_due_time() -> None:
    waiting: list[StoredFact] = [queued(), an_event(DELIVERY, "deferred", due=at(30))]

    assert projected(waiting).next_due == at(30).timestamp()
    assert projected([*waiting, queued(2)]).next_due is None
    assert projected([*waiting, event("sent", 2)]).next_due is None


def test_of_several_parks_of_one_attempt_the_last_is_waited_for() -> None:
    parks = [an_event(DELIVERY, "parked", seconds=seconds, due=at(seconds + 10)) for seconds in (5, 9, 7)]

    assert projected(parks).next_due == at(19).timestamp()


def test_an_event_told_again_later_keeps_its_first_words() -> None:
    first = an_event(DELIVERY, "sent", seconds=1, latency_seconds=0.5)
    again = an_event(DELIVERY, "sent", seconds=9)

    for facts in ([again, first], [first, again]):
        [happened] = gather(facts).timeline.values()
        assert happened.at == at(1).timestamp()
        assert "latency_seconds" in happened.entry


def test_dead_lettered_succeeded_and_discarded_keep_their_first_times() -> None:
    row = projected(
        [
            an_event(DELIVERY, "dead_lettered", seconds=5, attempt=2),
            a_dead_letter(queued(1), seconds=3),
            an_event(DELIVERY, "sent", seconds=20, attempt=3),
            a_receipt("delivered", seconds=30, delivery_id=DELIVERY.id),
            an_event(DELIVERY, "discarded", seconds=9, attempt=2),
        ]
    )

    assert row.first_dead_lettered_at == at(3).timestamp()
    assert row.succeeded_at == at(20).timestamp()
    assert row.discarded_at == at(9).timestamp()


def test_a_receipt_is_a_success_where_no_send_was_seen() -> None:
    row = projected([event("dead_lettered"), a_receipt("delivered", seconds=30, delivery_id=DELIVERY.id)])

    assert row.succeeded_at == at(30).timestamp()


def test_a_bounce_is_no_success() -> None:
    assert projected([a_receipt("bounced", delivery_id=DELIVERY.id)]).succeeded_at is None


def test_an_edited_address_is_the_one_of_the_later_attempt() -> None:
    edited = msgspec.structs.replace(DELIVERY, address="https://corrected.example/", attempt=3, edit=1)

    assert projected([edited, queued(2)]).address == "https://corrected.example/"


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), data=st.data())
def test_merging_does_not_care_for_order_repetition_or_grouping(
    history: tuple[list[Delivery], list[StoredFact]], data: st.DataObject
) -> None:
    _, facts = history
    again = data.draw(st.lists(st.sampled_from(facts), max_size=4))
    shuffled = data.draw(st.permutations(facts + again))
    cut = data.draw(st.integers(0, len(shuffled)))

    one, other = gather(shuffled[:cut]), gather(shuffled[cut:])

    assert merged(one, other) == merged(other, one) == gather(facts).deliveries
    assert gather(shuffled).timeline == gather(facts).timeline
    assert gather(shuffled).tags == gather(facts).tags


def merged(one: Gathered, other: Gathered) -> dict[bytes, Projected]:
    together = Gathered()
    for row in (*one.deliveries.values(), *other.deliveries.values()):
        together.add(row)
    return together.deliveries


class TestUpsert:
    """The store's SQL merges as `merge` does, column by column."""

    @pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        if request.param == "sqlite":
            return f"sqlite:{tmp_path / 'store.db'}"
        url: str = request.getfixturevalue("postgres_url")
        return url

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(history=histories())
    async def test_a_row_that_is_folded_in_pieces_is_the_merged_one(
        self, url: str, history: tuple[list[Delivery], list[StoredFact]]
    ) -> None:
        _, facts = history
        # Which receipts belong to a send is the store's to find; here everything names its delivery.
        keyed = [fact for fact in facts if getattr(fact, "delivery_id", True) is not None]
        store = SqlStore(url, clock=ManualClock(NOW))
        await store.migrate()

        for fact in keyed:
            await store.fold([fact])
        await store.close()

        assert rows(url, gather(keyed).deliveries) == gather(keyed).deliveries


def rows(url: str, wanted: dict[bytes, Projected]) -> dict[bytes, Projected]:
    """Rows as they stand in the database."""
    if url.startswith("sqlite:"):
        engine = sa.create_engine(f"sqlite:///{url.removeprefix('sqlite:')}")
    else:
        options = {"options": "-c search_path=pabal_store"}
        engine = sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"), connect_args=options)
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.select(schema.deliveries).where(schema.deliveries.c.id.in_(wanted)))
            return {row.id: _projected(dict(row._mapping)) for row in found}
    finally:
        engine.dispose()


def _projected(row: Mapping[Any, Any]) -> Projected:
    return msgspec.convert(
        {str(name): value for name, value in row.items() if name != "number"}, Projected, builtin_types=(bytes,)
    )

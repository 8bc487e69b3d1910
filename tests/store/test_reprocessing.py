"""What became of dead letters, asked of a real store on both databases."""

import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pabal.clock import ManualClock
from pabal.notification import DeliveryEvent, EventKind
from pabal.store.port import Reprocessed
from pabal.store.sql import SqlStore

DAY = datetime(2026, 1, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStore]:
    clock = ManualClock()
    if request.param == "sqlite":
        store = SqlStore(f"sqlite:{tmp_path / 'store.db'}", clock=clock)
        yield store
        await store.close()
        return
    with request.getfixturevalue("postgres_server").new_database() as url:
        store = SqlStore(url, clock=clock)
        await store.migrate()
        yield store
        await store.close()


def event(number: int, kind: EventKind, *, attempt: int, at: datetime) -> DeliveryEvent:
    delivery = uuid.UUID(int=number)
    return DeliveryEvent(
        id=uuid.uuid5(delivery, f"{kind}/{attempt}"),
        kind=kind,
        delivery_id=delivery,
        notification_id=delivery,
        tenant=f"tenant-{number}",
        channel="webhook",
        address="https://example.com/",
        class_="standard",
        attempt=attempt,
        at=at,
    )


HISTORY = [
    event(1, "sent", attempt=5, at=DAY + 3 * HOUR),
    event(1, "dead_lettered", attempt=4, at=DAY + 2 * HOUR),
    event(1, "redriven", attempt=2, at=DAY + HOUR),
    event(1, "dead_lettered", attempt=2, at=DAY),
    event(2, "dead_lettered", attempt=1, at=DAY + HOUR),
    event(2, "discarded", attempt=1, at=DAY + 2 * HOUR),
    event(3, "sent", attempt=1, at=DAY),
]
IN_PIECES = [[fact] for fact in HISTORY]


@pytest.mark.parametrize(
    "folds", [[HISTORY], IN_PIECES, IN_PIECES[::-1]], ids=["at once", "one by one", "the last first"]
)
async def test_a_delivery_is_known_by_when_it_was_first_given_up_and_first_sent_whatever_came_between(
    store: SqlStore, folds: Sequence[Sequence[DeliveryEvent]]
) -> None:
    for facts in folds:
        await store.fold(facts)

    found = await store.reprocessed(since=DAY, until=DAY + 24 * HOUR)

    assert found == [
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY, sent_at=DAY + 3 * HOUR),
        Reprocessed(channel="webhook", first_dead_lettered_at=DAY + HOUR, discarded_at=DAY + 2 * HOUR),
    ]


async def test_only_what_was_first_given_up_in_the_window_is_told(store: SqlStore) -> None:
    await store.fold(
        [
            event(1, "dead_lettered", attempt=1, at=DAY - HOUR),
            event(1, "dead_lettered", attempt=2, at=DAY),
            event(2, "dead_lettered", attempt=1, at=DAY + HOUR),
        ]
    )

    assert await store.reprocessed(since=DAY, until=DAY + HOUR) == []

"""Laws about what a store answers: one delivery, a notification, lists and pages, what is unaccounted."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from pabal.clock import ManualClock
from pabal.errors import InvalidCursor, StoreUnavailable
from pabal.notification import Delivery, EventKind
from pabal.store.port import DeliveryFilter, DeliveryView, Store, TimelineEntry
from tests.store.laws.lab import (
    NOW,
    TENANT,
    StoreHarness,
    a_dead_letter,
    a_delivery,
    a_receipt,
    an_event,
    at,
    listed,
    status_of,
    view_of,
)


class AnswerLaws(StoreHarness):
    """One delivery, and a notification."""

    async def test_a_delivery_tells_what_happened_to_it_oldest_first(self, store: Store) -> None:
        delivery = a_delivery(tags=("a", "b"), send_at=at(1))
        sent = an_event(
            delivery, "sent", attempt=2, seconds=40, provider_id="m-1", response="250 ok", latency_seconds=0.25
        )
        await store.fold([a_receipt("delivered", seconds=90, provider_id="m-1", detail="opened the door"), sent])
        await store.fold([an_event(delivery, "deferred", seconds=5, due=at(35), detail="503"), delivery])

        view = await view_of(store, delivery)

        assert view == DeliveryView(
            id=delivery.id,
            notification_id=delivery.notification_id,
            tenant=TENANT,
            channel="webhook",
            address=delivery.address,
            class_="standard",
            status="delivered",
            updated_at=at(90),
            attempt=2,
            accepted_at=NOW,
            expires_at=at(3600),
            send_at=at(1),
            tags=("a", "b"),
            timeline=(
                TimelineEntry(kind="deferred", at=at(5), attempt=1, provider="far", detail="503", due=at(35)),
                TimelineEntry(
                    kind="sent",
                    at=at(40),
                    attempt=2,
                    provider="far",
                    provider_id="m-1",
                    response="250 ok",
                    latency_seconds=0.25,
                ),
                TimelineEntry(kind="delivered", at=at(90), provider="far", provider_id="m-1", detail="opened the door"),
            ),
        )

    async def test_a_notification_is_its_deliveries_without_timelines(self, store: Store) -> None:
        notification = uuid4()
        ours = [a_delivery(of=notification, to=to) for to in ("https://a.example/", "https://b.example/")]
        await store.fold([*ours, a_delivery(), an_event(ours[0], "sent")])

        views = await store.notification(notification, tenant=TENANT)

        assert [(view.id, view.status, view.timeline) for view in views] == [
            (ours[0].id, "sent", ()),
            (ours[1].id, "accepted", ()),
        ]

    async def test_what_nobody_recorded_is_not_there(self, store: Store) -> None:
        assert await store.delivery(uuid4(), tenant=TENANT) is None
        assert list(await store.notification(uuid4(), tenant=TENANT)) == []
        assert await listed(store) == []

    async def test_a_tenant_sees_its_own_alone(self, store: Store) -> None:
        theirs = a_delivery(tenant="other", tags=("a",))
        await store.fold([theirs, an_event(theirs, "sent")])

        assert await store.delivery(theirs.id, tenant=TENANT) is None
        assert list(await store.notification(theirs.notification_id, tenant=TENANT)) == []
        assert await listed(store) == await listed(store, tag="a") == []

    async def test_what_is_folded_is_seen_by_others_and_outlives_a_store(self, stores: tuple[Store, Store]) -> None:
        delivery = a_delivery()
        await stores[0].fold([delivery])
        await stores[0].close()

        assert await status_of(stores[1], delivery) == "accepted"

    async def test_a_closed_store_answers_no_more(self, stores: tuple[Store, Store]) -> None:
        await stores[0].close()
        await stores[0].close()

        with pytest.raises(StoreUnavailable):
            await stores[0].fold([a_delivery()])
        with pytest.raises(StoreUnavailable):
            await stores[0].delivery(uuid4(), tenant=TENANT)


def _assorted() -> Mapping[str, Delivery]:
    """Deliveries that differ in one thing each."""
    return {
        "plain": a_delivery(seconds=1),
        "mail": a_delivery(seconds=2, channel="email", to="ana@example.com"),
        "urgent": a_delivery(seconds=3, class_="critical"),
        "tagged": a_delivery(seconds=4, tags=("invoice", "june")),
        "sent": a_delivery(seconds=5),
        "late": a_delivery(seconds=6, tags=("june",)),
    }


_FILTERS: Sequence[tuple[Mapping[str, Any], Sequence[str]]] = [
    ({}, ["late", "sent", "tagged", "urgent", "mail", "plain"]),
    ({"recipient": "ana@example.com"}, ["mail"]),
    ({"status": "sent"}, ["sent"]),
    ({"channel": "email"}, ["mail"]),
    ({"class_": "critical"}, ["urgent"]),
    ({"tag": "june"}, ["late", "tagged"]),
    ({"since": at(5)}, ["late", "sent"]),
    ({"tag": "june", "since": at(5)}, ["late"]),
    ({"channel": "webhook", "class_": "standard", "status": "accepted"}, ["late", "tagged", "plain"]),
    ({"status": "unaccounted"}, []),
]


class ListLaws(StoreHarness):
    """Lists, narrowed and in pages."""

    @pytest.mark.parametrize(("wanted", "expected"), _FILTERS, ids=[str(wanted) for wanted, _ in _FILTERS])
    @pytest.mark.parametrize("limit", [1, 2, 100])
    async def test_a_list_is_narrowed_by_what_is_asked_newest_first(
        self, store: Store, limit: int, wanted: Mapping[str, Any], expected: Sequence[str]
    ) -> None:
        ours = _assorted()
        await store.fold([*ours.values(), an_event(ours["sent"], "sent", seconds=7)])

        found = await listed(store, limit=limit, **wanted)

        assert found == [ours[name].id for name in expected]

    async def test_pages_neither_repeat_nor_leave_out_while_more_comes_in(self, store: Store) -> None:
        together = [a_delivery() for _ in range(25)]
        await store.fold(together)
        first = await store.deliveries(DeliveryFilter(), tenant=TENANT, limit=10)

        await store.fold([a_delivery(seconds=1) for _ in range(5)])
        second = await store.deliveries(DeliveryFilter(), tenant=TENANT, limit=100, cursor=first.next_cursor)

        seen = [view.id for view in (*first.deliveries, *second.deliveries)]
        assert len(seen) == 25
        assert set(seen) == {each.id for each in together}
        assert second.next_cursor is None

    @pytest.mark.parametrize("cursor", ["", "x", "not base64!", "ÄÖÜ", "QQ", "A" * 43])
    async def test_a_cursor_that_no_list_gave_out_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidCursor):
            await store.deliveries(DeliveryFilter(), tenant=TENANT, limit=1, cursor=cursor)

    async def test_a_cursor_goes_on_with_its_own_list_alone(self, store: Store) -> None:
        await store.fold([a_delivery(), a_delivery()])
        page = await store.deliveries(DeliveryFilter(), tenant=TENANT, limit=1)

        for wanted, tenant in ((DeliveryFilter(channel="webhook"), TENANT), (DeliveryFilter(), "other")):
            with pytest.raises(InvalidCursor):
                await store.deliveries(wanted, tenant=tenant, limit=1, cursor=page.next_cursor)


_LONG = 3600 + 900
"""Past the expiry of `a_delivery` and the grace."""

_ENDS: Sequence[tuple[Sequence[EventKind], int]] = [
    ((), 1),
    (("deferred",), 1),
    (("unknown",), 1),
    (("parked",), 1),
    (("dead_lettered", "redriven"), 1),
    (("sent",), 0),
    (("rejected",), 0),
    (("expired",), 0),
    (("suppressed",), 0),
    (("cancelled",), 0),
    (("dead_lettered",), 0),
    (("dead_lettered", "discarded"), 0),
]


class UnaccountedLaws(StoreHarness):
    """What should have ended."""

    @pytest.mark.parametrize(("kinds", "missed"), _ENDS, ids=["+".join(kinds) or "nothing" for kinds, _ in _ENDS])
    async def test_a_delivery_past_its_expiry_needs_a_fact_that_ends_it(
        self, store: Store, clock: ManualClock, kinds: Sequence[EventKind], missed: int
    ) -> None:
        delivery = a_delivery()
        attempts = {"redriven": 2}
        await store.fold([delivery, *(an_event(delivery, kind, attempt=attempts.get(kind, 1)) for kind in kinds)])

        clock.advance(_LONG + 1)

        found = await store.unaccounted(now=clock.now(), limit=10)
        assert [view.id for view in found] == ([delivery.id] * missed)
        assert (await status_of(store, delivery) == "unaccounted") == bool(missed)
        assert await listed(store, status="unaccounted") == [delivery.id] * missed

    async def test_nothing_is_unaccounted_within_the_grace(self, store: Store, clock: ManualClock) -> None:
        on_time, heard_of = a_delivery(seconds=10), a_delivery()
        await store.fold([on_time, heard_of, an_event(heard_of, "redriven", seconds=3605, attempt=2)])

        clock.advance(_LONG + 2)

        assert list(await store.unaccounted(now=clock.now(), limit=10)) == []
        assert await listed(store, status="accepted") == [on_time.id]
        assert await listed(store, status="deferred") == [heard_of.id]

    async def test_what_is_unaccounted_is_not_listed_as_open(self, store: Store, clock: ManualClock) -> None:
        delivery = a_delivery()
        await store.fold([delivery])

        clock.advance(_LONG + 1)

        assert await listed(store, status="accepted") == []
        assert [view.status for view in await store.notification(delivery.notification_id, tenant=TENANT)] == [
            "unaccounted"
        ]

    async def test_the_oldest_expiry_comes_first(self, store: Store, clock: ManualClock) -> None:
        ours = [a_delivery(seconds=seconds) for seconds in (2, 0, 1)]
        await store.fold(ours)

        clock.advance(_LONG + 10)

        found = await store.unaccounted(now=clock.now(), limit=2)
        assert [view.id for view in found] == [ours[1].id, ours[2].id]

    async def test_what_only_events_tell_of_is_given_the_longest_life(self, store: Store, clock: ManualClock) -> None:
        delivery = a_delivery()
        await store.fold([an_event(delivery, "parked", due=at(86400))])

        clock.advance(timedelta(days=7).total_seconds())
        early = await store.unaccounted(now=clock.now(), limit=1)
        clock.advance(timedelta(days=1).total_seconds() + 901)

        assert list(early) == []
        assert [view.id for view in await store.unaccounted(now=clock.now(), limit=1)] == [delivery.id]

    async def test_dead_letters_are_open_until_they_are_redriven_or_discarded(self, store: Store) -> None:
        ends: list[list[tuple[EventKind, int]]] = [
            [("dead_lettered", 1)],
            [("dead_lettered", 1), ("redriven", 2)],
            [("dead_lettered", 1), ("discarded", 1)],
            [("dead_lettered", 1), ("redriven", 2), ("sent", 2)],
            [("dead_lettered", 1), ("redriven", 2), ("dead_lettered", 2)],
            [("sent", 1)],
        ]
        assert await store.dead_letters_open() == {}
        for channel, times in (("email", 1), ("webhook", 2)):
            for told in ends * times:
                delivery = a_delivery(channel=channel)
                events = [
                    an_event(delivery, kind, attempt=attempt, seconds=seconds)
                    for seconds, (kind, attempt) in enumerate(told)
                ]
                await store.fold([delivery, *events])

        assert await store.dead_letters_open() == {"email": 2, "webhook": 4}

    async def test_a_dead_letter_alone_accounts_for_its_delivery(self, store: Store, clock: ManualClock) -> None:
        delivery = a_delivery()
        await store.fold([a_dead_letter(delivery), a_dead_letter(None, offset=1)])

        clock.advance(_LONG + 1)

        assert await status_of(store, delivery) == "dead_lettered"
        assert list(await store.unaccounted(now=clock.now(), limit=1)) == []

"""Laws about folding: any order, any number of times, any pieces; receipts; what cannot be taken."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4, uuid5

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pabal.errors import StoreRefused
from pabal.notification import Delivery, EventKind, ReceiptKind
from pabal.store.port import DeliveryFilter, RecordPlace, SetAside, Store, StoredFact
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

_KINDS: Sequence[EventKind] = (
    "scheduled",
    "sent",
    "deferred",
    "unknown",
    "parked",
    "rejected",
    "expired",
    "suppressed",
    "cancelled",
    "dead_lettered",
    "redriven",
    "discarded",
)
_REPORTS: Sequence[ReceiptKind] = ("delivered", "deferred", "bounced", "complained", "unsubscribed")


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Delivery], list[StoredFact]]:
    """Two deliveries and facts about them, likely or not."""
    seed = uuid4()  # not drawn: an example must not meet the rows of another
    ours = [a_delivery(of=uuid5(seed, "n"), to=to) for to in ("https://a.example/", "https://b.example/")]
    facts: list[StoredFact] = []
    for number in range(draw(st.integers(1, 12))):
        delivery = draw(st.sampled_from(ours))
        seconds, attempt = draw(st.integers(0, 5)), draw(st.integers(1, 3))
        match draw(st.sampled_from(("delivery", "event", "named", "keyed", "dead"))):
            case "delivery":
                changes = {
                    "attempt": attempt,
                    "accepted_at": at(seconds),
                    "expires_at": at(seconds + 3600),
                    "tags": draw(st.sampled_from([(), ("a",), ("a", "b")])),
                    "send_at": draw(st.sampled_from([None, at(seconds + 1)])),
                }
                facts.append(msgspec.structs.replace(delivery, **changes))
            case "event":
                kind = draw(st.sampled_from(_KINDS))
                due = draw(st.sampled_from([None, at(30), at(60)]))
                name = draw(st.sampled_from([None, f"{seed}-1", f"{seed}-2"])) if kind == "sent" else None
                more: dict[str, Any] = {}
                if kind == "scheduled":
                    more = {"tags": draw(st.sampled_from([(), ("a", "c")])), "expires_at": at(seconds + 3600)}
                facts.append(
                    an_event(delivery, kind, seconds=seconds, attempt=attempt, due=due, provider_id=name, **more)
                )
            case "named":
                name = draw(st.sampled_from([f"{seed}-1", f"{seed}-2"]))
                kind_told = draw(st.sampled_from(_REPORTS))
                facts.append(a_receipt(kind_told, seconds=seconds, event=f"{seed}/{number}", provider_id=name))
            case "keyed":
                kind_told = draw(st.sampled_from(_REPORTS))
                facts.append(a_receipt(kind_told, seconds=seconds, event=f"{seed}/{number}", delivery_id=delivery.id))
            case "dead":
                dead = msgspec.structs.replace(delivery, attempt=attempt)
                offset = seed.int % 2**40 * 16 + number
                facts.append(a_dead_letter(draw(st.sampled_from([None, dead])), offset=offset, seconds=seconds))
    return ours, facts


async def _seen(store: Store, ours: Sequence[Delivery]) -> object:
    """Everything that the store tells of these."""
    notification = ours[0].notification_id
    tagged = await store.deliveries(DeliveryFilter(tag="a"), tenant=TENANT, limit=1000)
    return (
        [await store.delivery(delivery.id, tenant=TENANT) for delivery in ours],
        await store.notification(notification, tenant=TENANT),
        # Lists do not say which of two that were accepted at one instant comes first.
        {view.id: view for view in tagged.deliveries if view.notification_id == notification},
    )


class FoldLaws(StoreHarness):
    """What a fold comes to."""

    # The same law runs on several databases; what it draws does not depend on which.
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(history=histories(), data=st.data())
    async def test_facts_come_to_the_same_in_any_order_any_pieces_and_any_number_of_times(
        self, store: Store, apart: Store, history: tuple[list[Delivery], list[StoredFact]], data: st.DataObject
    ) -> None:
        ours, facts = history
        again = data.draw(st.lists(st.sampled_from(facts), max_size=4), label="told again")
        shuffled = data.draw(st.permutations(facts + again), label="as told")
        cuts = data.draw(st.lists(st.integers(1, len(shuffled)), max_size=4), label="cut at")

        await store.fold(facts)
        for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(shuffled)], strict=True):
            await apart.fold(shuffled[begin:end])

        assert await _seen(apart, ours) == await _seen(store, ours)

    async def test_a_receipt_by_the_providers_id_waits_for_its_send(self, store: Store) -> None:
        delivery = a_delivery()
        await store.fold([delivery, a_receipt("delivered", provider_id="m-1")])
        await store.fold([a_receipt("bounced", event="e-2", provider_id="m-2")])
        before = await status_of(store, delivery)

        await store.fold([an_event(delivery, "sent", provider_id="m-1")])

        assert (before, await status_of(store, delivery)) == ("accepted", "delivered")
        assert [entry.kind for entry in (await view_of(store, delivery)).timeline] == ["sent", "delivered"]

    async def test_a_providers_id_means_nothing_at_another_provider(self, store: Store) -> None:
        delivery = a_delivery()
        await store.fold([delivery, a_receipt("bounced", provider_id="m-1")])

        await store.fold([an_event(delivery, "sent", provider_id="m-1", provider="other")])

        assert await status_of(store, delivery) == "sent"

    async def test_a_receipt_that_names_our_delivery_may_come_before_anything_else(self, store: Store) -> None:
        delivery = a_delivery()
        await store.fold([a_receipt("complained", delivery_id=delivery.id)])
        before = await store.delivery(delivery.id, tenant=TENANT)

        await store.fold([delivery, an_event(delivery, "sent")])

        assert before is None
        assert await status_of(store, delivery) == "complained"

    async def test_a_send_and_its_receipt_find_each_other_when_two_fold_at_once(
        self, stores: tuple[Store, Store]
    ) -> None:
        deliveries = [a_delivery() for _ in range(20)]

        for number, delivery in enumerate(deliveries):
            name = f"m-{number}"
            await asyncio.gather(
                stores[0].fold([an_event(delivery, "sent", provider_id=name)]),
                stores[1].fold([a_receipt("delivered", event=name, provider_id=name)]),
            )

        assert {await status_of(stores[0], delivery) for delivery in deliveries} == {"delivered"}

    async def test_a_batch_may_be_of_any_size(self, store: Store) -> None:
        deliveries = [a_delivery(seconds=number / 1000) for number in range(1500)]
        sent = [an_event(delivery, "sent", provider_id=f"m-{delivery.id}") for delivery in deliveries]
        told = [a_receipt("delivered", event=f"{each.id}", provider_id=f"m-{each.id}") for each in deliveries]

        await store.fold([*deliveries, *sent, *told])
        await store.fold([])

        assert (
            len((await store.deliveries(DeliveryFilter(status="delivered"), tenant=TENANT, limit=2000)).deliveries)
            == 1500
        )

    async def test_what_the_database_never_takes_is_refused_and_nothing_else_is_folded(self, store: Store) -> None:
        delivery = a_delivery()

        with pytest.raises(StoreRefused):
            await store.fold([delivery, a_dead_letter(None, offset=2**70)])

        assert await store.delivery(delivery.id, tenant=TENANT) is None

    @pytest.mark.parametrize("instant", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
    async def test_facts_from_an_end_of_the_calendar_are_folded_and_shown(self, store: Store, instant: str) -> None:
        delivery, when = a_delivery(), datetime.fromisoformat(instant)
        event = msgspec.structs.replace(an_event(delivery, "scheduled", due=when), at=when)
        receipt = msgspec.structs.replace(a_receipt("delivered", delivery_id=delivery.id), at=when)

        await store.fold([delivery, event, receipt])

        assert [view.status for _, view in await store.reported([receipt])] == ["delivered"]
        assert (await view_of(store, delivery)).timeline[0].at == when
        assert len((await store.deliveries(DeliveryFilter(), tenant=TENANT, limit=9)).deliveries) == 1
        assert await store.unaccounted(now=at(10), limit=9) == []

    async def test_texts_of_any_length_are_folded_or_refused(self, store: Store) -> None:
        # Not all alike: PostgreSQL compresses what it files.
        huge = "".join(uuid4().hex for _ in range(4000))
        delivery = a_delivery(to=huge, tags=(huge,))
        facts: list[StoredFact] = [delivery, an_event(delivery, "sent", provider_id=huge), a_delivery()]

        for fact in facts:
            with contextlib.suppress(StoreRefused):
                await store.fold([fact])

        assert await status_of(store, facts[2]) == "accepted"  # type: ignore[arg-type]

    async def test_texts_with_nul_are_folded(self, store: Store) -> None:
        delivery = a_delivery(to="https://example.com/\0", tags=("\0",))
        event = an_event(delivery, "sent", response="200 \0", provider_id="m\0")

        await store.fold([delivery, event, a_receipt("delivered", provider_id="m\0", detail="\0")])

        assert await status_of(store, delivery) == "delivered"
        assert (await view_of(store, delivery)).timeline[0].response == "200 \0"

    async def test_a_delivery_that_only_events_tell_of_has_no_acceptance(self, store: Store) -> None:
        delivery = a_delivery()

        await store.fold([an_event(delivery, "parked", due=at(60))])

        view = await view_of(store, delivery)
        assert (view.status, view.accepted_at, view.expires_at, view.next_due) == ("deferred", None, None, at(60))

    async def test_what_waits_for_its_time_is_known_and_found_as_if_its_own_record_were(self, store: Store) -> None:
        delivery = a_delivery(tags=("order-17",), send_at=at(10800), expires_at=at(20000))
        told = an_event(
            delivery, "scheduled", seconds=0, due=at(10800), expires_at=delivery.expires_at, tags=delivery.tags
        )

        await store.fold([told])

        view = await view_of(store, delivery)
        assert (view.status, view.next_due) == ("scheduled", at(10800))
        assert (view.accepted_at, view.send_at, view.expires_at) == (NOW, at(10800), at(20000))
        assert view.tags == ("order-17",)
        assert await listed(store, tag="order-17", status="scheduled") == [delivery.id]
        await store.fold([delivery])
        assert (await view_of(store, delivery)).accepted_at == NOW
        assert await listed(store, tag="order-17") == [delivery.id]

    async def test_asked_for_twice_a_delivery_was_accepted_the_first_time(self, store: Store) -> None:
        notification = uuid4()
        first, second = (a_delivery(of=notification, seconds=seconds) for seconds in (0, 10))

        await store.fold([second])
        await store.fold([first])

        assert (await view_of(store, first)).accepted_at == NOW


class ReportedLaws(StoreHarness):
    """What facts make known of receipts."""

    async def test_a_receipt_is_reported_with_its_delivery(self, store: Store) -> None:
        delivery = a_delivery()
        keyed, named = (
            a_receipt("bounced", delivery_id=delivery.id),
            a_receipt("bounced", event="e-2", provider_id="m-1"),
        )
        await store.fold([delivery, an_event(delivery, "sent", provider_id="m-1")])

        await store.fold([keyed, named])

        reported = await store.reported([keyed, named])
        assert [(receipt, view.address) for receipt, view in reported] == [
            (keyed, delivery.address),
            (named, delivery.address),
        ]

    async def test_a_receipt_that_was_held_is_reported_with_the_fact_it_was_held_for(self, store: Store) -> None:
        delivery, other = a_delivery(), a_delivery()
        named, keyed = (
            a_receipt("bounced", provider_id="m-1"),
            a_receipt("complained", event="e-2", delivery_id=other.id),
        )
        sent = an_event(delivery, "sent", provider_id="m-1")
        await store.fold([named, keyed])
        before = await store.reported([named, keyed])

        await store.fold([sent, other])

        assert list(before) == []
        assert {(receipt.kind, view.id) for receipt, view in await store.reported([sent, other])} == {
            ("bounced", delivery.id),
            ("complained", other.id),
        }

    async def test_later_facts_do_not_report_a_receipt_again(self, store: Store) -> None:
        delivery = a_delivery()
        later: list[StoredFact] = [
            an_event(delivery, "unknown", attempt=2),
            msgspec.structs.replace(delivery, attempt=2),
            a_receipt("delivered", event="e-2", delivery_id=delivery.id),
        ]
        await store.fold([delivery, a_receipt("bounced", delivery_id=delivery.id), *later])

        reported = await store.reported(later)

        assert [receipt.kind for receipt, _ in reported] == ["delivered"]

    async def test_nothing_is_reported_of_nothing(self, store: Store) -> None:
        delivery = a_delivery()
        await store.fold([delivery, an_event(delivery, "sent", provider_id="m-1")])

        assert list(await store.reported([delivery, an_event(delivery, "sent", provider_id="m-1")])) == []
        assert list(await store.reported([a_receipt("bounced", provider_id="never seen")])) == []


class SetAsideLaws(StoreHarness):
    """What could be neither decoded nor folded."""

    async def test_what_is_set_aside_is_kept_once_by_its_place_and_listed_oldest_first(self, store: Store) -> None:
        first, second = _aside(offset=2, seconds=1), _aside(offset=1, seconds=2)

        await store.set_aside([second, first])
        await store.set_aside([first])

        assert list(await store.aside(limit=9)) == [first, second]
        assert list(await store.aside(limit=1)) == [first]

    async def test_what_is_said_last_of_a_record_holds(self, store: Store) -> None:
        first = _aside(offset=2)
        await store.set_aside([first])

        await store.set_aside([msgspec.structs.replace(first, error="another")])

        assert [each.error for each in await store.aside(limit=9)] == ["another"]

    async def test_any_bytes_and_any_words_are_kept(self, store: Store) -> None:
        kept = [
            _aside(offset=1, start=b"\0\xff" * 2048, size=2**40, error="x" * 1000),
            _aside(offset=2**62, start=b"", size=0, error="\0"),
        ]

        await store.set_aside(kept)

        found = list(await store.aside(limit=9))
        assert found == [kept[0], msgspec.structs.replace(kept[1], error="\ufffd")]

    async def test_what_is_taken_up_is_set_aside_no_more_and_nothing_else(self, store: Store) -> None:
        await store.set_aside([_aside(offset=offset) for offset in (1, 2, 3)])
        await store.set_aside([_aside(offset=2, partition=1)])
        places = [RecordPlace("pabal.events", 0, offset) for offset in (0, 1, 2, 9)]

        taken = await store.take_up(places)
        again = await store.take_up(places)

        assert (taken, again) == (2, 0)
        assert [(each.partition, each.offset) for each in await store.aside(limit=9)] == [(0, 3), (1, 2)]

    async def test_two_that_set_aside_the_same_at_once_do_not_wait_in_a_circle(
        self, stores: tuple[Store, Store]
    ) -> None:
        kept = [_aside(offset=offset) for offset in range(50)]

        await asyncio.gather(stores[0].set_aside(kept), stores[1].set_aside(kept[::-1]))

        assert len(await stores[0].aside(limit=99)) == 50

    async def test_what_was_set_aside_long_ago_is_forgotten(self, store: Store) -> None:
        old, fresh = _aside(offset=1, seconds=0), _aside(offset=2, seconds=5000)
        await store.set_aside([old, fresh])

        await store.prune(before=at(4000))

        assert list(await store.aside(limit=9)) == [fresh]


def _aside(
    *,
    offset: int,
    partition: int = 0,
    seconds: float = 0,
    error: str = "not a delivery event",
    size: int = 3,
    start: bytes = b"{no",
) -> SetAside:
    return SetAside(
        topic="pabal.events",
        partition=partition,
        offset=offset,
        at=at(seconds),
        error=error,
        size=size,
        start=start,
    )


class PruneLaws(StoreHarness):
    """What is forgotten."""

    async def test_what_ended_long_ago_is_forgotten_whole(self, store: Store) -> None:
        old = [a_delivery(seconds=number, tags=("old",)) for number in range(3)]
        await store.fold([*old, *(an_event(each, "sent", seconds=10, provider_id=f"m-{each.id}") for each in old)])
        await store.fold([a_receipt("delivered", event=f"{each.id}", provider_id=f"m-{each.id}") for each in old])
        kept = a_delivery(seconds=5000)
        await store.fold([kept, an_event(kept, "sent", seconds=5001)])

        pruned = await store.prune(before=at(4000))

        assert pruned == 3
        assert [await store.delivery(each.id, tenant=TENANT) for each in old] == [None] * 3
        assert await status_of(store, kept) == "sent"
        assert (await store.deliveries(DeliveryFilter(tag="old"), tenant=TENANT, limit=9)).deliveries == ()
        assert list(await store.reported([an_event(each, "sent", provider_id=f"m-{each.id}") for each in old])) == []

    async def test_what_was_heard_of_since_is_kept(self, store: Store) -> None:
        bounced, waiting = a_delivery(), a_delivery(expires_at=NOW + timedelta(days=6))
        await store.fold([bounced, waiting, a_receipt("bounced", seconds=4001, delivery_id=bounced.id)])

        assert await store.prune(before=at(4000)) == 0
        assert await status_of(store, bounced) == "bounced"

    async def test_forgetting_goes_on_in_steps(self, store: Store) -> None:
        await store.fold([a_delivery(seconds=number / 1000) for number in range(1100)])

        assert await store.prune(before=at(10_000)) == 1100
        assert await store.prune(before=at(10_000)) == 0

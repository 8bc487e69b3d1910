from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pabal.broker.port import NewRecord, Record
from pabal.codec import read_wait
from pabal.delayline.shelf import Shelf, Shelved, released
from pabal.notification import Address, Content, Delivery, delivery_id, notification_id
from pabal.retry import Parked, Wait, place_wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = notification_id(tenant="shop", idempotency_key="k")
DELIVERY = Delivery(
    id=delivery_id(ASKED, Address(channel="email", address="ana@example.com")),
    notification_id=ASKED,
    tenant="shop",
    channel="email",
    address="ana@example.com",
    class_="bulk",
    accepted_at=NOW,
    expires_at=NOW + timedelta(days=3),
    content=Content(title="t", body="x"),
)


def held(*, due_in: float, release_in: float | None = None) -> Shelved:
    wait = Wait(
        due=NOW + timedelta(seconds=due_in),
        release_at=NOW + timedelta(seconds=due_in if release_in is None else release_in),
    )
    record = Record(topic="pabal.delay.bulk.30", partition=0, offset=0, timestamp=0.0, key=b"k", value=b"")
    return Shelved(record=record, wait=wait, following=DELIVERY)


def test_the_head_is_waited_for_exactly() -> None:
    shelf = Shelf()
    shelf.put(held(due_in=5))

    assert shelf.next_release() == NOW + timedelta(seconds=5)
    assert shelf.take_due(NOW + timedelta(seconds=4.999), limit=10) == []
    assert len(shelf.take_due(NOW + timedelta(seconds=5), limit=10)) == 1
    assert shelf.next_release() is None


def test_whoever_is_due_first_leaves_first_however_they_came() -> None:
    shelf = Shelf()
    for seconds in (30, 10, 20):
        shelf.put(held(due_in=30, release_in=seconds))

    assert shelf.next_release() == NOW + timedelta(seconds=10)
    assert [each.wait.release_at.second for each in shelf.take_due(NOW + timedelta(seconds=25), limit=9)] == [10, 20]


def test_what_is_due_leaves_in_order_up_to_the_limit() -> None:
    shelf = Shelf()
    for seconds in (1, 2, 3, 60):
        shelf.put(held(due_in=seconds))

    first = shelf.take_due(NOW + timedelta(seconds=10), limit=2)
    second = shelf.take_due(NOW + timedelta(seconds=10), limit=2)

    assert [each.wait.due.second for each in first + second] == [1, 2, 3]
    assert len(shelf) == 1


def test_what_is_due_goes_to_its_own_topic() -> None:
    record = released(held(due_in=5), NOW + timedelta(seconds=5))

    assert record.topic == "pabal.deliveries.email.bulk"


def test_one_that_is_moved_leaves_at_that_time_and_for_its_own_topic() -> None:
    shelf = Shelf()
    shelf.put(held(due_in=40))

    shelf.move({0: NOW + timedelta(seconds=2)})

    assert shelf.take_due(NOW + timedelta(seconds=1.9), limit=9) == []
    [early] = shelf.take_due(NOW + timedelta(seconds=2), limit=9)
    assert released(early, NOW + timedelta(seconds=2)).topic == "pabal.deliveries.email.bulk"


def test_those_that_are_moved_leave_in_the_order_of_their_new_times() -> None:
    shelf = Shelf()
    for number in range(5):
        record = msgspec.structs.replace(held(due_in=0).record, offset=number)
        shelf.put(msgspec.structs.replace(held(due_in=60 + number), record=record))

    shelf.move({number: NOW + timedelta(seconds=9 - number) for number in range(1, 5)})

    left = shelf.take_due(NOW + timedelta(minutes=2), limit=9)
    assert [each.record.offset for each in left] == [4, 3, 2, 1, 0]


def test_one_that_is_put_to_leave_early_does() -> None:
    shelf = Shelf()
    shelf.put(held(due_in=40))
    shelf.put(held(due_in=60), at=NOW)

    assert [each.wait.due.second for each in shelf.take_due(NOW, limit=9)] == [0]


def test_a_park_of_several_hops_says_in_each_for_whom_it_waits() -> None:
    first = held(due_in=40, release_in=30)
    wait = msgspec.structs.replace(first.wait, parked=Parked(callee="smtp a", at=NOW))

    record = released(msgspec.structs.replace(first, wait=wait), NOW + timedelta(seconds=30))

    assert dict(record.headers)["x-parked-for"] == b"smtp a"


def test_what_is_not_due_yet_takes_the_next_rung() -> None:
    record = released(held(due_in=40, release_in=30), NOW + timedelta(seconds=30))

    assert record.topic == "pabal.delay.bulk.5"
    wait = read_wait(
        Record(topic="", partition=0, offset=0, timestamp=0.0, key=None, value=None, headers=record.headers)
    )
    assert (wait.due, wait.release_at) == (NOW + timedelta(seconds=40), NOW + timedelta(seconds=35))


def test_unreadable_bytes_go_where_they_were_sent() -> None:
    dead = NewRecord(topic="pabal.dead.unknown", key=None, value=b"?")

    assert released(msgspec.structs.replace(held(due_in=0), following=dead), NOW) == dead


@given(st.floats(min_value=0.001, max_value=30 * 86400), st.lists(st.floats(0, 0.5), max_size=20))
def test_any_wait_down_the_rungs_is_never_early_and_late_by_less_than_a_rung_and_its_polls(
    wait: float, polls: list[float]
) -> None:
    due = NOW + timedelta(seconds=wait)
    now = NOW
    hops = 0
    while now < due:
        _, hop = place_wait(due=due, now=now, class_="bulk")
        assert now < hop.release_at <= due
        late = polls[hops % len(polls)] if polls else 0.0
        now = hop.release_at + timedelta(seconds=late)
        hops += 1

    assert now - due <= timedelta(seconds=0.5)
    assert hops <= 30 * 86400 / 21600 + 25

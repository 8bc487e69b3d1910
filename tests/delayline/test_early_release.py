"""Deliveries parked for a callee that answers again: when each leaves, and which keep waiting."""

import math
from datetime import datetime, timedelta
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.broker.port import Record, TopicPartition
from pabal.delayline.early_release import FIRST_PER_SECOND, MOST_PER_SECOND, EarlyReleases, SlowStart
from pabal.delayline.shelf import Shelf, Shelved
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.ops.recoveries import Recovery, recovery_key
from pabal.retry import Parked, Wait
from tests.delayline.test_shelf import DELIVERY, NOW

SECOND = timedelta(seconds=1)
KEY = recovery_key("email", "smtp a")
BULK = TopicPartition("pabal.delay.bulk.600", 0)
CRITICAL = TopicPartition("pabal.delay.critical.600", 0)


def recovery(*, at: datetime = NOW) -> Recovery:
    return Recovery(channel="email", callee="smtp a", at=at)


def parked(
    offset: int = 0,
    *,
    callee: str = "smtp a",
    at: datetime = NOW - SECOND,
    due_in: float = 300.0,
    shelf: TopicPartition = BULK,
) -> Shelved:
    due = NOW + due_in * SECOND
    return Shelved(
        record=Record(topic=shelf.topic, partition=0, offset=offset, timestamp=0.0, key=b"k", value=b""),
        wait=Wait(due=due, release_at=due, parked=Parked(callee=callee, at=at)),
        following=msgspec.structs.replace(DELIVERY, class_="critical" if shelf is CRITICAL else "bulk"),
    )


def returns(*heard: Recovery | None, now: datetime = NOW) -> EarlyReleases:
    one = EarlyReleases()
    for each in heard:
        one.hear({KEY: each}, now=now)
    return one


def shelf_of(*held: Shelved) -> Shelf:
    shelf = Shelf()
    for each in held:
        shelf.put(each)
    return shelf


def test_the_first_second_brings_a_few_and_each_that_follows_twice_as_many() -> None:
    start = SlowStart(parked_before=NOW, now=NOW)

    places = [(start.next_time(NOW) - NOW).total_seconds() for _ in range(496)]

    in_second = [sum(second <= at < second + 1 for at in places) for second in range(5)]
    assert in_second == pytest.approx([FIRST_PER_SECOND * 2**second for second in range(5)], rel=0.05, abs=1.5)


def test_the_steps_end_at_what_a_worker_can_send() -> None:
    start = SlowStart(parked_before=NOW, now=NOW)

    places = [(start.next_time(NOW) - NOW).total_seconds() for _ in range(20_000)]

    assert places[-1] - places[-1 - int(MOST_PER_SECOND)] == pytest.approx(1.0, abs=0.01)


@given(st.lists(st.floats(0, 120), max_size=200))
def test_places_follow_one_another_and_none_is_in_the_past(waits: list[float]) -> None:
    start = SlowStart(parked_before=NOW, now=NOW)
    now = NOW
    places: list[datetime] = []
    for wait in waits:
        now += wait * SECOND if len(places) % 7 == 0 else timedelta()
        places.append(start.next_time(now))
        assert places[-1] >= now

    # Exact but for the microseconds that instants have.
    assert all(later - earlier >= 0.99 / MOST_PER_SECOND * SECOND for earlier, later in pairwise(places))


@given(st.integers(1, 3000), st.floats(0.1, 600))
def test_who_is_on_the_shelf_leaves_after_the_return_was_said_and_no_later_than_due(count: int, due_in: float) -> None:
    shelf = shelf_of(*(parked(number, due_in=due_in) for number in range(count)))

    times = returns(recovery()).reconsider({BULK: shelf}, about=[KEY], now=NOW)[BULK].values()

    assert len(times) == count
    assert all(NOW <= at <= NOW + due_in * SECOND for at in times)
    fitting = math.ceil(FIRST_PER_SECOND * (2**due_in - 1)) if due_in < 5 else count
    assert sum(at < NOW + due_in * SECOND for at in times) <= fitting + 1


def test_one_that_waits_for_somebody_else_or_for_the_time_waits_on() -> None:
    other = parked(callee="smtp b")
    timed = msgspec.structs.replace(parked(), wait=Wait(due=NOW + SECOND, release_at=NOW + SECOND))
    elsewhere = msgspec.structs.replace(parked(), following=msgspec.structs.replace(DELIVERY, channel="webhook"))

    one = returns(recovery())

    assert [one.time_of(each, now=NOW) for each in (other, timed, elsewhere)] == [None, None, None]


def test_one_that_was_parked_after_the_return_waits_until_it_is_due() -> None:
    one = returns(recovery())

    assert one.time_of(parked(at=NOW), now=NOW + SECOND) is None
    assert one.time_of(parked(at=NOW - SECOND), now=NOW + SECOND) == NOW + SECOND


def test_a_clock_that_is_ahead_lets_nobody_go_who_is_parked_from_now_on() -> None:
    one = returns(recovery(at=NOW + timedelta(hours=1)))

    assert one.time_of(parked(at=NOW + SECOND), now=NOW + SECOND) is None


def test_the_more_urgent_class_has_the_first_places_and_within_it_who_is_due_first() -> None:
    bulk = shelf_of(parked(0, due_in=200), parked(1, due_in=100))
    critical = shelf_of(parked(0, shelf=CRITICAL))

    times = returns(recovery()).reconsider({BULK: bulk, CRITICAL: critical}, about=[KEY], now=NOW)

    assert times[CRITICAL][0] < times[BULK][1] < times[BULK][0]


def test_there_is_one_count_for_all_partitions_and_for_what_is_polled_later() -> None:
    one = returns(recovery())
    shelves = {BULK: shelf_of(*map(parked, range(100))), CRITICAL: shelf_of(parked(0, shelf=CRITICAL))}

    times = one.reconsider(shelves, about=[KEY], now=NOW)
    later = one.time_of(parked(100), now=NOW)

    assert later is not None
    assert len({at for each in times.values() for at in each.values()}) == 101
    assert later > max(at for each in times.values() for at in each.values())


def test_a_return_that_is_taken_back_leaves_everybody_until_due() -> None:
    one, shelf = returns(recovery()), shelf_of(*map(parked, range(40)))
    shelf.move(one.reconsider({BULK: shelf}, about=[KEY], now=NOW)[BULK])

    one.hear({KEY: None}, now=NOW + SECOND)
    shelf.move(one.reconsider({BULK: shelf}, about=[KEY], now=NOW + SECOND)[BULK])

    assert {at for at, _ in shelf} == {NOW + 300 * SECOND}
    assert one.time_of(parked(40), now=NOW + SECOND) is None


def test_what_is_said_again_changes_nothing() -> None:
    one, shelf = returns(recovery()), shelf_of(*map(parked, range(40)))
    shelf.move(one.reconsider({BULK: shelf}, about=[KEY], now=NOW)[BULK])

    later = NOW + 60 * SECOND
    one.hear({KEY: recovery()}, now=later)

    assert one.reconsider({BULK: shelf}, about=[KEY], now=later) == {}
    # At the rate of the moment: the steps do not begin anew.
    assert [one.time_of(parked(number), now=later) for number in (40, 41)] == [later, later + SECOND / MOST_PER_SECOND]


def test_another_worker_that_finds_it_well_adds_its_own_to_those_on_their_way() -> None:
    one = returns(recovery())
    last = max(one.time_of(parked(number), now=NOW) or NOW for number in range(100))

    one.hear({KEY: recovery(at=NOW + SECOND)}, now=NOW + SECOND)

    place = one.time_of(parked(100, at=NOW + SECOND / 2), now=NOW + SECOND)
    assert place is not None
    assert last < place < last + SECOND / 10


def test_a_return_after_all_have_gone_begins_with_the_smallest_step() -> None:
    one = returns(recovery())
    for number in range(2_000):
        one.time_of(parked(number), now=NOW)
    later = NOW + 100 * SECOND

    one.hear({KEY: recovery(at=later)}, now=later)

    places = [one.time_of(parked(number, at=later - SECOND), now=later) for number in range(10)]
    assert all(place is not None for place in places)
    assert (places[9] or later) - later > SECOND / 2


def test_a_return_of_long_ago_is_of_no_account() -> None:
    long_ago = NOW - timedelta(seconds=LONGEST_PARK_SECONDS + 1)

    one = returns(recovery(at=long_ago))

    assert one.time_of(parked(at=long_ago - SECOND), now=NOW) is None


def test_what_is_news_is_told_from_what_is_not() -> None:
    one = EarlyReleases()

    news = [
        one.hear({KEY: None}, now=NOW),
        one.hear({KEY: recovery()}, now=NOW),
        one.hear({KEY: recovery()}, now=NOW),
        one.hear({KEY: recovery(at=NOW + SECOND)}, now=NOW + SECOND),
        one.hear({KEY: None}, now=NOW + SECOND),
    ]

    assert [list(each) for each in news] == [[], [KEY], [], [KEY], [KEY]]


def test_a_clock_that_was_set_back_is_in_nobodys_way() -> None:
    one = returns(recovery())
    earlier = NOW - 3600 * SECOND

    one.hear({KEY: recovery(at=earlier)}, now=earlier)

    assert one.time_of(parked(at=earlier - SECOND), now=earlier) == earlier

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.guard.limit import START, START_AFTER_OUTAGE, Limit


def round_trip(limit: Limit, *, now: float, took: float = 0.02, is_ok: bool = True) -> float:
    """As many calls as the limit allows, all at once; returns when they have ended."""
    begun = 0
    while limit.has_room:
        limit.in_flight += 1
        limit.call(now)
        begun += 1
    for _ in range(begun):
        limit.end(is_ok=is_ok, began=now, now=now + took)
        limit.in_flight -= 1
    return now + took


def test_an_unknown_host_is_trusted_with_a_few_calls_and_more_as_they_go_well() -> None:
    limit = Limit(most=128)
    assert limit.value == START

    now, values = 0.0, []
    for _ in range(4):
        now = round_trip(limit, now=now)
        values.append(limit.value)

    assert values == sorted(values)
    assert values[0] > START
    assert values[-1] > 3 * START


@pytest.mark.parametrize("is_ok", [False, True], ids=["failures", "slowness"])
def test_failures_and_slowness_cut_it_once_for_the_calls_of_one_moment(is_ok: bool) -> None:
    limit = Limit(most=128)
    now = round_trip(limit, now=0.0)
    before = limit.value

    round_trip(limit, now=now, took=0.02 if not is_ok else 1.0, is_ok=is_ok)

    assert before * 0.6 < limit.value < before


def test_after_a_cut_it_grows_by_one_for_each_limits_worth_of_calls() -> None:
    limit = Limit(most=128)
    now = round_trip(limit, now=0.0)
    now = round_trip(limit, now=now, is_ok=False)
    before = limit.value

    round_trip(limit, now=now)

    assert limit.value == pytest.approx(before + 0.75, abs=0.3)


def test_repeated_failures_leave_one_call_and_success_brings_it_back() -> None:
    limit = Limit(most=64)
    now = 0.0
    for _ in range(20):
        now = round_trip(limit, now=now, is_ok=False)
    assert limit.value == 1.0

    for _ in range(400):
        now = round_trip(limit, now=now)

    assert limit.value > 16


def test_after_an_outage_it_doubles_once_a_second_however_fast_the_calls_are() -> None:
    limit = Limit(most=16)
    limit.start_low(100.0)
    assert limit.value == START_AFTER_OUTAGE

    now, by_second = 100.0, {}
    while now < 105.0:
        now = round_trip(limit, now=now)
        by_second[int(now)] = limit.value

    assert by_second == {100: 2.0, 101: 4.0, 102: 8.0, 103: 16.0, 104: 16.0, 105: 16.0}


def test_calls_far_below_the_limit_do_not_raise_it() -> None:
    limit = Limit(most=128)

    for second in range(100):
        limit.in_flight += 1
        limit.call(second)
        limit.end(is_ok=True, began=second, now=second + 0.02)
        limit.in_flight -= 1

    assert limit.value == START


def test_a_host_that_answers_nothing_is_known_to_be_slow_before_any_call_ends() -> None:
    limit = Limit(most=128)
    limit.in_flight += 1
    limit.call(10.0)

    assert limit.latency(13.0) == 3.0


def test_who_has_ended_no_call_for_a_second_does_not_answer_unless_it_usually_takes_as_long() -> None:
    limit = Limit(most=32)
    assert limit.is_answering(0.0)

    limit.call(10.0)

    assert limit.is_answering(11.0)
    assert not limit.is_answering(11.1)
    limit.end(is_ok=True, began=10.0, now=12.0)
    assert limit.is_answering(100.0)
    limit.call(100.0)
    assert limit.is_answering(104.2)
    assert not limit.is_answering(104.3)


def test_a_fixed_limit_is_not_cut_but_begins_low_after_an_outage() -> None:
    limit = Limit(most=32)
    limit.fix()

    now = round_trip(limit, now=0.0, is_ok=False)
    assert limit.value == 32
    limit.start_low(now)
    assert limit.value == START_AFTER_OUTAGE


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 5)), max_size=100), st.integers(1, 200))
def test_it_stays_between_one_and_the_most(ends: list[tuple[bool, float]], most: int) -> None:
    limit, now = Limit(most=most), 0.0
    for is_ok, took in ends:
        now = round_trip(limit, now=now, took=took, is_ok=is_ok)

        assert 1.0 <= limit.value <= most
        assert limit.in_flight == 0

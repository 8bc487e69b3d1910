from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.guard.rate import BURST_SECONDS, Rate


def test_without_a_rate_there_is_no_wait() -> None:
    rate = Rate(None)
    rate.take(0.0)

    assert rate.ready_in(0.0) == 0.0


def test_a_share_of_nothing_lets_nothing_through() -> None:
    assert Rate(0.0).ready_in(100.0) > 0.0


def test_a_call_that_was_not_made_is_given_back() -> None:
    rate = Rate(1.0)
    rate.take(0.0)
    assert rate.ready_in(0.0) > 0.0

    rate.give_back()

    assert rate.ready_in(0.0) == 0.0


@settings(deadline=None)
@given(st.floats(0.5, 500), st.lists(st.floats(0, 2), min_size=1, max_size=200))
def test_no_stretch_of_time_sees_more_than_its_rate(per_second: float, pauses: list[float]) -> None:
    rate, now, taken = Rate(per_second), 0.0, []
    for pause in pauses:
        now += pause
        while rate.ready_in(now) == 0.0:
            rate.take(now)
            taken.append(now)

    for first in range(0, len(taken), 7):
        seconds = taken[-1] - taken[first]
        assert len(taken) - first <= (seconds + BURST_SECONDS) * per_second + 1.001


@settings(deadline=None)
@given(st.floats(1, 500))
def test_what_waits_all_the_time_gets_the_whole_rate(per_second: float) -> None:
    rate, now, taken = Rate(per_second), 0.0, 0
    while now < 5.0:
        while rate.ready_in(now) == 0.0:
            rate.take(now)
            taken += 1
        now += 0.05

    assert taken >= 5.0 * per_second * 0.95 - 1

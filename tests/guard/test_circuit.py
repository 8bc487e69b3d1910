import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.guard.circuit import Circuit, CircuitSettings

SETTINGS = CircuitSettings(minimum_calls=10, window_seconds=30.0, open_seconds=5.0, longest_open_seconds=60.0)


def circuit(settings: CircuitSettings = SETTINGS) -> Circuit:
    return Circuit(settings, random=lambda: 0.0)


def end(one: Circuit, *, ok: int = 0, bad: int = 0, now: float = 0.0) -> None:
    for is_ok in [True] * ok + [False] * bad:
        one.end(is_ok=is_ok, is_probe=False, now=now)


def probe(one: Circuit, *, is_ok: bool, now: float) -> None:
    assert one.admits(now)
    one.end(is_ok=is_ok, is_probe=one.begin(), now=now)


@pytest.mark.parametrize(
    ("ok", "bad", "state"),
    [(0, 9, "closed"), (0, 10, "open"), (6, 5, "closed"), (5, 5, "open"), (100, 99, "closed")],
)
def test_it_opens_on_a_failure_ratio_over_a_minimum_volume(ok: int, bad: int, state: str) -> None:
    one = circuit()

    end(one, ok=ok, bad=bad)

    assert one.state == state


def test_failures_beyond_the_window_are_forgotten() -> None:
    one = circuit()

    end(one, bad=9, now=0.0)
    end(one, bad=9, now=30.0)

    assert one.state == "closed"


def test_failures_of_both_halves_of_the_window_count_together() -> None:
    one = circuit()

    end(one, bad=5, now=14.0)
    end(one, bad=5, now=16.0)

    assert one.state == "open"


def test_an_open_circuit_admits_nothing_until_its_time_is_over() -> None:
    one = circuit()
    end(one, bad=10, now=100.0)

    assert not one.admits(104.9)
    assert one.reopens_in(101.0) == pytest.approx(4.0)
    assert one.admits(105.0)
    assert one.state == "half_open"


def test_only_a_few_probes_go_while_it_is_half_open() -> None:
    one = circuit()
    end(one, bad=10)

    begun = 0
    while one.admits(5.0):
        one.begin()
        begun += 1

    assert begun == SETTINGS.successes_to_close


def test_good_probes_close_it_and_the_count_begins_anew() -> None:
    one = circuit()
    end(one, bad=10)

    for _ in range(3):
        probe(one, is_ok=True, now=5.0)
    end(one, bad=9, now=5.0)

    assert one.state == "closed"


def test_a_bad_probe_opens_it_for_twice_as_long_up_to_the_longest() -> None:
    one = circuit()
    end(one, bad=10, now=0.0)
    opened = [one.open_until]

    for _ in range(6):
        probe(one, is_ok=False, now=opened[-1])
        opened.append(one.open_until)

    lengths = [until - since for since, until in zip([0.0, *opened], opened, strict=False)]
    assert lengths == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def test_calls_begun_before_it_opened_are_no_probes() -> None:
    one = circuit()
    end(one, bad=10)
    assert one.admits(5.0)

    end(one, bad=5, now=5.0)
    end(one, ok=5, now=5.0)

    assert one.state == "half_open"


def test_a_probe_that_was_not_made_leaves_its_place_to_another() -> None:
    one = circuit()
    end(one, bad=10)
    for _ in range(3):
        assert one.admits(5.0)
        one.begin()

    one.give_back(is_probe=True)

    assert one.admits(5.0)


def test_one_certain_failure_opens_it_unless_other_calls_succeed() -> None:
    alone, among_good = circuit(), circuit()
    end(among_good, ok=2)

    for each in (alone, among_good):
        each.end(is_ok=False, is_probe=False, now=0.0, is_certain=True)

    assert (alone.state, among_good.state) == ("open", "closed")


def test_it_stays_open_until_the_time_that_the_far_side_named() -> None:
    one = circuit()

    one.end(is_ok=False, is_probe=False, now=0.0, is_certain=True, not_before=90.0)

    assert one.open_until == 90.0


def test_reopenings_are_spread() -> None:
    one = Circuit(SETTINGS, random=lambda: 1.0)

    one.trip(0.0)

    assert one.open_until == pytest.approx(6.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 20)), max_size=200), st.integers(1, 3))
def test_it_never_gets_stuck_and_never_probes_more_than_it_may(
    steps: list[tuple[bool, bool, float]], successes: int
) -> None:
    own = CircuitSettings(minimum_calls=3, successes_to_close=successes, failures_to_open=4 - successes)
    one, now, probes = circuit(own), 0.0, []
    for is_ok, begins, passed in steps:
        now += passed
        if begins and one.admits(now):
            probes.append(one.begin())
        elif probes:
            one.end(is_ok=is_ok, is_probe=probes.pop(), now=now)
        if one.state == "half_open":
            assert one._probes.under_way <= 3

    for is_probe in probes:
        one.end(is_ok=True, is_probe=is_probe, now=now)
    for _ in range(8):
        now += 61.0 * 1.2
        assert one.admits(now)
        one.end(is_ok=True, is_probe=one.begin(), now=now)
    assert one.state == "closed"

"""For how long a callee has those parked whom it cannot take."""

from collections.abc import Callable

import pytest

from pabal.guard.callee import Callee
from pabal.guard.circuit import CircuitSettings
from pabal.guard.parks import FIRST_PARK_SECONDS, LONGEST_PARK_SECONDS, RETURNS_PER_SECOND


def a_callee(
    *,
    random: Callable[[], float] = lambda: 0.0,
    on_change: Callable[[Callee, float], None] = lambda _callee, _now: None,
) -> Callee:
    return Callee(
        "hooks example.com",
        most=100.0,
        rate_per_second=None,
        circuit=CircuitSettings(),
        random=random,
        on_change=on_change,
    )


def recover(callee: Callee, *, now: float) -> None:
    """Probes that end well close its circuit."""
    while callee.state != "closed":
        assert callee.is_free(now)
        is_probe = callee.begin(now)
        callee.limit.call(now)
        callee.end(is_ok=True, is_probe=is_probe, began=now, now=now)
        callee.leave()


def test_those_parked_for_one_that_does_not_answer_come_back_as_a_trickle() -> None:
    callee = a_callee()
    callee.trip(1_000.0)

    seconds = [callee.park_seconds(parks=0, now=1_000.0) for _ in range(100)]

    assert seconds == pytest.approx([FIRST_PARK_SECONDS + turn / RETURNS_PER_SECOND for turn in range(1, 101)])


def test_how_many_were_parked_while_it_was_silent_holds_up_nobody_once_it_answers() -> None:
    callee = a_callee()
    callee.trip(1_000.0)
    for _ in range(5_000):
        callee.park_seconds(parks=0, now=1_000.0)
    recover(callee, now=1_010.0)

    seconds = callee.park_seconds(parks=0, now=1_010.0)

    assert seconds == pytest.approx(FIRST_PARK_SECONDS)


def test_a_backlog_that_is_parked_again_and_again_for_hours_is_forgotten_within_the_longest_park() -> None:
    callee = a_callee()
    now = 1_000.0
    for _ in range(10):
        callee.trip(now)
        for _ in range(20_000):
            callee.park_seconds(parks=10, now=now)
        now += LONGEST_PARK_SECONDS
    now += 60.0
    recover(callee, now=now)
    callee.trip(now)

    seconds = callee.park_seconds(parks=0, now=now)

    assert seconds == pytest.approx(FIRST_PARK_SECONDS + 1 / RETURNS_PER_SECOND)


def test_a_callee_tells_that_it_is_back_whether_anything_was_parked_for_it_since_it_was_well() -> None:
    told: list[tuple[str, bool]] = []
    callee = a_callee(on_change=lambda callee, _now: told.append((callee.state, callee.has_parked)))

    callee.trip(1_000.0)
    callee.park_seconds(parks=0, now=1_000.0)
    recover(callee, now=1_010.0)
    callee.trip(2_000.0)
    recover(callee, now=2_010.0)

    assert told == [("open", False), ("closed", True), ("open", False), ("closed", False)]


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_no_park_is_longer_than_the_longest(spread: float) -> None:
    callee = a_callee(random=lambda: spread)
    callee.trip(1_000.0)

    longest = max(callee.park_seconds(parks=parks, now=1_000.0) for parks in range(30) for _ in range(1_000))

    assert longest <= LONGEST_PARK_SECONDS
    assert longest > LONGEST_PARK_SECONDS * 0.8


def test_nobody_comes_back_before_the_circuit_reopens() -> None:
    callee = a_callee()
    callee.circuit.trip(1_000.0, not_before=1_000.0 + LONGEST_PARK_SECONDS)

    assert callee.park_seconds(parks=0, now=1_000.0) == pytest.approx(LONGEST_PARK_SECONDS)

"""When a fenced member may take its name's place again."""

import pytest

from pabal.broker.kafka.place import OWN_REQUESTS_SECONDS, NamedPlace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def cut_off(clock: Clock) -> NamedPlace:
    place = NamedPlace(clock=clock)
    place.joined()
    place.lost()
    place.settle()
    return place


def test_who_was_never_cut_off_was_fenced_by_another(clock: Clock) -> None:
    place = NamedPlace(clock=clock)
    place.joined()
    place.settle()

    assert not place.may_return()


def test_a_loss_that_comes_with_the_fencing_is_no_cut(clock: Clock) -> None:
    place = NamedPlace(clock=clock)
    place.joined()
    place.lost()

    assert not place.may_return()


def test_however_long_the_outage_whoever_was_cut_off_may_return(clock: Clock) -> None:
    place = cut_off(clock)
    clock.now += 10 * OWN_REQUESTS_SECONDS

    assert place.may_return()


@pytest.mark.parametrize(("seconds", "may"), [(OWN_REQUESTS_SECONDS - 1, True), (OWN_REQUESTS_SECONDS, False)])
def test_a_former_self_is_to_blame_for_a_minute_after_the_member_is_back(
    clock: Clock, seconds: float, may: bool
) -> None:
    place = cut_off(clock)
    place.joined()
    clock.now += seconds

    assert place.may_return() is may


@pytest.mark.parametrize(("seconds", "may"), [(OWN_REQUESTS_SECONDS - 1, False), (OWN_REQUESTS_SECONDS, True)])
def test_who_returned_is_not_to_return_again_within_a_minute_even_when_cut_off_anew(
    clock: Clock, seconds: float, may: bool
) -> None:
    place = cut_off(clock)
    place.returned()
    clock.now += seconds
    place.lost()
    place.settle()

    assert place.may_return() is may

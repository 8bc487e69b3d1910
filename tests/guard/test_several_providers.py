"""Several providers of one channel: who is asked, and who waits for whom."""

import pytest

from pabal.guard import Full, Guarded, InQueue, NoSuchProvider, ParkFor, Shut
from pabal.outcome import Accepted, Misconfigured
from tests.guard.lab import Lab, permits


def test_several_providers_share_by_weight_and_what_one_refuses_another_carries() -> None:
    lab = Lab(providers={"a": Guarded(weight=9), "b": Guarded(weight=1)})
    first = [permit.provider for permit in permits(lab.ask, most=10)]
    assert (first.count("a"), first.count("b")) == (9, 1)

    lab.call(Misconfigured(reason="quota"), pinned="a")

    assert {permit.provider for permit in permits(lab.ask, most=5)} == {"b"}


def test_a_provider_that_is_back_begins_with_a_tenth_of_its_weight() -> None:
    lab = Lab(providers={"a": Guarded(), "b": Guarded()})
    lab.call(Misconfigured(reason="quota"), pinned="a")
    lab.now += 5.1
    lab.call(Accepted(), pinned="a", count=3)

    chosen = []
    for _ in range(22):
        permit = lab.permit()
        chosen.append(permit.provider)
        permit.release(lab.now)

    assert (chosen.count("a"), chosen.count("b")) == (2, 20)


def test_what_is_pinned_waits_for_its_provider_while_the_others_go_on() -> None:
    lab = Lab(providers={"a": Guarded(), "b": Guarded()})
    lab.call(Misconfigured(reason="quota"), pinned="a")

    assert isinstance(lab.ask(pinned="a"), ParkFor)
    assert lab.permit(pinned="b").provider == "b"
    lab.now += 3.5
    assert isinstance(lab.ask(pinned="a"), InQueue)


@pytest.mark.parametrize("providers", [{"a": Guarded()}, {"a": Guarded(), "b": Guarded()}])
def test_a_pin_to_a_provider_that_is_gone_is_said(providers: dict[str, Guarded]) -> None:
    assert Lab(providers=providers).ask(pinned="gone") == NoSuchProvider("gone")


def test_all_providers_down_is_shut_and_one_that_is_busy_is_full() -> None:
    lab = Lab(concurrency=4, providers={"a": Guarded(), "b": Guarded()})
    lab.call(Misconfigured(reason="quota"), pinned="a")
    held = list(permits(lab.ask))
    assert len(held) == 4

    assert isinstance(lab.ask(), Full)
    held[0].call(lab.now)
    held[0].end(Misconfigured(reason="quota"), lab.now)
    held[0].release(lab.now)

    assert isinstance(lab.ask(), Shut)

"""One host among many: refused alone, asked again, waited for in line, held to its share and its rate."""

import pytest

from pabal.guard import GuardSettings, InQueue, ParkFor, Permit
from pabal.guard import hosts as module
from pabal.outcome import Accepted, Deferred, Outcome
from tests.guard.lab import DOWN, GONE, LOST, REFUSED, Lab, permits


def test_a_host_that_fails_is_parked_and_another_is_called() -> None:
    lab = Lab()

    lab.call(DOWN, count=10)

    answer = lab.ask()
    assert isinstance(answer, ParkFor)
    assert answer.seconds == pytest.approx(5.2, abs=0.02)
    assert answer.by == "hooks a"
    lab.call(Accepted(), "https://b/")


@pytest.mark.parametrize("outcome", [Accepted(), GONE])
def test_a_recipients_own_fault_is_no_failure(outcome: Outcome) -> None:
    lab = Lab()

    lab.call(outcome, count=50)

    lab.permit()


def test_paths_and_tenants_of_one_host_share_its_circuit() -> None:
    lab = Lab()

    lab.call(DOWN, "https://a/one", count=10)

    assert isinstance(lab.ask("https://a/two", tenant="other"), ParkFor)


def test_parks_in_a_row_double_up_to_ten_minutes() -> None:
    lab = Lab()
    lab.call(DOWN, count=10)

    seconds = [lab.ask(parks=parks).seconds for parks in range(9)]

    # The k-th has k fifths of a second of queue before it. Nothing is spread here; 500 is what a spread of a fifth
    # makes ten minutes at most.
    assert seconds == pytest.approx([5.2, 10.4, 20.6, 40.8, 81.0, 161.2, 321.4, 500.0, 500.0], abs=0.02)


def test_what_waits_for_a_host_that_does_not_answer_comes_back_as_a_trickle() -> None:
    lab = Lab()
    lab.call(DOWN, count=10)

    seconds = [lab.ask().seconds for _ in range(1000)]

    assert seconds == pytest.approx([5.0 + number / 5.0 for number in range(1, 1001)], abs=0.02)


def test_a_refusal_that_is_nearly_over_is_waited_for_in_line() -> None:
    lab = Lab()
    lab.call(DOWN, count=10)

    lab.now += 3.5

    answer = lab.ask()
    assert isinstance(answer, InQueue)
    assert answer.callee.name == "hooks a"


@pytest.mark.parametrize("address_only", [False, True])
def test_a_retry_after_is_honoured_but_for_no_more_than_ten_minutes(address_only: bool) -> None:
    lab = Lab()
    lab.call(Deferred(reason="429", retry_after_seconds=120.0, address_only=address_only), "https://a/")
    lab.call(Deferred(reason="429", retry_after_seconds=86_400.0, address_only=address_only), "https://b/")

    assert lab.ask("https://a/").seconds == pytest.approx(120.2, abs=0.02)
    assert lab.ask("https://b/").seconds == pytest.approx(600.0, abs=0.1)


def test_a_retry_after_among_good_answers_concerns_its_delivery_alone() -> None:
    lab = Lab()
    lab.call(Accepted(), count=5)

    lab.call(Deferred(reason="429", retry_after_seconds=120.0))

    lab.permit()


def test_a_host_that_is_back_is_asked_by_probes_and_begins_low() -> None:
    lab = Lab()
    lab.call(DOWN, count=10)
    lab.now += 5.1

    probes = [lab.permit() for _ in range(3)]
    assert isinstance(lab.ask(), InQueue)
    for probe in probes:
        probe.call(lab.now)
        probe.end(Accepted(), lab.now)
        probe.release(lab.now)

    assert lab.changes == [("hooks a", "open"), ("hooks a", "closed")]
    assert len([answer for answer in (lab.ask() for _ in range(10)) if isinstance(answer, Permit)]) == 2


def test_one_host_cannot_hold_every_slot() -> None:
    lab = Lab(concurrency=14)

    held = [*permits(lambda: lab.ask(tenant="one")), *permits(lambda: lab.ask(tenant="two"))]

    assert len(held) == 12
    assert lab.ask(tenant="three").callee.name == "hooks a"
    lab.permit("https://b/")


def test_one_tenant_cannot_hold_every_slot_of_a_host() -> None:
    lab = Lab(concurrency=14)

    held = list(permits(lab.ask))

    assert len(held) == 10
    assert lab.ask().callee.name == "hooks a tenant shop"
    lab.permit(tenant="other")


def test_a_line_holds_what_can_be_served_in_about_two_seconds() -> None:
    lab = Lab(concurrency=14)
    held = list(permits(lab.ask))
    host = held[0].callees[0]
    for permit in held:
        permit.call(lab.now)

    assert host.room(lab.now) > 1000
    assert host.room(lab.now + 1.0) == 2 * 10
    assert host.room(lab.now + 10.0) == 2


def test_the_line_of_a_host_that_is_well_is_judged_by_the_limit_it_will_have() -> None:
    lab = Lab(concurrency=128)
    lab.call(Accepted(), count=5)

    room = lab.permit().callees[0].room(lab.now)

    assert room == pytest.approx(2.0 * 103 / 0.01, rel=0.01)


def test_what_does_not_fit_into_a_line_is_parked_one_turn_after_the_other() -> None:
    lab = Lab(concurrency=14)
    held = list(permits(lab.ask))
    for permit in held:
        permit.call(lab.now)
    lab.now += 6.0
    for permit in held:
        permit.end(Accepted(), lab.now)

    seconds = [held[0].callees[0].park_seconds(parks=0, now=lab.now) for _ in range(40)]

    assert seconds == pytest.approx([max(5.0, 0.6 * turn) for turn in range(1, 41)])


def test_a_hosts_rate_is_its_own() -> None:
    lab = Lab(settings=GuardSettings(host_rate_per_second=1.0))
    lab.call(Accepted())

    assert isinstance(lab.ask(), InQueue)
    lab.permit("https://b/")


def test_hosts_are_forgotten_when_idle_but_not_while_they_are_refused() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.call(DOWN, "https://dead/", count=10)
    busy = lab.permit("https://busy/")

    lab.now += 61.0
    lab.guard.forget_idle(lab.now)

    assert lab.hosts.by_name.keys() == {"dead", "busy"}
    busy.release(lab.now)
    lab.now += 700.0
    lab.guard.forget_idle(lab.now)
    assert not lab.hosts.by_name


@pytest.mark.parametrize("outcome", [Accepted(), DOWN, REFUSED, LOST])
def test_memory_is_bounded_over_any_number_of_hosts_whatever_becomes_of_them(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    monkeypatch.setattr(module, "MOST_HOSTS", 100)
    monkeypatch.setattr(module, "MOST_URLS", 50)
    lab = Lab(settings=GuardSettings(minimum_calls=1))
    busy = lab.permit("https://busy/")

    for number in range(1000):
        lab.now += 0.001
        lab.call(outcome, f"https://{number}/", tenant=f"tenant-{number % 7}")

    assert len(lab.hosts.by_name) == len(lab.hosts.tenants.by_key) == 100
    assert len(lab.hosts.urls.by_key) == (50 if outcome in (REFUSED, LOST) else 0)
    assert "busy" in lab.hosts.by_name
    busy.release(lab.now)


def test_the_hosts_of_many_tenants_are_counted_once_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HOSTS", 100)
    lab = Lab()

    for number in range(1000):
        lab.call(Accepted(), tenant=f"tenant-{number}")

    assert len(lab.hosts.tenants.by_key) == 100
    assert lab.hosts.by_name["a"].tenants == 100


def test_what_is_forgotten_for_lack_of_room_is_called_as_if_it_had_never_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_HOSTS", 2)
    lab = Lab()
    lab.call(DOWN, "https://dead/", count=10)
    assert isinstance(lab.ask("https://dead/"), ParkFor)

    lab.call(Accepted(), "https://b/")
    lab.call(Accepted(), "https://c/")

    lab.permit("https://dead/")

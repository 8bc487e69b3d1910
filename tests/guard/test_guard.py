"""The guard as a table: what is asked, what was told before, and the answer."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.guard import (
    Callee,
    Full,
    Guard,
    Guarded,
    GuardSettings,
    InLine,
    NoSuchProvider,
    ParkFor,
    Permit,
    Shut,
)
from pabal.guard import guard as module
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown

DOWN, GONE, LOST, BUSY = Deferred(reason="503"), Rejected(reason="410"), Unknown(reason="timeout"), Accepted()
HOSTS = Guarded(host_of=lambda address: address.split("/", 3)[2])


class Lab:
    """A guard, and the time."""

    def __init__(
        self,
        *,
        concurrency: int = 128,
        settings: GuardSettings | None = None,
        providers: dict[str, Guarded] | None = None,
    ) -> None:
        self.now = 1000.0
        self.changes: list[tuple[str, str]] = []
        self.reasons: dict[str, str | None] = {}
        """Why each was refused, as known when its circuit opened."""
        self.guard = Guard(
            providers=providers or {"hooks": HOSTS},
            concurrency=concurrency,
            settings=settings or GuardSettings(),
            random=lambda: 0.0,
            on_change=self._note,
        )

    def _note(self, callee: Callee, now: float) -> None:
        del now
        self.changes.append((callee.name, callee.state))
        if callee.state == "open":
            self.reasons[callee.name] = callee.last_reason

    def ask(
        self, address: str = "https://a/", *, tenant: str = "shop", pinned: str | None = None, parks: int = 0
    ) -> Any:
        return self.guard.admit(tenant=tenant, address=address, pinned=pinned, parks=parks, now=self.now)

    def permit(self, address: str = "https://a/", **about: Any) -> Permit:
        answer = self.ask(address, **about)
        assert isinstance(answer, Permit), answer
        return answer

    def call(self, outcome: Outcome, address: str = "https://a/", *, count: int = 1, **about: Any) -> None:
        for _ in range(count):
            permit = self.permit(address, **about)
            permit.call(self.now)
            permit.end(outcome, self.now + 0.01)
            permit.release(self.now + 0.01)


@pytest.mark.parametrize("outcome", [DOWN, LOST])
def test_a_host_that_fails_is_parked_and_another_is_called(outcome: Outcome) -> None:
    lab = Lab()

    lab.call(outcome, count=10)

    answer = lab.ask()
    assert isinstance(answer, ParkFor)
    assert answer.seconds == pytest.approx(5.05, abs=0.02)
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

    # The k-th has k twentieths of a second of queue before it. Nothing is spread here; 500 is what a spread of a fifth
    # makes ten minutes at most.
    assert seconds == pytest.approx([5.05, 10.1, 20.15, 40.2, 80.25, 160.3, 320.35, 500.0, 500.0], abs=0.02)


def test_what_waits_for_a_host_that_does_not_answer_comes_back_as_a_trickle() -> None:
    lab = Lab()
    lab.call(DOWN, count=10)

    seconds = [lab.ask().seconds for _ in range(1000)]

    assert seconds == pytest.approx([5.0 + number / 20.0 for number in range(1, 1001)], abs=0.02)


def test_a_refusal_that_is_nearly_over_is_waited_for_in_line() -> None:
    lab = Lab()
    lab.call(DOWN, count=10)

    lab.now += 3.5

    answer = lab.ask()
    assert isinstance(answer, InLine)
    assert answer.callee.name == "hooks a"


def test_a_retry_after_is_honoured_but_for_no_more_than_ten_minutes() -> None:
    lab = Lab()
    lab.call(Deferred(reason="429", retry_after_seconds=120.0), "https://a/")
    lab.call(Deferred(reason="429", retry_after_seconds=86_400.0), "https://b/")

    assert lab.ask("https://a/").seconds == pytest.approx(120.0, abs=0.1)
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
    assert isinstance(lab.ask(), InLine)
    for probe in probes:
        probe.call(lab.now)
        probe.end(Accepted(), lab.now)
        probe.release(lab.now)

    assert lab.changes == [("hooks a", "open"), ("hooks a", "closed")]
    assert len([answer for answer in (lab.ask() for _ in range(10)) if isinstance(answer, Permit)]) == 2


def test_one_host_cannot_hold_every_slot() -> None:
    lab = Lab(concurrency=14)

    held = list(_permits(lab.ask))

    assert len(held) == 12
    lab.permit("https://b/")


def test_a_permit_that_was_not_used_leaves_no_trace() -> None:
    lab = Lab(concurrency=14)

    for _ in range(5):
        for permit in list(_permits(lab.ask)):
            permit.release(lab.now)

    assert len(list(_permits(lab.ask))) == 12


def test_a_line_holds_what_can_be_served_in_about_two_seconds() -> None:
    lab = Lab(concurrency=14)
    held = list(_permits(lab.ask))
    host = held[0].callee
    for permit in held:
        permit.call(lab.now)

    assert host.room(lab.now) > 1000
    assert host.room(lab.now + 1.0) == 2 * 12
    assert host.room(lab.now + 10.0) == 2


def test_the_line_of_a_host_that_is_well_is_judged_by_the_limit_it_will_have() -> None:
    lab = Lab(concurrency=128)
    lab.call(Accepted(), count=5)

    room = lab.permit().callee.room(lab.now)

    assert room == pytest.approx(2.0 * 115 / 0.01, rel=0.01)


def test_what_does_not_fit_into_a_line_is_parked_one_turn_after_the_other() -> None:
    lab = Lab(concurrency=14)
    held = list(_permits(lab.ask))
    for permit in held:
        permit.call(lab.now)
    lab.now += 6.0
    for permit in held:
        permit.end(Accepted(), lab.now)

    seconds = [held[0].callee.park_seconds(parks=0, now=lab.now) for _ in range(40)]

    assert seconds == pytest.approx([max(5.0, 0.5 * turn) for turn in range(1, 41)])


def test_a_whole_provider_that_fails_is_shut_and_begins_with_probes() -> None:
    lab = Lab(providers={"mail": Guarded()})

    lab.call(DOWN, count=10)

    assert isinstance(lab.ask(), Shut)
    assert lab.guard.is_shut()
    lab.now += 5.1
    for _ in range(3):
        lab.call(Accepted())
    assert not lab.guard.is_shut()


def test_misconfigured_shuts_the_provider_at_once() -> None:
    for lab in (Lab(), Lab(providers={"mail": Guarded()})):
        lab.call(Misconfigured(reason="password refused"))

        assert isinstance(lab.ask("https://b/"), Shut)


def test_misconfigured_among_good_answers_shuts_nothing() -> None:
    lab = Lab(providers={"mail": Guarded()})
    lab.call(Accepted(), count=5)

    lab.call(Misconfigured(reason="relaying denied"))

    lab.permit()


@pytest.mark.parametrize("providers", [{"hooks": HOSTS}, {"mail": Guarded()}])
def test_a_tenants_own_fault_parks_that_tenant_alone(providers: dict[str, Guarded]) -> None:
    lab = Lab(providers=providers)
    fault = Misconfigured(reason="no secret", tenant_only=True)

    lab.call(fault, tenant="careless")

    assert isinstance(lab.ask(tenant="careless"), ParkFor)
    lab.call(Accepted(), tenant="shop")

    lab.now += 31.0
    probe = lab.permit(tenant="careless")
    assert isinstance(lab.ask(tenant="careless"), ParkFor)
    probe.call(lab.now)
    probe.end(Accepted(), lab.now)
    probe.release(lab.now)
    lab.permit(tenant="careless")
    lab.permit(tenant="careless")


def test_who_is_not_called_any_more_has_the_reason_of_the_call_that_decided_it() -> None:
    lab = Lab(providers={"hooks": HOSTS, "mail": Guarded()})

    lab.call(LOST, "https://a/", count=5, pinned="hooks")
    lab.call(DOWN, "https://a/", count=5, pinned="hooks")
    lab.call(Misconfigured(reason="no secret", tenant_only=True), "https://b/", tenant="careless", pinned="hooks")
    lab.call(Misconfigured(reason="password refused"), pinned="mail")

    assert lab.reasons == {"hooks a": "503", "hooks tenant careless": "no secret", "mail": "password refused"}


def test_when_it_is_our_own_network_the_reason_is_that_of_the_last_host() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.now += 10.0

    for number in range(5):
        lab.call(Deferred(reason=f"no route to {number}"), f"https://{number}/", count=10)

    assert lab.reasons["hooks"] == "no route to 4"


def test_one_dead_host_does_not_shut_the_provider_however_many_calls_it_had() -> None:
    lab = Lab(settings=GuardSettings(minimum_calls=1000))

    lab.call(DOWN, "https://a/", count=999)
    lab.call(DOWN, "https://b/", count=999)

    assert not lab.guard.is_shut()


def test_when_most_of_many_hosts_fail_it_is_our_own_network() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.now += 10.0

    for number in range(5):
        assert not lab.guard.is_shut()
        lab.call(DOWN, f"https://{number}/", count=10)

    assert isinstance(lab.ask("https://fine/"), Shut)
    lab.now += 5.1
    lab.call(Accepted(), "https://fine/")
    assert not lab.guard.is_shut()


def test_however_many_hosts_fail_it_is_not_our_network_while_another_answers() -> None:
    lab = Lab()

    for number in range(20):
        lab.now += 1.0
        lab.call(DOWN, f"https://{number}/", count=10)
        lab.call(Accepted(), "https://fine/")

    assert not lab.guard.is_shut()
    assert isinstance(lab.ask("https://fine/"), Permit)


def test_dead_hosts_that_are_asked_first_do_not_speak_for_those_that_were_not_asked_yet() -> None:
    lab = Lab()

    for number in range(20):
        lab.call(DOWN, f"https://{number}/", count=10)

    assert isinstance(lab.ask("https://fine/"), Permit)


def test_when_all_were_refused_the_first_that_is_well_ends_it_however_many_are_still_dead() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.now += 10.0
    for number in range(5):
        lab.call(DOWN, f"https://{number}/", count=10)
    assert lab.guard.is_shut()

    lab.now += 5.1
    for number in range(5):
        lab.call(DOWN, f"https://{number}/")
    lab.call(Accepted(), "https://fine/")

    assert not lab.guard.is_shut()


def test_of_one_host_there_is_one_probe_at_a_time() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.now += 10.0
    for number in range(5):
        lab.call(DOWN, f"https://{number}/", count=10)
    lab.now += 5.1

    hanging = lab.permit("https://hanging/")
    hanging.call(lab.now)

    assert all(isinstance(lab.ask("https://hanging/"), InLine) for _ in range(5))
    lab.call(Accepted(), "https://fine/")
    assert not lab.guard.is_shut()


def test_several_providers_share_by_weight_and_what_one_refuses_another_carries() -> None:
    lab = Lab(providers={"a": Guarded(weight=9), "b": Guarded(weight=1)})
    first = [permit.provider for permit in _permits(lab.ask, most=10)]
    assert (first.count("a"), first.count("b")) == (9, 1)

    lab.call(Misconfigured(reason="quota"), pinned="a")

    assert {permit.provider for permit in _permits(lab.ask, most=5)} == {"b"}


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
    assert isinstance(lab.ask(pinned="a"), InLine)


@pytest.mark.parametrize("providers", [{"a": Guarded()}, {"a": Guarded(), "b": Guarded()}])
def test_a_pin_to_a_provider_that_is_gone_is_said(providers: dict[str, Guarded]) -> None:
    assert Lab(providers=providers).ask(pinned="gone") == NoSuchProvider("gone")


def test_all_providers_down_is_shut_and_one_that_is_busy_is_full() -> None:
    lab = Lab(concurrency=4, providers={"a": Guarded(), "b": Guarded()})
    lab.call(Misconfigured(reason="quota"), pinned="a")
    held = list(_permits(lab.ask))
    assert len(held) == 4

    assert isinstance(lab.ask(), Full)
    held[0].call(lab.now)
    held[0].end(Misconfigured(reason="quota"), lab.now)
    held[0].release(lab.now)

    assert isinstance(lab.ask(), Shut)


def test_a_rate_is_shared_by_the_partitions_owned() -> None:
    lab = Lab(providers={"mail": Guarded(rate_per_second=100.0)})
    lab.guard.share_rates(0.25)

    taken = 0
    for _ in range(200):
        for permit in _permits(lab.ask):
            permit.call(lab.now)
            permit.end(Accepted(), lab.now)
            permit.release(lab.now)
            taken += 1
        lab.now += 0.05

    assert taken == pytest.approx(250, abs=5)


def test_a_hosts_rate_is_its_own() -> None:
    lab = Lab(settings=GuardSettings(host_rate_per_second=1.0))
    lab.call(Accepted())

    assert isinstance(lab.ask(), InLine)
    lab.permit("https://b/")


def test_hosts_are_forgotten_when_idle_but_not_while_they_are_refused() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.call(DOWN, "https://dead/", count=10)
    busy = lab.permit("https://busy/")

    lab.now += 61.0
    lab.guard.forget_idle(lab.now)

    assert lab.guard._providers["hooks"].hosts.keys() == {"dead", "busy"}
    busy.release(lab.now)
    lab.now += 700.0
    lab.guard.forget_idle(lab.now)
    assert not lab.guard._providers["hooks"].hosts


def test_memory_is_bounded_over_any_number_of_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_HOSTS", 100)
    lab = Lab()

    for number in range(1000):
        lab.now += 0.001
        lab.call(Accepted(), f"https://{number}/")

    assert len(lab.guard._providers["hooks"].hosts) <= 101


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "end", "release", "wait"]),
            st.sampled_from(["https://a/", "https://b/", "https://c/"]),
            st.sampled_from([Accepted(), DOWN, LOST, GONE, Misconfigured(reason="x", tenant_only=True)]),
            st.floats(0, 10),
        ),
        max_size=150,
    ),
    st.booleans(),
)
def test_whatever_happens_slots_are_kept_and_everything_recovers(
    steps: list[tuple[str, str, Outcome, float]], has_two: bool
) -> None:
    lab = Lab(concurrency=8, providers={"a": HOSTS, "b": Guarded()} if has_two else {"a": HOSTS})
    held: list[Permit] = []
    for step, address, outcome, seconds in steps:
        match step:
            case "ask" if isinstance(answer := lab.ask(address), Permit):
                held.append(answer)
            case "end" if held:
                permit = held.pop(0)
                permit.call(lab.now)
                permit.end(outcome, lab.now + seconds)
                permit.release(lab.now + seconds)
            case "release" if held:
                held.pop().release(lab.now)
            case "wait":
                lab.now += seconds
        for provider in lab.guard._providers.values():
            assert 0 <= provider.limit.in_flight <= 8
            assert all(0 <= host.limit.in_flight <= 7 for host in provider.hosts.values())

    for permit in held:
        permit.release(lab.now)
    for _ in range(40):
        lab.now += 73.0
        for address in ("https://a/", "https://b/", "https://c/"):
            if isinstance(answer := lab.ask(address), Permit):
                answer.call(lab.now)
                answer.end(Accepted(), lab.now)
                answer.release(lab.now)
    assert not lab.guard.is_shut()
    for address in ("https://a/", "https://b/", "https://c/"):
        lab.permit(address)


def _permits(ask: Callable[[], Any], *, most: int = 1000) -> Iterable[Permit]:
    for _ in range(most):
        answer = ask()
        if not isinstance(answer, Permit):
            return
        yield answer

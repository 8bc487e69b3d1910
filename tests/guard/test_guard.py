"""The guard as a whole: permits, tenants, reasons, rates, and whatever order things happen in."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.guard import Guarded, ParkFor, Permit
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome
from tests.guard.lab import DOWN, GONE, HOSTS, LOST, REFUSED, Lab, permits


def test_a_permit_that_was_not_used_leaves_no_trace() -> None:
    lab = Lab(concurrency=14)

    for _ in range(5):
        for permit in list(permits(lab.ask)):
            permit.release(lab.now)

    assert len(list(permits(lab.ask))) == 10


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

    lab.call(DOWN, "https://a/", count=10, pinned="hooks")
    lab.call(Misconfigured(reason="no secret", tenant_only=True), "https://b/", tenant="careless", pinned="hooks")
    lab.call(Misconfigured(reason="password refused"), pinned="mail")

    assert lab.reasons == {"hooks a": "no connection", "hooks tenant careless": "no secret", "mail": "password refused"}


def test_when_it_is_our_own_network_the_reason_is_that_of_the_last_host() -> None:
    lab = Lab()
    lab.call(Accepted(), "https://fine/")
    lab.now += 10.0

    for number in range(5):
        lab.call(Deferred(reason=f"no route to {number}"), f"https://{number}/", count=10)

    assert lab.reasons["hooks"] == "no route to 4"


def test_a_rate_is_shared_by_the_partitions_owned() -> None:
    lab = Lab(providers={"mail": Guarded(rate_per_second=100.0)})
    lab.guard.share_rates(0.25)

    taken = 0
    for _ in range(200):
        for permit in permits(lab.ask):
            permit.call(lab.now)
            permit.end(Accepted(), lab.now)
            permit.release(lab.now)
            taken += 1
        lab.now += 0.05

    assert taken == pytest.approx(250, abs=5)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "end", "release", "wait"]),
            st.sampled_from(["https://a/", "https://a/2", "https://b/", "https://c/"]),
            st.sampled_from([Accepted(), DOWN, LOST, GONE, REFUSED, Misconfigured(reason="x", tenant_only=True)]),
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
            assert all(0 <= host.limit.in_flight <= 7 for host in provider.hosts.by_name.values())
            assert all(0 <= at.limit.in_flight <= 6 for at in provider.hosts.tenants.by_key.values())

    for permit in held:
        permit.release(lab.now)
    for _ in range(40):
        lab.now += 73.0
        for address in ("https://a/", "https://a/2", "https://b/", "https://c/"):
            if isinstance(answer := lab.ask(address), Permit):
                answer.call(lab.now)
                answer.end(Accepted(), lab.now)
                answer.release(lab.now)
    assert not lab.guard.is_shut()
    for address in ("https://a/", "https://a/2", "https://b/", "https://c/"):
        lab.permit(address)

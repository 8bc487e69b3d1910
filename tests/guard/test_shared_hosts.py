"""A host that serves many customers: a refusal concerns the URL, the tenant or the host, by what several say."""

import pytest

from pabal.evidence import Evidence
from pabal.guard import GuardSettings, InQueue, ParkFor
from pabal.guard import hosts as module
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected
from tests.guard.lab import DOWN, GONE, LOST, REFUSED, Lab, permits

ONE, TWO, OTHER = "https://chat/one", "https://chat/two", "https://chat/three"
IN_AN_HOUR = Deferred(reason="503", retry_after_seconds=3600.0, address_only=True)


def test_one_urls_retry_after_parks_neither_another_tenant_nor_another_url() -> None:
    lab = Lab()

    lab.call(IN_AN_HOUR, ONE, tenant="a")

    parked = lab.ask(ONE, tenant="a")
    assert isinstance(parked, ParkFor)
    assert parked.seconds == pytest.approx(600.0, abs=0.1)
    lab.permit(TWO, tenant="b")
    lab.permit(ONE, tenant="b")
    lab.permit(TWO, tenant="a")


@pytest.mark.parametrize("outcome", [REFUSED, LOST, Deferred(reason="429", address_only=True)])
def test_a_url_that_fails_is_parked_alone(outcome: Outcome) -> None:
    lab = Lab()

    lab.call(outcome, ONE, count=9, tenant="a")
    lab.permit(ONE, tenant="a").release(lab.now)
    lab.call(outcome, ONE, tenant="a")

    parked = lab.ask(ONE, tenant="a")
    assert isinstance(parked, ParkFor)
    assert parked.seconds == pytest.approx(5.2, abs=0.02)
    assert parked.by.startswith("hooks chat tenant a URL ")
    lab.permit(TWO, tenant="a")
    lab.permit(ONE, tenant="b")


def test_neither_a_log_line_nor_a_record_names_the_path_of_a_url_which_may_be_a_secret() -> None:
    lab = Lab()

    lab.call(REFUSED, "https://chat/s3cret", count=10)

    [(name, state)] = lab.changes
    assert (name, state) == ("hooks chat tenant shop URL da586f64", "open")


@pytest.mark.parametrize("outcome", [GONE, Rejected(reason="the endpoint answered 410 (gone)")])
def test_a_url_that_is_gone_holds_up_nobody(outcome: Outcome) -> None:
    lab = Lab()

    lab.call(outcome, ONE, count=50, tenant="a")

    lab.permit(ONE, tenant="a")
    lab.permit(TWO, tenant="b")
    assert not lab.hosts.urls.by_key


def test_an_acceptance_ends_what_a_url_refused_before() -> None:
    lab = Lab()
    slow = lab.permit(ONE)
    slow.call(lab.now)
    lab.call(IN_AN_HOUR, ONE)
    assert isinstance(lab.ask(ONE), ParkFor)

    slow.end(Accepted(), lab.now)
    slow.release(lab.now)

    lab.permit(ONE)


def test_failures_between_acceptances_park_no_url() -> None:
    lab = Lab()

    for _ in range(50):
        lab.call(REFUSED, ONE)
        lab.call(Accepted(), ONE)

    lab.permit(ONE)
    assert not lab.hosts.urls.by_key


def test_a_url_that_is_back_is_found_by_one_probe_and_begins_low() -> None:
    lab = Lab()
    lab.call(REFUSED, ONE, count=10)
    lab.now += 5.1

    probe = lab.permit(ONE)
    waiting = lab.ask(ONE)
    probe.call(lab.now)
    probe.end(Accepted(), lab.now)
    probe.release(lab.now)

    assert isinstance(waiting, InQueue)
    assert [state for _, state in lab.changes] == ["open", "closed"]
    assert len(list(permits(lambda: lab.ask(ONE)))) == 2
    lab.permit(TWO)


def test_the_memo_of_a_url_is_gone_when_its_steps_after_an_outage_are_over() -> None:
    lab = Lab(concurrency=8)
    lab.call(REFUSED, ONE, count=10)
    lab.now += 5.1

    for _ in range(10):
        held = list(permits(lambda: lab.ask(ONE)))
        for permit in held:
            permit.call(lab.now)
            permit.end(Accepted(), lab.now)
            permit.release(lab.now)
        lab.now += 1.1

    assert not lab.hosts.urls.by_key


def test_urls_of_a_tenant_that_fail_one_call_each_are_the_tenants_at_that_host() -> None:
    lab = Lab()

    for number in range(11):
        lab.call(REFUSED, f"https://chat/{number}", tenant="a")

    parked = lab.ask(OTHER, tenant="a")
    assert isinstance(parked, ParkFor)
    assert parked.by == "hooks chat tenant a"
    lab.permit(OTHER, tenant="b")
    lab.permit("https://elsewhere/", tenant="a")


def test_two_urls_that_fail_park_no_third_that_is_accepted_between() -> None:
    lab = Lab()

    for _ in range(30):
        for address in (ONE, TWO):
            lab.call_if_permitted(REFUSED, address)
            lab.call(Accepted(), OTHER)

    lab.permit(OTHER)


def test_what_two_tenants_are_refused_is_the_hosts() -> None:
    lab = Lab()

    for number in range(11):
        lab.call(REFUSED, f"https://chat/{number}", tenant=("a", "b")[number % 2])

    parked = lab.ask(OTHER, tenant="c")
    assert isinstance(parked, ParkFor)
    assert parked.by == "hooks chat"


def test_what_two_tenants_are_refused_is_not_the_hosts_while_it_accepts_a_third() -> None:
    lab = Lab()

    for number in range(200):
        address, tenant = f"https://chat/{number}", ("a", "b")[number % 2]
        lab.call_if_permitted(REFUSED, address, tenant=tenant)
        lab.call(Accepted(), OTHER, tenant="c")

    lab.permit(OTHER, tenant="c")
    assert lab.hosts.by_name["chat"].state == "closed"


def test_a_url_that_was_refused_before_says_nothing_of_its_host_when_it_still_fails() -> None:
    lab = Lab()
    lab.call(REFUSED, ONE, count=10, tenant="a")
    lab.now += 40.0

    lab.call(REFUSED, ONE, tenant="a")
    lab.call(REFUSED, TWO, count=10, tenant="b")
    lab.now += 6.0
    for number in range(9):
        lab.call(REFUSED, f"https://chat/{number}", tenant="b")

    assert lab.hosts.by_name["chat"].state == "closed"
    lab.permit(OTHER, tenant="c")


def test_a_tenant_that_was_refused_before_says_nothing_of_its_host_when_it_still_fails() -> None:
    lab = Lab()
    for number in range(11):
        lab.call(REFUSED, f"https://chat/{number}", tenant="a")
    lab.now += 40.0

    lab.call(REFUSED, ONE, tenant="a")
    lab.call(REFUSED, TWO, count=10, tenant="b")
    lab.call_if_permitted(REFUSED, OTHER, tenant="b")

    assert lab.hosts.by_name["chat"].state == "closed"
    lab.permit(OTHER, tenant="c")


def test_tenants_of_one_host_have_each_a_limit_of_their_own() -> None:
    lab = Lab(concurrency=128)

    held = [len(list(permits(lambda tenant=tenant: lab.ask(tenant=tenant)))) for tenant in "abc"]  # type: ignore[misc]

    assert held == [16, 16, 16]


@pytest.mark.parametrize("tenant", ["a", "b"])
def test_that_no_connection_comes_about_is_the_hosts_at_once(tenant: str) -> None:
    lab = Lab()

    lab.call(DOWN, ONE, count=10, tenant="a")

    assert lab.ask(TWO, tenant=tenant).by == "hooks chat"
    assert not lab.hosts.urls.by_key


def test_a_host_that_is_back_is_found_in_spite_of_a_tenant_whose_url_is_refused() -> None:
    lab = Lab()
    lab.call(DOWN, ONE, count=10, tenant="a")
    lab.now += 5.1

    for _ in range(3):
        lab.call(REFUSED, ONE, tenant="a")
        lab.call(Accepted(), TWO, tenant="b")

    assert lab.hosts.by_name["chat"].state == "closed"


def test_what_hangs_or_fails_for_one_tenant_leaves_the_other_its_calls() -> None:
    lab = Lab(concurrency=128)
    lab.call(Accepted(), TWO, count=40, tenant="b")
    before = lab.permit(TWO, tenant="b").callees[0].limit.value

    hanging = list(permits(lambda: lab.ask(ONE, tenant="a")))
    for permit in hanging:
        permit.call(lab.now)
    lab.now += 10.0
    for permit in hanging:
        permit.end(LOST, lab.now)
        permit.release(lab.now)

    assert lab.permit(TWO, tenant="b").callees[0].limit.value == before


def test_one_tenant_that_was_fast_and_hangs_leaves_slots_of_the_host_to_the_others() -> None:
    lab = Lab(concurrency=128)
    for _ in range(200):
        for permit in list(permits(lambda: lab.ask(ONE, tenant="a"))):
            permit.call(lab.now)
            permit.end(Accepted(), lab.now)
            permit.release(lab.now)

    hanging = list(permits(lambda: lab.ask(ONE, tenant="a")))

    assert len(hanging) == 103
    assert len(list(permits(lambda: lab.ask(TWO, tenant="b")))) == 12


def test_overflow_forgets_the_memo_that_was_not_used_for_longest_and_widens_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_URLS", 3)
    lab = Lab(settings=GuardSettings(minimum_calls=1))
    for number in range(3):
        lab.call(REFUSED, f"https://host-{number}/")
    assert isinstance(lab.ask("https://host-0/"), ParkFor)

    lab.call(REFUSED, "https://host-3/")

    lab.permit("https://host-1/")
    for number in (0, 2, 3):
        assert isinstance(lab.ask(f"https://host-{number}/"), ParkFor)


def test_memos_are_forgotten_when_their_time_is_over() -> None:
    lab = Lab()
    lab.call(REFUSED, ONE)
    lab.call(IN_AN_HOUR, TWO)

    lab.now += 61.0
    lab.guard.forget_idle(lab.now)
    kept = len(lab.hosts.urls.by_key)
    lab.now += 1300.0
    lab.guard.forget_idle(lab.now)

    assert kept == 1
    assert not lab.hosts.urls.by_key


def test_a_tenant_whose_settings_are_at_fault_says_nothing_of_a_host_that_is_down() -> None:
    lab = Lab()
    lab.call(DOWN, ONE, count=10, tenant="a")
    lab.now += 5.1

    for number in range(3):
        lab.call(Misconfigured(reason="no secret", tenant_only=True), TWO, tenant=f"careless-{number}")

    assert lab.hosts.by_name["chat"].state == "half_open"


@pytest.mark.parametrize(
    ("told", "is_believed"),
    [
        ([("a", 0.0)], False),
        ([("a", 0.0), ("a", 1.0)], False),
        ([("a", 0.0), ("b", 1.0)], True),
        ([("a", 0.0), (None, 1.0), ("b", 2.0)], False),
        ([("a", 0.0), ("b", 30.0)], False),
        ([("a", 0.0), ("a", 29.0), ("b", 30.0)], True),
        ([("a", 0.0), ("b", 1.0), ("c", 2.0), ("c", 20.0)], True),
        ([("a", 0.0), ("b", 1.0), ("c", 40.0)], False),
    ],
)
def test_what_several_say_is_believed_if_nobody_accepts_between(
    told: list[tuple[str | None, float]], is_believed: bool
) -> None:
    evidence = Evidence(enough=2, seconds=30.0)

    believed = False
    for source, now in told:
        if source is None:
            evidence.accepted()
        else:
            believed = evidence.refused(source, now=now)

    assert believed == is_believed


def test_evidence_is_bounded() -> None:
    evidence = Evidence(enough=3)

    for number in range(1000):
        evidence.refused(number)

    assert len(evidence.refused_at) == 3

"""When a whole provider is refused, and when the failures of hosts are not its own."""

from pabal.guard import Guarded, GuardSettings, InQueue, Permit, Shut
from pabal.outcome import Accepted, Misconfigured
from tests.guard.lab import DOWN, REFUSED, Lab


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

    assert all(isinstance(lab.ask("https://hanging/"), InQueue) for _ in range(5))
    lab.call(Accepted(), "https://fine/")
    assert not lab.guard.is_shut()


def test_what_one_recipient_refuses_for_now_says_nothing_of_the_server() -> None:
    lab = Lab(providers={"mail": Guarded()})

    lab.call(REFUSED, count=50)

    assert not lab.guard.is_shut()
    assert lab.permit().callees[0].limit.value >= 16
    lab.call(DOWN, count=10)
    lab.now += 5.1
    lab.call(REFUSED, count=10)
    assert lab.guard.is_shut()

"""The send protocol, line by line: what a record finds, how a call ends, what is settled and given back."""

from typing import Any

import msgspec
import pytest

from pabal.ledger.protocol import (
    GHOST,
    LATE,
    MAX_TAKEOVERS,
    Call,
    Decided,
    Finish,
    Held,
    Resume,
    Row,
    Source,
    finish,
    release,
    settle,
)
from pabal.outcome import (
    Done,
    Expired,
    Park,
    Refused,
    Verdict,
)
from tests.ledger.protocol_facts import DUE
from tests.ledger.protocol_table import BUSY, CRASHED, OURS, RETRY, TAKEN, UNCERTAIN, ask, end, theirs

# The table: what a record of attempt 2 finds

NEWLY_CLAIMED = Row(
    source=Source(2, 0),
    attempt=2,
    state="claimed",
    owner=7,
    token=70,
    lease_until=80.0,
    provider="smtp",
    prune_after=900.0,
)


@pytest.mark.parametrize(
    "row",
    [
        None,
        theirs(source=Source(1, 0), attempt=1, state="decided", verdict=RETRY, outcome=BUSY, settled=True),
        theirs(source=Source(1, 0), attempt=1, state="decided", verdict=RETRY, outcome=BUSY, settled=False),
        theirs(source=Source(1, 0), attempt=2, state="decided", verdict=Park(due=DUE), settled=True),
        theirs(source=Source(1, 3), attempt=1, state="decided", verdict=UNCERTAIN, outcome=CRASHED, settled=True),
        theirs(state="free"),
    ],
    ids=["none", "to be retried", "to be retried, unsettled", "parked", "redriven", "given back"],
)
def test_a_record_whose_turn_it_is_is_claimed(row: Row | None) -> None:
    after, answer = ask(row)

    assert answer == Call(attempt=2)
    assert after == NEWLY_CLAIMED


def test_what_the_gate_refuses_is_decided_without_a_call() -> None:
    after, answer = ask(None, msgspec.structs.replace(OURS, refusal=Expired()))

    assert answer == Resume(attempt=2, verdict=Expired(), outcome=None, owner=7, token=70)
    assert after == msgspec.structs.replace(NEWLY_CLAIMED, state="decided", verdict=Expired())


@pytest.mark.parametrize("source", [Source(1, 0), Source(2, 0), Source(3, 0)])
@pytest.mark.parametrize("settled", [True, False])
def test_a_record_of_something_accepted_is_done(source: Source, settled: bool) -> None:
    row = theirs(state="decided", verdict=Done(), outcome=TAKEN, accepted=1, settled=settled)

    after, answer = ask(row, msgspec.structs.replace(OURS, source=source))

    assert after == row
    assert answer == (GHOST if settled else Resume(attempt=1, verdict=Done(), outcome=TAKEN, owner=1, token=10))


def test_a_record_waits_while_another_claim_is_alive() -> None:
    row = theirs()

    assert ask(row) == (row, Held(seconds=50.0))
    assert ask(row, msgspec.structs.replace(OURS, refusal=Expired())) == (row, Held(seconds=50.0))


def test_a_claim_whose_lease_ended_is_taken_over_with_the_next_attempt() -> None:
    after, answer = ask(theirs(), now_seconds=100.0)

    assert answer == Call(attempt=3, took_over=2)
    assert after == msgspec.structs.replace(NEWLY_CLAIMED, attempt=3, lease_until=130.0, takeovers=1)


def test_a_taken_over_record_is_found_again_by_its_own_copy() -> None:
    crashed_once, _ = ask(theirs(), now_seconds=100.0)

    crashed_twice, answer = ask(crashed_once, msgspec.structs.replace(OURS, owner=8, token=80), now_seconds=200.0)

    assert answer == Call(attempt=4, took_over=3)
    assert crashed_twice is not None
    assert crashed_twice.takeovers == 2


def test_a_claim_whose_call_may_not_be_repeated_becomes_uncertain() -> None:
    after, answer = ask(theirs(), msgspec.structs.replace(OURS, may_repeat=False), now_seconds=100.0)

    assert answer == Resume(attempt=2, verdict=UNCERTAIN, outcome=CRASHED, owner=7, token=70, provider="smtp")
    assert after == theirs(state="decided", owner=7, token=70, verdict=UNCERTAIN, outcome=CRASHED)


def test_a_record_that_loses_a_worker_with_each_call_is_dead_lettered() -> None:
    row: Row | None = theirs(lease_until=0.0)

    for token in range(MAX_TAKEOVERS):
        row, answer = ask(row, msgspec.structs.replace(OURS, token=token, lease_seconds=-1.0))
        assert isinstance(answer, Call)
    row, answer = ask(row)

    assert answer == Resume(
        attempt=2 + MAX_TAKEOVERS, verdict=UNCERTAIN, outcome=CRASHED, owner=7, token=70, provider="smtp"
    )


def test_a_lost_call_is_followed_by_none_at_another_provider() -> None:
    row = theirs()
    at_another = msgspec.structs.replace(OURS, provider="backup")

    assert ask(row, at_another, now_seconds=100.0) == (row, Held(seconds=0.0, provider="smtp"))


@pytest.mark.parametrize(
    ("row", "provider"),
    [
        (theirs(state="decided", verdict=RETRY, outcome=BUSY), None),
        (theirs(state="decided", verdict=RETRY, outcome=CRASHED), "smtp"),
        (theirs(state="decided", verdict=RETRY, outcome=BUSY, takeovers=1), "smtp"),
        (theirs(state="decided", verdict=Done(), outcome=TAKEN, accepted=2, takeovers=1), None),
    ],
    ids=["refused", "unknown", "refused after a lost call", "accepted"],
)
def test_what_is_told_again_names_the_provider_that_may_have_taken_it(row: Row, provider: str | None) -> None:
    _, answer = ask(row)

    assert isinstance(answer, Resume)
    assert answer.provider == provider


def test_what_is_decided_but_not_settled_is_told_again() -> None:
    row = theirs(state="decided", verdict=RETRY, outcome=BUSY)

    assert ask(row) == (row, Resume(attempt=2, verdict=RETRY, outcome=BUSY, owner=1, token=10))


@pytest.mark.parametrize(
    "row",
    [
        theirs(state="decided", verdict=RETRY, outcome=BUSY, settled=True),
        theirs(source=Source(2, 1)),
        theirs(source=Source(3, 0), attempt=3),
        theirs(source=Source(3, 0), attempt=3, state="free"),
        theirs(source=Source(3, 0), attempt=3, state="decided", verdict=RETRY),
        theirs(source=Source(1, 0), attempt=1, state="decided", verdict=Expired(), settled=True),
    ],
    ids=["settled", "a later park", "a later attempt claimed", "given back", "decided", "final"],
)
def test_a_copy_of_something_dealt_with_is_a_ghost(row: Row) -> None:
    assert ask(row) == (row, GHOST)


def test_a_claim_whose_answer_got_lost_is_given_again() -> None:
    claimed, first = ask(theirs(), now_seconds=100.0)

    again, second = ask(claimed, now_seconds=140.0)

    assert second == first == Call(attempt=3, took_over=2)
    assert again == msgspec.structs.replace(NEWLY_CLAIMED, attempt=3, lease_until=170.0, takeovers=1)


def test_a_takeover_that_was_given_back_keeps_its_number() -> None:
    _, answer = ask(theirs(attempt=3, state="free"))

    assert answer == Call(attempt=3, took_over=2)


def test_an_attempt_that_may_have_been_called_is_never_called_again() -> None:
    row = theirs(source=Source(1, 0), attempt=4, state="decided", verdict=RETRY, outcome=BUSY, settled=True)

    _, answer = ask(row)

    assert isinstance(answer, Call)
    assert answer.attempt == 5


# How a call ends


def test_the_end_of_a_call_decides() -> None:
    after, answer = finish(theirs(), end())

    assert answer == Decided(attempt=2, verdict=RETRY)
    assert after == theirs(state="decided", verdict=RETRY, outcome=BUSY)


def test_an_accepted_call_is_remembered() -> None:
    after, answer = finish(theirs(), end(TAKEN, Done()))

    assert answer == Decided(attempt=2, verdict=Done())
    assert after == theirs(state="decided", verdict=Done(), outcome=TAKEN, accepted=2)


@pytest.mark.parametrize("settled", [True, False])
def test_a_verdict_is_decided_once(settled: bool) -> None:
    row = theirs(state="decided", verdict=RETRY, outcome=BUSY, settled=settled)

    assert finish(row, end(BUSY, Expired())) == (row, Decided(attempt=2, verdict=RETRY))


@pytest.mark.parametrize(
    "row",
    [
        None,
        theirs(owner=2),
        theirs(token=11),
        theirs(attempt=3),
        theirs(token=11, state="free"),
        theirs(token=11, state="decided", verdict=RETRY),
        theirs(token=11, state="decided", verdict=Done(), outcome=TAKEN, accepted=3, settled=True),
    ],
)
def test_the_end_of_a_claim_that_was_taken_over_changes_nothing(row: Row | None) -> None:
    assert finish(row, end()) == (row, LATE)


@pytest.mark.parametrize("verdict", [RETRY, UNCERTAIN, Expired(), Refused(reason="unknown")])
@pytest.mark.parametrize("settled", [True, False])
def test_a_late_acceptance_replaces_the_verdict(verdict: Verdict, settled: bool) -> None:
    row = theirs(attempt=3, token=11, state="decided", verdict=verdict, outcome=BUSY, settled=settled)

    after, answer = finish(row, end(TAKEN, Done()))

    assert answer == Decided(attempt=2, verdict=Done())
    assert after == theirs(attempt=3, token=10, state="decided", verdict=Done(), outcome=TAKEN, accepted=2)


def test_a_late_acceptance_makes_the_call_under_way_the_last() -> None:
    row = theirs(attempt=3, owner=7, token=70)

    accepted, late = finish(row, end(TAKEN, Done()))
    asked = ask(accepted, msgspec.structs.replace(OURS, owner=8))
    ended, decided = finish(accepted, Finish(attempt=3, owner=7, token=70, outcome=BUSY, verdict=RETRY))

    assert late == LATE
    assert accepted == theirs(attempt=3, owner=7, token=70, accepted=2, outcome=TAKEN)
    assert asked == (accepted, Resume(attempt=2, verdict=Done(), outcome=TAKEN, owner=7, token=70))
    assert decided == Decided(attempt=2, verdict=Done())
    assert ended == theirs(attempt=3, owner=7, token=70, state="decided", verdict=Done(), accepted=2, outcome=TAKEN)


@pytest.mark.parametrize(
    "row",
    [
        theirs(attempt=3, accepted=2, outcome=TAKEN, lease_until=0.0),
        theirs(attempt=3, accepted=2, outcome=TAKEN, state="free"),
        theirs(attempt=3, accepted=2, outcome=TAKEN, owner=7, token=70),
    ],
    ids=["its worker was lost", "given back", "our own, uncalled"],
)
def test_an_acceptance_ends_a_later_claim_that_nobody_uses(row: Row) -> None:
    after, answer = ask(row)

    assert answer == Resume(attempt=2, verdict=Done(), outcome=TAKEN, owner=row.owner, token=row.token)
    assert after == msgspec.structs.replace(row, state="decided", verdict=Done())


def test_the_repeated_end_of_a_call_learns_of_a_late_acceptance() -> None:
    decided, _ = finish(theirs(attempt=3, token=11), end(attempt=3, token=11))
    accepted, _ = finish(decided, end(TAKEN, Done()))

    assert finish(accepted, end(attempt=3, token=11)) == (accepted, Decided(attempt=2, verdict=Done()))


def test_the_end_of_a_claim_that_was_given_back_is_late() -> None:
    row = theirs(state="free")

    assert finish(row, end()) == (row, LATE)
    assert finish(row, end(TAKEN, Done()))[1] == Decided(attempt=2, verdict=Done())


# The rest


@pytest.mark.parametrize("change", [{"owner": 2}, {"token": 11}, {"state": "claimed"}, {"state": "free"}])
def test_only_the_claim_that_was_decided_is_settled(change: dict[str, Any]) -> None:
    row = theirs(state="decided", verdict=RETRY, outcome=BUSY)
    other = msgspec.structs.replace(row, **change)

    assert settle(row, owner=1, token=10) == msgspec.structs.replace(row, settled=True)
    assert settle(other, owner=1, token=10) == other
    assert settle(None, owner=1, token=10) is None


@pytest.mark.parametrize("change", [{"owner": 2}, {"token": 11}, {"state": "decided"}, {"state": "free"}])
def test_only_a_claim_of_ones_own_is_given_back(change: dict[str, Any]) -> None:
    other = theirs(**change)

    assert release(theirs(), owner=1, token=10) == theirs(state="free")
    assert release(other, owner=1, token=10) == other
    assert release(None, owner=1, token=10) is None


def test_the_former_verdicts_records_do_not_settle_a_late_acceptance() -> None:
    decided, _ = finish(theirs(attempt=3, token=11), end(attempt=3, token=11))
    accepted, _ = finish(decided, end(TAKEN, Done()))

    assert settle(accepted, owner=1, token=11) == accepted

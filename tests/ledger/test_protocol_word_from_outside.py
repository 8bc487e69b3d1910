"""The send protocol, line by line: what taking back and a report of the far side come to, whatever they meet."""

import msgspec
import pytest

from pabal.ledger.protocol import (
    GHOST,
    Decided,
    Finish,
    Resume,
    Source,
    acknowledge,
    cancel,
    finish,
)
from pabal.outcome import (
    Accepted,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Park,
    Refused,
    Suppressed,
    Unknown,
    Verdict,
)
from tests.ledger.protocol_facts import DUE
from tests.ledger.protocol_table import BUSY, CRASHED, OURS, RETRY, TAKEN, UNCERTAIN, ask, theirs

# Taking back

RESTS = [RETRY, Park(due=DUE), UNCERTAIN]
FINAL = [Expired(), Suppressed(), Refused(reason="gone")]


def test_a_delivery_that_no_worker_has_seen_is_taken_back_for_good() -> None:
    unseen, answer = cancel(None, prune_after=900.0)
    after, found = ask(unseen, OURS, now_seconds=50.0)

    assert answer == "cancelled"
    assert after is not None
    assert after.verdict == Cancelled()
    assert isinstance(found, Resume)
    assert found.verdict == Cancelled()


@pytest.mark.parametrize("verdict", RESTS, ids=str)
def test_what_waits_for_another_record_is_taken_back(verdict: Verdict) -> None:
    row, answer = cancel(theirs(state="decided", verdict=verdict, settled=True), prune_after=0.0)
    following = msgspec.structs.replace(OURS, source=Source(3, 0))
    _, found = ask(row, following, now_seconds=50.0)

    assert answer == "cancelled"
    assert isinstance(found, Resume)
    assert found.verdict == Cancelled()


@pytest.mark.parametrize("verdict", [*FINAL, Done()], ids=str)
def test_what_has_ended_is_not_taken_back(verdict: Verdict) -> None:
    row = theirs(state="decided", verdict=verdict, accepted=2 if verdict == Done() else 0)

    assert cancel(row, prune_after=0.0) == (row, "too_late")


def test_taking_back_twice_says_the_same() -> None:
    once, _ = cancel(None, prune_after=900.0)
    decided, _ = ask(once, OURS, now_seconds=50.0)

    assert cancel(once, prune_after=900.0) == (once, "cancelled")

    assert cancel(decided, prune_after=900.0) == (decided, "cancelled")


@pytest.mark.parametrize(
    ("outcome", "verdict", "holds"),
    [(TAKEN, Done(), Done()), (BUSY, RETRY, Cancelled()), (Unknown(reason="?"), UNCERTAIN, Cancelled())],
    ids=str,
)
def test_a_call_under_way_ends_as_it_ends_and_nothing_follows(
    outcome: Outcome, verdict: Verdict, holds: Verdict
) -> None:
    row, answer = cancel(theirs(), prune_after=0.0)
    ended, said = finish(row, Finish(attempt=2, owner=1, token=10, outcome=outcome, verdict=verdict))

    assert answer == "in_flight"
    assert said == Decided(attempt=2, verdict=holds)
    assert ended is not None
    assert ended.verdict == holds


def test_a_lost_call_that_was_taken_back_is_not_made_again() -> None:
    row, _ = cancel(theirs(), prune_after=0.0)
    after, found = ask(row, OURS, now_seconds=200.0)

    assert isinstance(found, Resume)
    assert (found.attempt, found.verdict) == (2, Cancelled())
    assert after is not None
    assert after.outcome == CRASHED


# Word from the far side

HEARD = Accepted(provider_id="their-id")


@pytest.mark.parametrize("verdict", [UNCERTAIN, RETRY, Park(due=DUE)], ids=str)
def test_what_the_far_side_reports_to_have_is_not_called_again(verdict: Verdict) -> None:
    row = acknowledge(theirs(state="decided", verdict=verdict, settled=True), outcome=HEARD)
    following = msgspec.structs.replace(OURS, source=Source(3, 0))

    assert row is not None
    assert (row.accepted, row.verdict, row.outcome) == (2, Done(), HEARD)
    assert ask(row, following) == (row, GHOST)


def test_a_call_under_way_whose_arrival_is_reported_ends_as_done() -> None:
    row = acknowledge(theirs(), outcome=HEARD)
    ended, said = finish(row, Finish(attempt=2, owner=1, token=10, outcome=Unknown(reason="?"), verdict=UNCERTAIN))

    assert said == Decided(attempt=2, verdict=Done())
    assert ended is not None
    assert ended.outcome == HEARD


def test_a_report_about_what_is_known_or_unknown_here_changes_nothing() -> None:
    done = theirs(state="decided", verdict=Done(), accepted=1, outcome=TAKEN)
    never_called, _ = cancel(None, prune_after=900.0)

    assert acknowledge(None, outcome=HEARD) is None

    assert acknowledge(done, outcome=HEARD) == done

    assert acknowledge(never_called, outcome=HEARD) == never_called

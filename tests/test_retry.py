"""What follows from an outcome: each line of the table, and what no sequence of outcomes may bring about."""

import itertools
import math
import uuid
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.notification import RUNGS_SECONDS, Delivery, NotificationClass
from pabal.outcome import (
    Accepted,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Refused,
    Rejected,
    RetryAt,
    Unknown,
    Verdict,
)
from pabal.policy import DEFAULT_CLASSES, ClassSettings, Uncertain
from pabal.retry import SHORTEST_PARK_SECONDS, Parked, decide, end_of_park, may_call_again, place_park, place_wait

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
STANDARD = DEFAULT_CLASSES["standard"]
RESEND = msgspec.structs.replace(STANDARD, uncertain="resend")
SMALLEST = timedelta(seconds=min(RUNGS_SECONDS))


def delivery(*, rung: int = 0, attempt: int = 1, expires_in: timedelta = 24 * HOUR, **changes: object) -> Delivery:
    whole = Delivery(
        id=uuid.UUID(int=1),
        notification_id=uuid.UUID(int=2),
        tenant="acme",
        channel="webhook",
        address="https://example.com/hook",
        class_="standard",
        accepted_at=NOW - timedelta(minutes=1),
        expires_at=NOW + expires_in,
        attempt=attempt,
        rung=rung,
    )
    return msgspec.structs.replace(whole, **changes)


def verdict_on(
    outcome: Outcome,
    of: Delivery | None = None,
    *,
    settings: ClassSettings = STANDARD,
    deduplicates_for: timedelta | None = None,
) -> Verdict:
    return decide(of or delivery(), outcome, settings=settings, deduplicates_for=deduplicates_for, now=NOW)


def retry_in(seconds: float, *, rung: int) -> RetryAt:
    return RetryAt(due=NOW + timedelta(seconds=seconds), rung=rung)


# The table


def test_what_was_accepted_is_done() -> None:
    assert verdict_on(Accepted(provider_id="x")) == Done()


def test_what_was_rejected_is_refused_for_good() -> None:
    assert verdict_on(Rejected(reason="no such mailbox")) == Refused(reason="no such mailbox")


@pytest.mark.parametrize(("rung", "seconds"), list(enumerate(STANDARD.ladder_seconds)))
def test_what_was_deferred_waits_its_rung_and_climbs(rung: int, seconds: int) -> None:
    assert verdict_on(Deferred(reason="busy"), delivery(rung=rung)) == retry_in(seconds, rung=rung + 1)


@pytest.mark.parametrize(("retry_after", "waits"), [(None, 30), (0.0, 30), (29.5, 30), (30.5, 30.5), (4000.0, 4000)])
def test_a_provider_that_names_a_time_is_not_asked_before_it(retry_after: float | None, waits: float) -> None:
    outcome = Deferred(reason="slow down", retry_after_seconds=retry_after)

    assert verdict_on(outcome) == retry_in(waits, rung=1)


@pytest.mark.parametrize("retry_after", [86_400.0, 1e12, 1e18, math.inf])
def test_a_provider_may_ask_for_more_time_than_there_is(retry_after: float) -> None:
    assert verdict_on(Deferred(reason="not in your life", retry_after_seconds=retry_after)) == Expired()


def test_a_refusal_on_the_last_rung_is_a_dead_letter() -> None:
    last = delivery(rung=len(STANDARD.ladder_seconds))

    assert verdict_on(Deferred(reason="busy"), last) == DeadLetter(error_class="exhausted", message="busy")


def test_a_retry_that_would_come_too_late_is_expired_at_once() -> None:
    for expires_in, expected in [(29, Expired()), (30, Expired()), (31, retry_in(30, rung=1))]:
        dying = delivery(expires_in=timedelta(seconds=expires_in))

        assert verdict_on(Deferred(reason="busy"), dying) == expected
        assert verdict_on(Unknown(reason="no answer"), dying, settings=RESEND) == expected


@pytest.mark.parametrize(("rung", "waits"), [(0, 30), (2, 600), (5, 7200)])
def test_our_own_fault_waits_and_climbs_nothing(rung: int, waits: int) -> None:
    assert verdict_on(Misconfigured(reason="401"), delivery(rung=rung)) == retry_in(waits, rung=rung)


def test_our_own_fault_does_not_outlive_the_delivery() -> None:
    dying = delivery(expires_in=timedelta(seconds=30))

    assert verdict_on(Misconfigured(reason="401"), dying) == Expired()


def test_a_class_without_a_ladder_tries_once() -> None:
    once = msgspec.structs.replace(RESEND, ladder_seconds=())

    assert verdict_on(Misconfigured(reason="401"), settings=once) == retry_in(0, rung=0)
    for outcome in (Deferred(reason="busy"), Unknown(reason="no answer")):
        verdict = verdict_on(outcome, settings=once)
        assert isinstance(verdict, DeadLetter)
        assert verdict.error_class == "exhausted"


def test_a_call_without_an_answer_is_repeated_where_the_far_side_deduplicates() -> None:
    assert verdict_on(Unknown(reason="no answer"), deduplicates_for=HOUR) == retry_in(30, rung=1)


def test_a_call_without_an_answer_is_repeated_where_the_class_says_so() -> None:
    assert verdict_on(Unknown(reason="no answer"), settings=RESEND) == retry_in(30, rung=1)


def test_a_call_without_an_answer_is_otherwise_for_a_person_to_judge() -> None:
    uncertain = DeadLetter(error_class="uncertain", message="no answer; it may have been sent")

    assert verdict_on(Unknown(reason="no answer")) == uncertain
    # Known beats exhausted: it may have been sent, whatever the rung.
    assert verdict_on(Unknown(reason="no answer"), delivery(rung=99)) == uncertain


@pytest.mark.parametrize(
    ("first_failed_ago", "deduplicates_for", "uncertain", "may"),
    [
        (None, None, "dead_letter", False),
        (None, None, "resend", True),
        (None, HOUR, "dead_letter", True),
        (timedelta(minutes=59), HOUR, "dead_letter", True),
        (HOUR, HOUR, "dead_letter", False),
        (HOUR, HOUR, "resend", True),
    ],
)
def test_the_far_side_deduplicates_only_for_its_time(
    first_failed_ago: timedelta | None, deduplicates_for: timedelta | None, uncertain: Uncertain, may: bool
) -> None:
    first = NOW - (first_failed_ago or timedelta(0))
    settings = msgspec.structs.replace(STANDARD, uncertain=uncertain)

    assert may_call_again(settings=settings, deduplicates_for=deduplicates_for, first_called_at=first, now=NOW) is may


# What never happens

CLASSES = st.sampled_from(sorted(DEFAULT_CLASSES))
REASONS = st.just("because")
OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Deferred, reason=REASONS, retry_after_seconds=st.none() | st.floats(min_value=0, allow_nan=False)),
    st.builds(Misconfigured, reason=REASONS),
    st.builds(Unknown, reason=REASONS),
)


@given(class_=CLASSES, outcomes=st.lists(OUTCOMES, min_size=1, max_size=30), lateness=st.floats(0, 100))
def test_no_sequence_of_failures_exceeds_the_cap_or_comes_early_or_late(
    class_: NotificationClass, outcomes: list[Outcome], lateness: float
) -> None:
    settings = msgspec.structs.replace(DEFAULT_CLASSES[class_], uncertain="resend")
    current = delivery(class_=class_, expires_in=settings.time_to_live)
    now = NOW
    refusals = 0

    for outcome in outcomes:
        refusals += not isinstance(outcome, Misconfigured)
        verdict = decide(current, outcome, settings=settings, deduplicates_for=None, now=now)
        assert refusals <= len(settings.ladder_seconds) + 1
        if not isinstance(verdict, RetryAt):
            assert isinstance(verdict, Expired | DeadLetter)
            return
        asked_for = getattr(outcome, "retry_after_seconds", None) or 0.0
        on_ladder = settings.ladder_seconds[min(current.rung, len(settings.ladder_seconds) - 1)]
        assert verdict.due >= now + timedelta(seconds=max(on_ladder, asked_for))
        assert verdict.due < current.expires_at
        now = verdict.due + timedelta(seconds=lateness)
        current = msgspec.structs.replace(current, attempt=current.attempt + 1, rung=verdict.rung)


@given(class_=st.sampled_from(get_args(NotificationClass)), wait=st.timedeltas(-HOUR, 31 * 24 * HOUR))
def test_a_wait_ends_never_early_and_late_by_at_most_the_smallest_rung(
    class_: NotificationClass, wait: timedelta
) -> None:
    due, now, hops = NOW + wait, NOW, 0

    while True:
        topic, hop = place_wait(due=due, now=now, class_=class_)
        hops += 1
        rung = timedelta(seconds=int(topic.rpartition(".")[2]))
        assert topic.startswith(f"pabal.delay.{class_}.")
        assert hop.due == due
        assert hop.release_at <= due
        assert hop.release_at <= now + rung
        now += rung  # where the due times of a topic are in order, its head is let go at the latest by then
        if hop.release_at >= due:
            break

    assert due <= now
    assert now - max(due, NOW) <= SMALLEST
    most_of_each = [longer // shorter for shorter, longer in itertools.pairwise(RUNGS_SECONDS)]
    assert hops <= 31 * 24 * 3600 // RUNGS_SECONDS[-1] + sum(most_of_each) + 1


@given(wait=st.timedeltas(SMALLEST, 31 * 24 * HOUR))
def test_a_wait_takes_the_longest_rung_that_fits(wait: timedelta) -> None:
    topic, hop = place_wait(due=NOW + wait, now=NOW, class_="bulk")

    rung = int(topic.rpartition(".")[2])
    longer = [each for each in RUNGS_SECONDS if each > rung]
    assert hop.release_at == NOW + timedelta(seconds=rung) <= NOW + wait
    assert all(timedelta(seconds=each) > wait for each in longer)


@given(wait=st.timedeltas(-HOUR, 6 * HOUR))
def test_a_park_is_one_hop_that_ends_when_it_is_due(wait: timedelta) -> None:
    topic, hop = place_park(due=NOW + wait, now=NOW, class_="bulk", callee="hooks a")

    rung = int(topic.rpartition(".")[2])
    assert hop.due == hop.release_at == NOW + wait
    assert hop.parked == Parked(callee="hooks a", at=NOW)
    assert timedelta(seconds=rung) >= wait
    assert all(timedelta(seconds=each) < wait for each in RUNGS_SECONDS if each < rung)


def test_a_park_that_ends_before_the_expiry_is_as_long_as_it_is() -> None:
    assert end_of_park(seconds=59, now=NOW, expires_at=NOW + timedelta(seconds=60)) == NOW + timedelta(seconds=59)


@pytest.mark.parametrize("seconds", [60.0, 600.0, 1e6])
def test_a_park_that_would_outlive_the_delivery_ends_halfway_to_its_expiry(seconds: float) -> None:
    due = end_of_park(seconds=seconds, now=NOW, expires_at=NOW + timedelta(seconds=60))

    assert due == NOW + timedelta(seconds=30)


@given(left=st.floats(-10, 7200), seconds=st.floats(SHORTEST_PARK_SECONDS, 600))
def test_parks_end_in_a_few_hops_each_before_the_expiry_but_for_the_last(left: float, seconds: float) -> None:
    expires_at = NOW + timedelta(seconds=left)

    now, hops = NOW, 0
    while (due := end_of_park(seconds=max(seconds, 60), now=now, expires_at=expires_at)) < expires_at:
        assert due - now >= timedelta(seconds=SHORTEST_PARK_SECONDS)
        now, hops = due, hops + 1

    assert hops <= max(left, 0) / 60 + 7

from collections.abc import Sequence

import pytest

from pabal.dlq.redrive.answers import Answers, Tally
from pabal.dlq.redrive.stepping import Pace, Pause, Send, Step, Stop, TokenBucket, next_step
from pabal.notification import DeliveryEvent, EventKind
from tests.dlq.letters import NOW, a_delivery

PACE = Pace(canary=5, per_second=20.0, max_return_ratio=0.2, patience_seconds=60.0)


def step(total: Tally, *, recent: Tally | None = None, is_exhausted: bool = False, silent_seconds: float = 0.0) -> Step:
    return next_step(
        PACE, total=total, recent=recent or total, is_exhausted=is_exhausted, silent_seconds=silent_seconds
    )


@pytest.mark.parametrize(
    ("total", "following"),
    [
        (Tally(), Send(most=5)),
        (Tally(redriven=3), Send(most=2)),
        (Tally(redriven=5), Pause(why="canary")),
        (Tally(redriven=5, sent=4), Pause(why="canary")),
        (Tally(redriven=5, returned=1), Pause(why="canary")),
        (Tally(redriven=5, sent=5), Send(most=100)),
        (Tally(redriven=5, sent=4, returned=1), Send(most=100)),
        (Tally(redriven=5, sent=4, ended=1), Send(most=100)),
        (Tally(redriven=300, sent=200), Send(most=100)),
        (Tally(redriven=300, sent=150), Send(most=50)),
        (Tally(redriven=300, sent=100), Pause(why="answers")),
    ],
)
def test_a_canary_goes_first_and_is_waited_for_then_sending_runs_ahead_of_the_answers_by_so_much(
    total: Tally, following: Step
) -> None:
    assert step(total) == following


@pytest.mark.parametrize(
    "total",
    [
        Tally(redriven=5, sent=3, returned=2),
        Tally(redriven=5, sent=3, returned=1, deferred=1),
        Tally(redriven=5, deferred=5),
        Tally(redriven=5, returned=2),
    ],
)
def test_a_canary_that_comes_back_stops_the_redrive(total: Tally) -> None:
    following = step(total)

    assert isinstance(following, Stop)
    assert following.ended == "aborted"
    assert f"of the last {total.answered}" in following.message


def test_later_the_recent_ones_decide_and_not_those_that_went_well_long_ago() -> None:
    total = Tally(redriven=10_000, sent=9_975, returned=25)

    following = step(total, recent=Tally(redriven=100, sent=75, returned=25))

    assert isinstance(following, Stop)
    assert following.ended == "aborted"


def test_later_a_share_of_few_does_not_stop_it() -> None:
    assert step(Tally(redriven=100, sent=40, returned=3), recent=Tally(redriven=60, returned=3)) == Send(most=100)


def test_when_nothing_is_left_the_last_answers_are_waited_for() -> None:
    assert step(Tally(redriven=30, sent=29), is_exhausted=True) == Pause(why="last_answers")


@pytest.mark.parametrize(
    "total", [Tally(), Tally(redriven=30, sent=20, ended=4, deferred=6), Tally(redriven=2, returned=2)]
)
def test_it_is_complete_when_all_that_was_sent_is_answered_whatever_the_answers(total: Tally) -> None:
    following = step(total, is_exhausted=True)

    assert isinstance(following, Stop)
    assert following.ended == "completed"


@pytest.mark.parametrize("is_exhausted", [True, False])
def test_silence_ends_it_and_asks_after_the_worker(*, is_exhausted: bool) -> None:
    following = step(Tally(redriven=5, sent=4), is_exhausted=is_exhausted, silent_seconds=60.0)

    assert isinstance(following, Stop)
    assert following.ended == "unanswered"
    assert "is a worker running" in following.message


def test_without_a_canary_it_sends_at_once() -> None:
    pace = Pace(canary=0, per_second=2.0)

    assert next_step(pace, total=Tally(), recent=Tally(), is_exhausted=False, silent_seconds=0.0) == Send(most=100)


def event(kind: EventKind, *, attempt: int = 4) -> DeliveryEvent:
    delivery = a_delivery()
    return DeliveryEvent(
        id=delivery.id,
        kind=kind,
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant="shop",
        channel="webhook",
        address="",
        class_="standard",
        attempt=attempt,
        at=NOW,
    )


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        ([], "waiting"),
        ([event("redriven")], "waiting"),
        ([event("parked")], "waiting"),
        ([event("dead_lettered", attempt=3)], "waiting"),
        ([event("sent")], "sent"),
        ([event("sent", attempt=3)], "sent"),
        ([event("deferred")], "deferred"),
        ([event("unknown")], "deferred"),
        ([event("deferred"), event("sent", attempt=5)], "sent"),
        ([event("sent", attempt=5), event("deferred")], "sent"),
        ([event("deferred"), event("dead_lettered", attempt=9)], "returned"),
        ([event("dead_lettered", attempt=9), event("deferred")], "returned"),
        ([event("dead_lettered"), event("sent")], "sent"),
        ([event("rejected")], "ended"),
        ([event("expired")], "ended"),
        ([event("suppressed")], "ended"),
        ([event("cancelled")], "ended"),
        ([event("sent"), event("sent")], "sent"),
    ],
)
@pytest.mark.parametrize("is_known_before", [True, False])
def test_the_answer_of_a_redriven_delivery(
    events: Sequence[DeliveryEvent], answer: str, *, is_known_before: bool
) -> None:
    answers = Answers(recent=10)
    if is_known_before:
        answers.expect(a_delivery().id, attempt=4)

    for each in events:
        answers.take(each)
    answers.expect(a_delivery().id, attempt=4)

    tally = answers.tally()
    assert tally == answers.last()
    assert (tally.redriven, getattr(tally, answer)) == (1, 1)
    assert tally.answered == (0 if answer == "waiting" else 1)


def test_only_the_last_ones_count_as_recent() -> None:
    answers = Answers(recent=2)
    for number in (1, 2, 3):
        answers.expect(a_delivery(number).id, attempt=4)

    answers.take(event("dead_lettered"))

    assert answers.tally() == Tally(redriven=3, returned=1)
    assert answers.last() == Tally(redriven=2)


def test_a_bucket_lets_so_many_a_second_through() -> None:
    bucket = TokenBucket(per_second=10.0, now_seconds=0.0)
    passed = 0

    for tick in range(101):
        count = bucket.available(now_seconds=tick / 10)
        bucket.take(count)
        passed += count

    assert 100 <= passed <= 101


def test_a_bucket_saves_up_a_second_at_most() -> None:
    bucket = TokenBucket(per_second=10.0, now_seconds=0.0)

    assert bucket.available(now_seconds=60.0) == 10


def test_a_slow_bucket_lets_one_through_in_its_time() -> None:
    bucket = TokenBucket(per_second=0.5, now_seconds=0.0)
    bucket.take(bucket.available(now_seconds=0.0))

    assert bucket.available(now_seconds=1.9) == 0
    assert bucket.available(now_seconds=2.0) == 1

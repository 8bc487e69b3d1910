from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pabal.broker.port import NewRecord, Record
from pabal.codec import read_delivery, read_event, read_wait
from pabal.notification import EVENTS_TOPIC, Address, Content, Delivery, delivery_id, notification_id
from pabal.outcome import (
    Accepted,
    Cancelled,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Suppressed,
    Unknown,
    Verdict,
)
from pabal.worker.effects import kind_of_outcome, records_of_verdict
from pabal.worker.errand import Errand

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ASKED = notification_id(tenant="shop", idempotency_key="k")
DELIVERY = Delivery(
    id=delivery_id(ASKED, Address(channel="webhook", address="https://example.com/")),
    notification_id=ASKED,
    tenant="shop",
    channel="webhook",
    address="https://example.com/",
    class_="critical",
    accepted_at=NOW,
    expires_at=NOW + timedelta(hours=1),
    content=Content(body="x"),
    attempt=2,
    rung=1,
    parks=3,
)
ORIGIN = Record(topic="pabal.deliveries.webhook.critical", partition=1, offset=4, timestamp=0.0, key=b"k", value=b"v")


def an_errand(delivery: Delivery = DELIVERY) -> Errand:
    """A look at a delivery, as its second attempt."""
    return Errand(delivery=delivery, at=NOW, provider="hooks", origin=ORIGIN, group="g", attempt=2, latency_seconds=0.5)


def records(verdict: Verdict, outcome: Outcome | None = None, *, delivery: Delivery = DELIVERY) -> list[Record]:
    return [
        Record(topic=r.topic, partition=0, offset=0, timestamp=0.0, key=r.key, value=r.value, headers=r.headers)
        for r in records_of_verdict(an_errand(delivery), verdict, outcome=outcome)
    ]


@pytest.mark.parametrize(
    ("verdict", "outcome", "kind"),
    [
        (Done(), Accepted(provider_id="p", response="ok"), "sent"),
        (Expired(), None, "expired"),
        (Suppressed(), None, "suppressed"),
        (Cancelled(), None, "cancelled"),
        (Refused(reason="gone"), Rejected(reason="gone"), "rejected"),
    ],
)
def test_a_final_verdict_is_one_event(verdict: Verdict, outcome: Outcome | None, kind: str) -> None:
    [record] = records(verdict, outcome)

    event = read_event(record)

    assert record.topic == EVENTS_TOPIC
    assert event.kind == kind
    assert event.attempt == 2
    assert event.provider == "hooks"
    assert event.latency_seconds == 0.5


def test_a_retry_goes_down_the_delay_line_with_the_next_attempt_and_no_parks() -> None:
    due = NOW + timedelta(seconds=30)

    waiting, told = records(RetryAt(due=due, rung=2), Deferred(reason="503"))

    assert waiting.topic == "pabal.delay.critical.30"
    following = read_delivery(waiting)
    assert (following.attempt, following.rung, following.parks) == (3, 2, 0)
    assert following.first_failed_at == NOW
    assert read_wait(waiting).due == due
    event = read_event(told)
    assert (event.kind, event.due, event.detail) == ("deferred", due, "503")


def test_an_unknown_call_that_is_repeated_is_told_as_unknown() -> None:
    _, told = records(RetryAt(due=NOW + timedelta(seconds=5), rung=1), Unknown(reason="no answer"))

    assert read_event(told).kind == "unknown"


def test_a_retry_that_is_due_already_goes_straight_to_its_topic() -> None:
    waiting, _ = records(RetryAt(due=NOW - timedelta(seconds=1), rung=2), Deferred(reason="503"))

    assert waiting.topic == "pabal.deliveries.webhook.critical"


def test_a_park_keeps_attempt_and_rung_and_counts_itself() -> None:
    waiting, told = records(Park(due=NOW + timedelta(seconds=5), callee="hooks a"))

    following = read_delivery(waiting)
    assert (following.attempt, following.rung, following.parks) == (2, 1, 4)
    assert dict(waiting.headers)["x-parked-for"] == b"hooks a"
    assert read_event(told).kind == "parked"


def test_each_park_of_an_attempt_is_told_by_itself() -> None:
    park = Park(due=NOW + timedelta(seconds=5))

    told = [records(park, delivery=msgspec.structs.replace(DELIVERY, parks=parks))[1] for parks in (0, 0, 1, 2)]

    assert len({read_event(each).id for each in told}) == 3


def test_a_dead_letter_says_why_and_where_from() -> None:
    dead, told = records(DeadLetter(error_class="exhausted", message="503"), Deferred(reason="503"))

    assert dead.topic == "pabal.dead.webhook"
    assert dead.header("x-error-class") == b"exhausted"
    assert dead.header("x-attempts") == b"2"
    assert dead.header("x-original-offset") == b"4"
    assert dead.header("x-provider") == b"hooks"
    assert read_delivery(dead).id == DELIVERY.id
    assert read_event(told).kind == "dead_lettered"


def test_appending_a_verdict_again_gives_the_same_event_id() -> None:
    first: list[NewRecord] = records_of_verdict(an_errand(), Done(), outcome=None)
    second = records_of_verdict(an_errand(), Done(), outcome=None)

    assert dict(first[0].headers)["ce_id"] == dict(second[0].headers)["ce_id"]


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        (Accepted(), "sent"),
        (Unknown(reason="x"), "unknown"),
        (Rejected(reason="x"), "rejected"),
        (Deferred(reason="x"), "deferred"),
        (Misconfigured(reason="x"), "deferred"),
    ],
)
def test_a_call_that_ended_late_is_told_by_its_outcome(outcome: Outcome, kind: str) -> None:
    assert kind_of_outcome(outcome) == kind

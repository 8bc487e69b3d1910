"""The trace stays with a delivery wherever its records go: retried, parked, released, given up, redriven."""

from datetime import timedelta

import msgspec
import pytest

from pabal.broker.port import NewRecord, Record
from pabal.codec import delivery_record, read_delivery, read_event, read_wait
from pabal.delayline.shelf import Shelved, released
from pabal.dlq.letters.letter import read_letter
from pabal.dlq.redrive.plan import redriven_delivery
from pabal.notification import EVENTS_TOPIC
from pabal.outcome import DeadLetter, Done, Expired, Park, RetryAt, Verdict
from pabal.worker.effects import records_of_verdict
from pabal.worker.errand import Errand
from tests.tracing.test_opentelemetry import CALLER, NOW, a_delivery

STATE = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
DELIVERY = a_delivery(traceparent=CALLER, tracestate=STATE, class_="critical")


def in_the_log(record: NewRecord) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp=NOW.timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def an_errand() -> Errand:
    """A look at the delivery's first record."""
    origin = in_the_log(delivery_record(DELIVERY))
    return Errand(delivery=DELIVERY, at=NOW, provider="hooks", origin=origin, group="g", attempt=1)


def next_record(verdict: Verdict) -> Record:
    """The record that follows a verdict about the delivery's first attempt."""
    records = records_of_verdict(an_errand(), verdict, outcome=None)
    [record] = [record for record in records if record.topic != EVENTS_TOPIC]
    return in_the_log(record)


@pytest.mark.parametrize(
    "verdict", [RetryAt(due=NOW, rung=1), DeadLetter(error_class="exhausted", message="no"), Expired(), Done()]
)
def test_every_event_names_it(verdict: Verdict) -> None:
    records = records_of_verdict(an_errand(), verdict, outcome=None)

    [event] = [in_the_log(record) for record in records if record.topic == EVENTS_TOPIC]
    assert event.header("ce_traceparent") == CALLER.encode()
    assert read_event(event).traceparent == CALLER


def is_traced(record: Record) -> bool:
    delivery = read_delivery(record)
    in_headers = (record.header("traceparent"), record.header("tracestate"))
    return in_headers == (CALLER.encode(), STATE.encode()) and (delivery.traceparent, delivery.tracestate) == (
        CALLER,
        STATE,
    )


def test_through_every_hop_of_the_delay_line() -> None:
    first_hop = next_record(RetryAt(due=NOW + timedelta(seconds=40), rung=1))
    held = Shelved(record=first_hop, wait=read_wait(first_hop), following=read_delivery(first_hop))
    second_hop = in_the_log(released(held, NOW + timedelta(seconds=30)))
    back = in_the_log(released(held, NOW + timedelta(seconds=40)))

    assert [record.topic for record in (first_hop, second_hop, back)] == [
        "pabal.delay.critical.30",
        "pabal.delay.critical.5",
        "pabal.deliveries.webhook.critical",
    ]
    assert all(map(is_traced, (first_hop, second_hop, back)))


def test_through_the_one_hop_of_a_park() -> None:
    hop = next_record(Park(due=NOW + timedelta(seconds=40)))
    held = Shelved(record=hop, wait=read_wait(hop), following=read_delivery(hop))
    back = in_the_log(released(held, NOW + timedelta(seconds=40)))

    assert back.topic == "pabal.deliveries.webhook.critical"
    assert all(map(is_traced, (hop, back)))


def test_through_the_dead_letters_and_back() -> None:
    dead = next_record(DeadLetter(error_class="exhausted", message="no"))
    redriven = in_the_log(delivery_record(redriven_delivery(read_letter(dead))))

    assert dead.topic == "pabal.dead.webhook"
    assert redriven.topic == "pabal.deliveries.webhook.critical"
    assert read_delivery(redriven).attempt == 2
    assert all(map(is_traced, (dead, redriven)))


@pytest.mark.parametrize(("traceparent", "names"), [(CALLER, ["schema", "traceparent"]), (None, ["schema"])])
def test_what_there_is_not_has_no_header(traceparent: str | None, names: list[str]) -> None:
    record = delivery_record(msgspec.structs.replace(DELIVERY, traceparent=traceparent, tracestate=None))

    assert [name for name, _ in record.headers] == names
    assert b"trace" not in (record.value or b"") or traceparent
    assert b"tracestate" not in (record.value or b"")

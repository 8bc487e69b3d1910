"""Which fact a record tells."""

from datetime import UTC, datetime

import msgspec
import pytest

from pabal.broker.port import Headers, NewRecord, Record
from pabal.codec import delivery_record, event_record, receipt_record
from pabal.errors import DecodeError
from pabal.groups import recorded_topics
from pabal.recorder.reading import read_fact
from pabal.store.port import DeadLettered
from tests.store.laws.lab import NOW, a_delivery, a_receipt, an_event

DELIVERY = a_delivery()


def in_the_log(record: NewRecord, *, topic: str | None = None) -> Record:
    return Record(
        topic=topic or record.topic,
        partition=1,
        offset=5,
        timestamp=NOW.timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def dead(value: bytes, *headers: tuple[str, bytes]) -> Record:
    return in_the_log(NewRecord(topic="pabal.dead.webhook", key=None, value=value, headers=headers))


def test_each_topic_tells_its_own_facts() -> None:
    event, receipt = an_event(DELIVERY, "sent"), a_receipt("bounced", delivery_id=DELIVERY.id)

    assert read_fact(in_the_log(delivery_record(DELIVERY))) == DELIVERY
    assert read_fact(in_the_log(event_record(event))) == event
    assert read_fact(in_the_log(receipt_record(receipt))) == receipt


def test_a_dead_letter_tells_why_and_of_which_delivery() -> None:
    value = delivery_record(DELIVERY).value or b""

    fact = read_fact(
        dead(
            value,
            ("schema", b"delivery/1"),
            ("x-failed-at", b"2026-01-01T00:00:03+00:00"),
            ("x-error-class", b"exhausted"),
            ("x-error-message", b"503"),
        )
    )

    assert fact == DeadLettered(
        topic="pabal.dead.webhook",
        partition=1,
        offset=5,
        at=datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC),
        error_class="exhausted",
        message="503",
        delivery=DELIVERY,
    )


@pytest.mark.parametrize(
    "headers",
    [(), (("x-failed-at", b"soon"),), (("x-failed-at", b"2026-01-01T00:00:03"),), (("x-failed-at", b"\xff"),)],
)
def test_a_dead_letter_of_which_nothing_can_be_read_is_one_all_the_same(headers: Headers) -> None:
    fact = read_fact(dead(b"\xff\x00", *headers))

    assert isinstance(fact, DeadLettered)
    assert (fact.at, fact.error_class, fact.message, fact.delivery) == (NOW, "", "", None)


@pytest.mark.parametrize("topic", ["pabal.events", "pabal.deliveries.webhook.standard"])
def test_bytes_elsewhere_that_are_no_fact_are_undecodable(topic: str) -> None:
    record = in_the_log(msgspec.structs.replace(delivery_record(DELIVERY), value=b"\xff", headers=()), topic=topic)

    with pytest.raises(DecodeError):
        read_fact(record)


def test_the_topics_are_those_of_the_channels_the_dead_and_the_events() -> None:
    assert recorded_topics(["email"]) == [
        "pabal.deliveries.email.critical",
        "pabal.deliveries.email.standard",
        "pabal.deliveries.email.bulk",
        "pabal.dead.email",
        "pabal.dead.unknown",
        "pabal.events",
    ]

import uuid
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from pabal.broker.port import NewRecord, Record
from pabal.codec import (
    dead_record,
    delay_record,
    delivery_record,
    event_record,
    read_delivery,
    read_event,
    read_receipt,
    read_wait,
    receipt_record,
)
from pabal.errors import DecodeError
from pabal.notification import (
    Address,
    Content,
    Delivery,
    DeliveryEvent,
    Receipt,
    delivery_id,
    event_id,
    notification_id,
    receipt_id,
)
from pabal.retry import Parked, Wait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_delivery(**changes: object) -> Delivery:
    asked = notification_id(tenant="shop", idempotency_key="k")
    delivery = Delivery(
        id=delivery_id(asked, Address(channel="webhook", address="https://example.com/")),
        notification_id=asked,
        tenant="shop",
        channel="webhook",
        address="https://example.com/",
        class_="standard",
        accepted_at=NOW,
        expires_at=NOW + timedelta(days=1),
        content=Content(title="Hello", body="World"),
    )
    return msgspec.structs.replace(delivery, **changes)


def in_the_log(record: NewRecord) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=5,
        timestamp=NOW.timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def test_a_delivery_survives_its_record() -> None:
    delivery = a_delivery(order_key="order-17", tags=("a", "b"), attempt=3, rung=2, parks=1)

    record = delivery_record(delivery)

    assert record.topic == "pabal.deliveries.webhook.standard"
    assert record.key == b"shop/order-17"
    assert read_delivery(in_the_log(record)) == delivery


@pytest.mark.parametrize("parked", [None, Parked(callee="hooks é.example", at=NOW)])
def test_a_wait_survives_its_record(parked: Parked | None) -> None:
    wait = Wait(due=NOW + timedelta(seconds=31), release_at=NOW + timedelta(seconds=30), parked=parked)

    record = in_the_log(delay_record(a_delivery(), topic="pabal.delay.standard.30", wait=wait))

    assert read_wait(record) == wait
    assert read_delivery(record) == a_delivery()


def test_newer_minor_fields_are_ignored() -> None:
    record = delivery_record(a_delivery())
    value = msgspec.json.decode(record.value or b"") | {"invented_later": 1}

    newer = msgspec.structs.replace(record, value=msgspec.json.encode(value))

    assert read_delivery(in_the_log(newer)) == a_delivery()


@pytest.mark.parametrize(
    ("changes", "error_class"),
    [
        ({"headers": (("schema", b"delivery/2"),)}, "unknown_schema"),
        ({"headers": ()}, "unknown_schema"),
        ({"value": b"\xff\x00"}, "undecodable"),
        ({"value": None}, "undecodable"),
        ({"value": b'{"id": 1}'}, "undecodable"),
        ({"value": b'"\xff"'}, "undecodable"),
    ],
)
def test_bytes_that_are_no_delivery_are_named(changes: dict[str, object], error_class: str) -> None:
    record = msgspec.structs.replace(in_the_log(delivery_record(a_delivery())), **changes)

    with pytest.raises(DecodeError) as raised:
        read_delivery(record)

    assert raised.value.error_class == error_class


@pytest.mark.parametrize("due", [b"", b"soon", b"2026-01-01T00:00:00", b"\xff"])
def test_a_delay_record_without_readable_times_is_undecodable(due: bytes) -> None:
    record = msgspec.structs.replace(in_the_log(delivery_record(a_delivery())), headers=(("x-due", due),))

    with pytest.raises(DecodeError):
        read_wait(record)


def test_an_event_is_a_cloud_event_in_binary_mode() -> None:
    delivery = a_delivery()
    event = DeliveryEvent(
        id=event_id(delivery.id, attempt=1, kind="sent"),
        kind="sent",
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant="shop",
        channel="webhook",
        address=delivery.address,
        class_="standard",
        attempt=1,
        at=NOW,
    )

    record = in_the_log(event_record(event))

    assert record.header("ce_specversion") == b"1.0"
    assert record.header("ce_type") == b"pabal.delivery.sent"
    assert record.header("ce_id") == str(event.id).encode()
    assert read_event(record) == event


@pytest.mark.parametrize(("named", "key"), [("delivery", b"11" * 16), ("provider's id", b"smtp/m-1")])
def test_a_receipt_is_a_cloud_event_in_binary_mode(named: str, key: bytes) -> None:
    receipt = Receipt(
        id=receipt_id(provider="smtp", event="e-1"),
        provider="smtp",
        kind="bounced",
        at=NOW,
        delivery_id=uuid.UUID("11" * 16) if named == "delivery" else None,
        provider_id="m-1",
        is_permanent=True,
    )

    record = in_the_log(receipt_record(receipt))

    assert (record.topic, record.key) == ("pabal.events", key)
    assert record.header("ce_specversion") == b"1.0"
    assert record.header("ce_type") == b"pabal.receipt.bounced"
    assert record.header("ce_id") == str(receipt.id).encode()
    assert read_receipt(record) == receipt


def test_events_and_receipts_are_not_taken_for_each_other() -> None:
    receipt = Receipt(id=receipt_id(provider="smtp", event="e-1"), provider="smtp", kind="bounced", at=NOW)
    record = in_the_log(receipt_record(receipt))
    mangled = msgspec.structs.replace(record, value=b"{}")

    with pytest.raises(DecodeError, match="schema 'receipt/1'"):
        read_event(record)
    with pytest.raises(DecodeError, match="not a receipt"):
        read_receipt(mangled)


def test_a_dead_letter_of_unreadable_bytes_keeps_them_and_says_where_they_stood() -> None:
    origin = Record(topic="t", partition=2, offset=9, timestamp=NOW.timestamp(), key=b"k", value=b"\xff\x00")

    dead = dead_record(
        origin, channel="email", delivery=None, error_class="undecodable", message="bad", at=NOW, group="g"
    )

    headers = dict(dead.headers)
    assert dead.topic == "pabal.dead.email"
    assert (dead.key, dead.value) == (b"k", b"\xff\x00")
    assert headers["x-original-topic"] == b"t"
    assert (headers["x-original-partition"], headers["x-original-offset"]) == (b"2", b"9")
    assert headers["x-error-class"] == b"undecodable"
    assert headers["x-attempts"] == b"0"


def test_ids_are_derived_and_told_apart_by_every_part() -> None:
    one = notification_id(tenant="ab", idempotency_key="c")

    assert one == notification_id(tenant="ab", idempotency_key="c")
    assert one != notification_id(tenant="a", idempotency_key="bc")
    assert event_id(one, attempt=1, kind="sent") != event_id(one, attempt=2, kind="sent")


def test_derived_ids_are_those_of_uuid5() -> None:
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://pabal.dev/ids/1")

    derived = notification_id(tenant="shop", idempotency_key="k-1")

    assert derived == uuid.uuid5(namespace, "12:notification4:shop3:k-1")
    assert derived.version == 5


@pytest.mark.parametrize("traceparent", [None, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])
def test_a_trace_stands_in_a_header_of_every_record_of_the_delivery_that_has_one(traceparent: str | None) -> None:
    delivery = a_delivery(traceparent=traceparent)
    origin = in_the_log(delivery_record(delivery))

    delayed = delay_record(delivery, topic="pabal.delay.bulk.5", wait=Wait(due=NOW, release_at=NOW))
    dead = dead_record(
        origin, channel="webhook", delivery=delivery, error_class="exhausted", message="", at=NOW, group="g"
    )

    for record in (origin, in_the_log(delayed), in_the_log(dead)):
        assert record.header("traceparent") == (traceparent.encode() if traceparent else None)
        assert read_delivery(record).traceparent == traceparent


def test_a_value_that_is_nested_too_deeply_is_undecodable() -> None:
    record = msgspec.structs.replace(in_the_log(delivery_record(a_delivery())), value=b'{"x":' + b"[" * 100_000)

    with pytest.raises(DecodeError, match="not a delivery"):
        read_delivery(record)

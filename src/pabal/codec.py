"""What Pabal's records look like: JSON values, text headers, and a schema name with a version in each.

Within a major version new fields may appear and are ignored by older readers; an unknown major version is
undecodable. Header names of dead letters follow what Kafka Connect and Spring carry, under neutral names.
"""

import functools
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import msgspec

from pabal.broker.port import Headers, NewRecord, Record
from pabal.channels.content import delivery_type
from pabal.channels.suppression import suppression_key
from pabal.errors import DecodeError
from pabal.notification import (
    EVENTS_TOPIC,
    SUPPRESSIONS_TOPIC,
    Delivery,
    DeliveryEvent,
    Receipt,
    Suppression,
    dead_topic,
    deliveries_topic,
    is_reckoned,
)
from pabal.retry import Parked, Wait

SCHEMA_HEADER = "schema"
TRACEPARENT_HEADER = "traceparent"
TRACESTATE_HEADER = "tracestate"
DELIVERY_SCHEMA = b"delivery/1"
EVENT_SCHEMA = b"delivery-event/1"
RECEIPT_SCHEMA = b"receipt/1"
SUPPRESSION_SCHEMA = b"suppression/1"

_CUT_BYTES = 64 * 1024
_MOST_COUNTED: Final = 2**30
"""No delivery is called so often; twice as much is no integer of PostgreSQL."""

_MOST_SAID: Final = 500
"""Characters of why a record cannot be read: msgspec repeats the word that it did not know, however long."""

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
_decode_event = msgspec.json.Decoder(DeliveryEvent).decode
_decode_receipt = msgspec.json.Decoder(Receipt).decode
_decode_suppression = msgspec.json.Decoder(Suppression).decode


@functools.cache
def _delivery_decoder() -> Callable[[bytes], Delivery]:
    """Made at the first record: what a content may say follows from the channels that are installed."""
    return msgspec.json.Decoder(delivery_type()).decode


_DELIVERY_HEADERS: Headers = ((SCHEMA_HEADER, DELIVERY_SCHEMA),)
_CLOUD_EVENT_HEADERS: Headers = (
    ("ce_specversion", b"1.0"),
    ("ce_source", b"/pabal"),
    ("content-type", b"application/json"),
)
_EVENT_HEADERS: Headers = ((SCHEMA_HEADER, EVENT_SCHEMA), *_CLOUD_EVENT_HEADERS)
_RECEIPT_HEADERS: Headers = ((SCHEMA_HEADER, RECEIPT_SCHEMA), *_CLOUD_EVENT_HEADERS)


def delivery_record(delivery: Delivery) -> NewRecord:
    """The delivery on its way to a worker."""
    return NewRecord(
        topic=deliveries_topic(delivery.channel, delivery.class_),
        key=delivery.record_key,
        value=_encode(delivery),
        headers=_headers_of(delivery),
    )


def delay_record(delivery: Delivery, *, topic: str, wait: Wait) -> NewRecord:
    """The delivery on its way down the delay line; it comes back to its channel's and class's topic."""
    return NewRecord(
        topic=topic,
        key=delivery.record_key,
        value=_encode(delivery),
        headers=(
            *_headers_of(delivery),
            ("x-due", _text(wait.due)),
            ("x-release-at", _text(wait.release_at)),
            *(_headers_of_park(wait.parked) if wait.parked is not None else ()),
        ),
    )


def read_delivery(record: Record) -> Delivery:
    """The delivery in a record of `pabal.deliveries.*`, `pabal.delay.*` or `pabal.dead.*`.

    Raises:
        DecodeError: wrong schema, not JSON, or a field that does not fit; says which.
    """
    check_schema(record, DELIVERY_SCHEMA)
    delivery = decoded(_delivery_decoder(), record.value, what="a delivery")
    _check_reckoning(delivery)
    return delivery


def read_wait(record: Record) -> Wait:
    """How long a record of `pabal.delay.*` waits. Raises DecodeError when its headers do not say."""
    try:
        due, release_at = (read_instant(record.header(name)) for name in ("x-due", "x-release-at"))
        callee = record.header("x-parked-for")
        parked = Parked(callee=callee.decode(), at=read_instant(record.header("x-parked-at"))) if callee else None
    except ValueError as error:
        raise _undecodable(f"x-due, x-release-at, x-parked-at: {error}") from None
    return Wait(due=due, release_at=release_at, parked=parked)


def event_record(event: DeliveryEvent) -> NewRecord:
    """The event as a CloudEvent 1.0 in Kafka binary mode (CloudEvents Kafka binding §3.2)."""
    return NewRecord(
        topic=EVENTS_TOPIC,
        key=event.delivery_id.hex.encode(),
        value=_encode(event),
        headers=(
            *_EVENT_HEADERS,
            ("ce_id", str(event.id).encode()),
            ("ce_type", b"pabal.delivery." + event.kind.encode()),
            ("ce_time", event.at.isoformat().encode()),
            *((("ce_traceparent", event.traceparent.encode()),) if event.traceparent else ()),
        ),
    )


def read_event(record: Record) -> DeliveryEvent:
    """The event in a record of `pabal.events`. Raises DecodeError."""
    check_schema(record, EVENT_SCHEMA)
    return decoded(_decode_event, record.value, what="a delivery event")


def receipt_record(receipt: Receipt) -> NewRecord:
    """The receipt as a CloudEvent beside the delivery's own events, where it names the delivery."""
    named = receipt.delivery_id.hex if receipt.delivery_id else f"{receipt.provider}/{receipt.provider_id}"
    return NewRecord(
        topic=EVENTS_TOPIC,
        key=named.encode(),
        value=_encode(receipt),
        headers=(
            *_RECEIPT_HEADERS,
            ("ce_id", str(receipt.id).encode()),
            ("ce_type", b"pabal.receipt." + receipt.kind.encode()),
            ("ce_time", receipt.at.isoformat().encode()),
        ),
    )


def read_receipt(record: Record) -> Receipt:
    """The receipt in a record of `pabal.events`. Raises DecodeError."""
    check_schema(record, RECEIPT_SCHEMA)
    return decoded(_decode_receipt, record.value, what="a receipt")


def suppression_record(suppression: Suppression) -> NewRecord:
    """The suppression in its compacted topic. A record of its key without a value (`lifting_record`) ends it."""
    return NewRecord(
        topic=SUPPRESSIONS_TOPIC,
        key=suppression_key(tenant=suppression.tenant, channel=suppression.channel, address=suppression.address),
        value=_encode(suppression),
        headers=((SCHEMA_HEADER, SUPPRESSION_SCHEMA),),
    )


def lifting_record(key: bytes) -> NewRecord:
    """The end of a suppression: a tombstone."""
    return NewRecord(topic=SUPPRESSIONS_TOPIC, key=key, value=None, headers=((SCHEMA_HEADER, SUPPRESSION_SCHEMA),))


def read_suppression(record: Record) -> Suppression | None:
    """The suppression in a record of `pabal.suppressions`; None: it was lifted.

    Raises DecodeError, also when it speaks of another address than its key.
    """
    if record.value is None:
        return None
    check_schema(record, SUPPRESSION_SCHEMA)
    read = decoded(_decode_suppression, record.value, what="a suppression")
    if suppression_key(tenant=read.tenant, channel=read.channel, address=read.address) != record.key:
        raise DecodeError("a suppression of another address than its key names", error_class="misplaced")
    return read


def dead_record(
    origin: Record,
    *,
    channel: str,
    delivery: Delivery | None,
    error_class: str,
    message: str,
    at: datetime,
    group: str,
    provider: str = "",
) -> NewRecord:
    """The dead letter of a record: its value as it was (raw when it could not be read), and why, in headers.

    `delivery` replaces the value by the delivery as it stood at its last attempt; None keeps the raw bytes.
    `provider` is the provider that was to carry it, if one was chosen.
    """
    failed_at = at.isoformat().encode()
    first = delivery.first_failed_at if delivery else None
    return NewRecord(
        topic=dead_topic(channel),
        key=origin.key,
        value=origin.value if delivery is None else _encode(delivery),
        headers=(
            *(_headers_of(delivery) if delivery else ((SCHEMA_HEADER, origin.header(SCHEMA_HEADER) or b""),)),
            ("x-original-topic", origin.topic.encode()),
            ("x-original-partition", str(origin.partition).encode()),
            ("x-original-offset", str(origin.offset).encode()),
            ("x-original-timestamp", datetime.fromtimestamp(origin.timestamp, UTC).isoformat().encode()),
            ("x-group", group.encode()),
            ("x-provider", provider.encode()),
            ("x-attempts", str(delivery.attempt if delivery else 0).encode()),
            ("x-first-failed-at", first.isoformat().encode() if first else failed_at),
            ("x-failed-at", failed_at),
            ("x-error-class", error_class.encode()),
            ("x-error-message", message.encode(errors="replace")[:2048]),
        ),
    )


def cut_record(record: NewRecord) -> NewRecord:
    """A record that the log refuses for its size, with the start of its value; where the whole stands, its headers
    say (`x-original-…`)."""
    value = record.value or b""
    return msgspec.structs.replace(
        record, value=value[:_CUT_BYTES], headers=(*record.headers, ("x-cut-from-bytes", str(len(value)).encode()))
    )


def _headers_of(delivery: Delivery) -> Headers:
    """The schema, and the trace where there is one: consumers that trace look for it in headers of these names."""
    if delivery.traceparent is None:
        return _DELIVERY_HEADERS
    trace = (*_DELIVERY_HEADERS, (TRACEPARENT_HEADER, delivery.traceparent.encode()))
    if delivery.tracestate is None:
        return trace
    return (*trace, (TRACESTATE_HEADER, delivery.tracestate.encode()))


def _headers_of_park(parked: Parked) -> Headers:
    return ("x-parked-for", parked.callee.encode()), ("x-parked-at", _text(parked.at))


def check_schema(record: Record, expected: bytes) -> None:
    """Raise DecodeError unless the record's header names this schema."""
    schema = record.header(SCHEMA_HEADER)
    if schema != expected:
        raise DecodeError(
            f"schema {(schema or b'')[:_MOST_SAID].decode(errors='replace')!r}, expected {expected.decode()!r}",
            error_class="unknown_schema",
        )


def decoded(decode: Callable[[bytes], T], value: bytes | None, *, what: str) -> T:
    """The value of a record by a msgspec decoder. `what` it should be, for the error.

    Raises DecodeError for whatever bytes these are.
    """
    try:
        return decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _undecodable(f"not {what}: {error}") from None


def read_instant(text: bytes | None) -> datetime:
    """The instant in a header. Raises ValueError for what is none, has no time zone, or is beyond all reckoning."""
    instant = datetime.fromisoformat((text or b"").decode())
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone")
    if not is_reckoned(instant):
        raise ValueError(f"{instant} is beyond all reckoning")
    return instant


def _undecodable(why: str) -> DecodeError:
    # What it repeats of the record's bytes stands in log lines and tables.
    said = "".join(each if each.isprintable() else "?" for each in why[:_MOST_SAID])
    return DecodeError(said, error_class="undecodable")


def _check_reckoning(delivery: Delivery) -> None:
    """Raise DecodeError for what no arithmetic or database takes: what is decided with it would fail later."""
    is_reckoned_with = (
        is_reckoned(delivery.accepted_at)
        and is_reckoned(delivery.expires_at)
        and is_reckoned(delivery.send_at)
        and is_reckoned(delivery.first_failed_at)
    )
    if not is_reckoned_with:
        raise _undecodable("not a delivery: a time beyond all reckoning")
    if max(delivery.attempt, delivery.rung, delivery.parks, delivery.edit, delivery.redrives) >= _MOST_COUNTED:
        raise _undecodable("not a delivery: a count beyond all reckoning")
    if delivery.provider is not None and "\0" in delivery.provider:
        raise _undecodable("not a delivery: a provider's name with a NUL")


def _text(instant: datetime) -> bytes:
    return instant.isoformat().encode()

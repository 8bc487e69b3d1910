"""Which fact a record of the log tells. Pure."""

from datetime import UTC, datetime

from pabal.broker.port import Record
from pabal.codec import RECEIPT_SCHEMA, SCHEMA_HEADER, read_delivery, read_event, read_instant, read_receipt
from pabal.errors import DecodeError
from pabal.notification import EVENTS_TOPIC, Delivery
from pabal.store.port import DeadLettered, StoredFact


def read_fact(record: Record) -> StoredFact:
    """The fact in a record of `recorded_topics`.

    Raises:
        DecodeError: its bytes cannot be read. Never raised for a dead letter: unreadable bytes may be why it is one.
    """
    if record.topic == EVENTS_TOPIC:
        if record.header(SCHEMA_HEADER) == RECEIPT_SCHEMA:
            return read_receipt(record)
        return read_event(record)
    if record.topic.startswith("pabal.dead."):
        return _read_dead_letter(record)
    return read_delivery(record)


def _read_dead_letter(record: Record) -> DeadLettered:
    delivery: Delivery | None
    try:
        delivery = read_delivery(record)
    except DecodeError:
        delivery = None
    return DeadLettered(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=_failed_at(record),
        error_class=_text(record, "x-error-class"),
        message=_text(record, "x-error-message"),
        delivery=delivery,
    )


def _failed_at(record: Record) -> datetime:
    try:
        return read_instant(record.header("x-failed-at"))
    except ValueError:
        return datetime.fromtimestamp(record.timestamp, UTC)


def _text(record: Record, header: str) -> str:
    return (record.header(header) or b"").decode(errors="replace")

"""Dead letters for tests, as a worker would have written them."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import dead_record
from pabal.dlq.letters.letter import Letter, read_letter
from pabal.notification import Content, Delivery

NOW = datetime(2026, 1, 2, 12, tzinfo=UTC)
ORIGIN = Record(topic="pabal.deliveries.webhook.standard", partition=1, offset=7, timestamp=0.0, key=b"k", value=b"{}")


def a_delivery(number: int = 1, **changes: Any) -> Delivery:
    delivery = Delivery(
        id=uuid.uuid5(uuid.NAMESPACE_URL, f"delivery/{number}"),
        notification_id=uuid.uuid5(uuid.NAMESPACE_URL, f"notification/{number}"),
        tenant="shop",
        channel="webhook",
        address="https://example.com/hook",
        class_="standard",
        accepted_at=NOW - timedelta(hours=1),
        expires_at=NOW + timedelta(days=1),
        content=Content(body="hello"),
        attempt=3,
        rung=2,
        parks=1,
        first_failed_at=NOW - timedelta(minutes=50),
    )
    return msgspec.structs.replace(delivery, **changes)


def a_dead_record(
    delivery: Delivery | None = None, *, error_class: str = "exhausted", at: datetime = NOW, provider: str = "webhook"
) -> NewRecord:
    """A letter about a delivery; without one, about bytes that nobody can read."""
    return dead_record(
        ORIGIN if delivery else msgspec.structs.replace(ORIGIN, value=b"\xff\x00junk"),
        channel=delivery.channel if delivery else "webhook",
        delivery=delivery,
        error_class=error_class if delivery else "undecodable",
        message="503 Service Unavailable" if delivery else "not a delivery",
        at=at,
        group="pabal.worker.webhook.standard",
        provider=provider,
    )


def in_the_log(record: NewRecord, *, offset: int = 0, at: datetime = NOW) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=offset,
        timestamp=at.timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


def a_letter(delivery: Delivery | None = None, *, offset: int = 0, **more: Any) -> Letter:
    return read_letter(in_the_log(a_dead_record(delivery, **more), offset=offset))

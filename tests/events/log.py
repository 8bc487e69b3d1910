"""Real records of `pabal.events` in a real Kafka, and how a stranger reads them: with a client, and nothing of ours."""

import asyncio
import uuid
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import confluent_kafka
import msgspec

from pabal.broker.port import NewRecord
from pabal.codec import event_record, receipt_record
from pabal.notification import DeliveryEvent, EventKind, Receipt, event_id
from pabal.topics.spec import topics_for
from tests.kafka.lab import connected

AT = datetime(2026, 1, 1, 12, 30, 59, 123456, tzinfo=UTC)


def an_event(kind: EventKind = "sent", *, channel: str = "webhook") -> DeliveryEvent:
    """An event of a delivery that no other test knows."""
    delivery = uuid.uuid4()
    return DeliveryEvent(
        id=event_id(delivery, attempt=1, kind=kind),
        kind=kind,
        delivery_id=delivery,
        notification_id=uuid.uuid4(),
        tenant="shop",
        channel=channel,
        address="zoë@example.com",
        class_="bulk",
        attempt=1,
        at=AT,
        provider="hooks",
        latency_seconds=0.25,
    )


def a_receipt(delivery: uuid.UUID) -> Receipt:
    return Receipt(id=uuid.uuid4(), provider="smtp", kind="bounced", at=AT, delivery_id=delivery, is_permanent=True)


def record_of(fact: DeliveryEvent | Receipt) -> NewRecord:
    return receipt_record(fact) if isinstance(fact, Receipt) else event_record(fact)


async def append(bootstrap: str, facts: Collection[DeliveryEvent | Receipt]) -> None:
    """Put facts into the log as the roles do."""
    async with connected(bootstrap) as broker:
        for spec in topics_for(["webhook"], partitions=1, replication=None):
            if spec.name == "pabal.events":
                await broker.admin().create_topic(spec)
        await broker.producer().append([record_of(fact) for fact in facts])


async def read(bootstrap: str, keys: Collection[bytes]) -> Sequence[confluent_kafka.Message]:
    """The messages of these keys, read by a group of one's own from the beginning."""

    def poll() -> Sequence[confluent_kafka.Message]:
        consumer = confluent_kafka.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": f"stranger-{uuid.uuid4()}", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe(["pabal.events"])
        found: list[confluent_kafka.Message] = []
        missing = set(keys)
        try:
            while missing:
                message = consumer.poll(30.0)
                assert message is not None, f"nothing of {missing} within 30 s"
                assert message.error() is None, message.error()
                if message.key() in keys:
                    found.append(message)
                    missing.discard(message.key())
        finally:
            consumer.close()
        return found

    return await asyncio.to_thread(poll)


def value_of(fact: DeliveryEvent | Receipt) -> object:
    """The fact as JSON has it."""
    return msgspec.json.decode(msgspec.json.encode(fact))

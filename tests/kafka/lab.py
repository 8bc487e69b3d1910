"""What the tests on Kafka share: a broker, topics and a consumer's owner."""

import uuid
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import NewRecord, TopicPartition, TopicSpec


class Owner:
    """An `Assignment` that notes what it is told and gives back what it is set to."""

    def __init__(self) -> None:
        self.owned: set[TopicPartition] = set()
        self.revocations: list[TopicPartition] = []
        self.losses: list[TopicPartition] = []
        self.progress: dict[TopicPartition, int] = {}

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.owned |= set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        self.owned -= set(partitions)
        self.revocations += partitions
        return self.progress

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)
        self.losses += partitions


def unique(what: str = "topic") -> str:
    """A name no other test uses."""
    return f"{what}-{uuid.uuid4().hex[:10]}"


def record(topic: str, value: str = "x", *, key: bytes | None = None, partition: int | None = None) -> NewRecord:
    return NewRecord(topic=topic, key=key, value=value.encode(), partition=partition)


async def make_topic(broker: KafkaBroker, *, partitions: int = 1) -> str:
    name = unique()
    assert await broker.admin().create_topic(TopicSpec(name=name, partitions=partitions))
    return name


@asynccontextmanager
async def connected(bootstrap: str, *, session_seconds: float = 2.0) -> AsyncIterator[KafkaBroker]:
    broker = await KafkaBroker.open(bootstrap, session_seconds=session_seconds)
    try:
        yield broker
    finally:
        await broker.close()

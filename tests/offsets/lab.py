"""A log of either kind whose records can be deleted from under its readers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import AdminClient

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Broker, TopicPartition, Watermarks
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.errors import LogUnavailable
from pabal.topics.spec import topics_for
from tests.waiting import eventually_told

PARTITIONS = 2


class AheadClock(SystemClock):
    """A wall clock that has gone past every retention; leases are not concerned."""

    def now(self) -> datetime:
        return super().now() + timedelta(days=500)


class DamagedLog:
    """An installation's log, on which the tests of a Kafka that is shared may have been before."""

    def __init__(self, broker: Broker, *, place: str) -> None:
        self.broker = broker
        self.place = place

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, place: str) -> AsyncIterator["DamagedLog"]:
        """With every topic, each work-sharing one of two partitions at least. `place`: a path, or Kafka's address."""
        clock = SystemClock()
        broker: Broker
        if place.startswith("/"):
            broker = await SqliteBroker.open(Path(place), clock=clock)
        else:
            broker = await KafkaBroker.open(place)
        try:
            admin = broker.admin()
            for spec in topics_for(["webhook"], partitions=PARTITIONS, replication=None):
                if not await admin.create_topic(spec) and len(await admin.watermarks(spec.name)) < spec.partitions:
                    await admin.add_partitions(spec.name, total=spec.partitions)
            yield cls(broker, place=place)
        finally:
            await broker.close()

    async def marks(self, topic: str) -> Mapping[TopicPartition, Watermarks]:
        """The watermarks of a topic now."""
        return await self.broker.admin().watermarks(topic)

    async def reset(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Set committed offsets; a coordinator that only begins to be one is asked again."""

        async def is_done() -> bool:
            with contextlib.suppress(LogUnavailable):
                await self.broker.admin().reset_offsets(group, offsets)
                return True
            return False

        await eventually_told(is_done)

    async def at_the_end(self, group: str, topics: Collection[str]) -> None:
        """Let the group have read everything of these topics."""
        marks = {each: mark.high for topic in topics for each, mark in (await self.marks(topic)).items()}
        await self.reset(group, marks)

    async def delete_all(self, topic: str) -> None:
        """Delete every record that the topic holds now."""
        if not self.place.startswith("/"):
            client = AdminClient({"bootstrap.servers": self.place})
            ends = [RdTopicPartition(*each, mark.high) for each, mark in (await self.marks(topic)).items()]
            for future in client.delete_records(ends).values():
                await asyncio.wrap_future(future)
            return
        broker = await SqliteBroker.open(Path(self.place), clock=AheadClock())
        await broker.clean()
        await broker.close()

    async def committed(self, group: str, partition: TopicPartition) -> int | None:
        """The group's committed offset of a partition."""
        return (await self.broker.admin().committed(group, [partition.topic])).get(partition)

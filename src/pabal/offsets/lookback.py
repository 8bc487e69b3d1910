"""A worker's look back at what its group passed over, once for each partition it is assigned.

What is found stands in `pabal.ops` until a person decides. While it does, the worker that owns the partition listens
for the word to rewind: then it reads from the first of them on, and the ledger keeps anything from being sent twice.
"""

import asyncio
import logging
from collections.abc import Collection, MutableMapping
from datetime import datetime
from typing import Final

from pabal.broker.port import Admin, Consumer, Producer, Reader, Record, TopicPartition
from pabal.clock import Clock
from pabal.errors import DecodeError, LogUnavailable, NotAssigned, PabalError
from pabal.notification import OPS_TOPIC
from pabal.offsets.passed import (
    Knows,
    PassedOver,
    decided_record,
    find_passed_over,
    is_about_passing,
    passed_record,
    read_passed,
)
from pabal.offsets.seeks import Seek, read_seek
from pabal.ops.ledger_identity import Identity
from pabal.progress import Progress
from pabal.tail import Tail

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 2.0


class Lookback:
    """Looks back for one member of a worker's group. `settle` is for its polling task, the rest runs beside it."""

    def __init__(
        self,
        *,
        group: str,
        topic: str,
        ledger: Knows,
        admin: Admin,
        reader: Reader,
        producer: Producer,
        progress: MutableMapping[TopicPartition, Progress],
        clock: Clock,
    ) -> None:
        self._group = group
        self._topic = topic
        self._ledger = ledger
        self._admin = admin
        self._reader = reader
        self._producer = producer
        self._progress = progress
        self._clock = clock
        self._unseen: set[TopicPartition] = set()
        self._passed: dict[TopicPartition, PassedOver] = {}
        self._due: dict[TopicPartition, Seek] = {}
        self._looking: asyncio.Task[None] | None = None

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Look back at these, soon."""
        self._unseen.update(partitions)
        if self._looking is None or self._looking.done():
            self._passed.clear()
            self._due.clear()
            self._looking = asyncio.create_task(self._look())

    async def settle(self, consumer: Consumer) -> None:
        """Go back where a person said so. Costs nothing while there is nothing to do."""
        if self._looking is not None and self._looking.done():
            looked, self._looking = self._looking, None
            looked.result()
        for partition, seek in list(self._due.items()):
            try:
                if partition in self._progress:
                    # What is in flight from further on is read again: it is not the new progress's.
                    await consumer.seek(partition, offset=seek.to)
                    self._progress[partition] = Progress()
                    await consumer.commit({partition: seek.to})
                    await self._producer.append([decided_record(self._group, partition)])
                    topic, number = partition
                    who = f"{seek.by}: {seek.reason}"
                    logger.warning("%s: %s/%d is read again from %d on: %s", self._group, topic, number, seek.to, who)
            except NotAssigned:
                # The seek stays in `pabal.ops`: the partition's next owner hears it as well.
                logger.info("%s: %s/%d went to another member, which reads it again", self._group, *partition)
            except LogUnavailable as error:
                logger.warning("%s: %s", self._group, error)
                continue
            del self._due[partition]
            self._passed.pop(partition, None)

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait((self._looking,))
        for client in (self._admin, self._reader, self._producer):
            await client.close()

    async def _look(self) -> None:
        ops, identity = Tail(OPS_TOPIC, reader=self._reader), Identity()
        said: list[Record] = []
        since: datetime | None = None
        while self._unseen or self._passed.keys() & self._progress.keys():
            try:
                said.extend([record async for record in ops.read_on()])
                identity.take(said)
                if identity.recorded.holds is not None:
                    since = identity.recorded.holds.recorded_at
                self._hear(said)
                said.clear()
                await self._look_back(since)
            except PabalError as error:
                logger.warning("%s: cannot look what was passed over yet: %s", self._group, error)
            if self._unseen or self._passed:
                await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _hear(self, said: Collection[Record]) -> None:
        """What was decided, and what others have found."""
        for record in said:
            try:
                seek = read_seek(record)
                if seek is not None and seek.rewinds and seek.group == self._group:
                    passed = self._passed.get(seek.topic_partition)
                    if passed is not None and seek.at >= passed.at and seek.to == passed.from_:
                        self._due[seek.topic_partition] = seek
                elif is_about_passing(record):
                    found = read_passed(record)
                    if found is not None and found.group == self._group:
                        self._passed[found.topic_partition] = found
                    elif found is None:
                        self._forget(record.key)
            except DecodeError as error:
                logger.warning("%s@%d: %s", OPS_TOPIC, record.offset, error)

    def _forget(self, key: bytes | None) -> None:
        for partition in [each for each in self._passed if decided_record(self._group, each).key == key]:
            del self._passed[partition]
            self._due.pop(partition, None)

    async def _look_back(self, since: datetime | None) -> None:
        looked = set(self._unseen)
        unseen = {each for each in looked if each in self._progress and each not in self._passed}
        if unseen:
            committed = await self._admin.committed(self._group, [self._topic])
            marks = await self._admin.watermarks(self._topic)
            for partition in unseen:
                at, mark = committed.get(partition), marks.get(partition)
                if at is None or mark is None or not mark.low < at <= mark.high:
                    continue
                passed = await find_passed_over(
                    self._reader,
                    self._ledger,
                    partition,
                    group=self._group,
                    low=mark.low,
                    committed=at,
                    since=since,
                    now=self._clock.now(),
                )
                if passed is not None:
                    await self._producer.append([passed_record(passed)])
                    self._passed[partition] = passed
                    logger.error("%s", describe_passed(passed))
        self._unseen -= looked


def describe_passed(passed: PassedOver) -> str:
    """What was passed over, and what a person does about it: the alert's words."""
    command = f"{passed.group} {passed.topic} {passed.partition} --reason WHY"
    return (
        f"{passed.group} has passed over {passed.count} deliveries of {passed.topic}/{passed.partition}, offsets "
        f"{passed.from_} to {passed.to - 1}: they were never worked on, somebody moved the group's offset. See "
        f"docs/offsets.md; send them after all with: pabal offsets rewind {command}; leave them with: "
        f"pabal offsets skip {command}"
    )

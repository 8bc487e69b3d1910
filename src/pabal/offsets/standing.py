"""What a role does while partitions of its group stand still: say so, listen for a person's seek, go on.

The role stays a member and goes on with all its other partitions. `pabal.ops` is read only while one stands still.
"""

import asyncio
import logging
from collections.abc import Collection, MutableMapping
from typing import Final

from pabal.broker.port import Consumer, Reader, TopicPartition
from pabal.clock import Clock
from pabal.errors import DecodeError, LogError, LogUnavailable, NotAssigned, OffsetOutOfRange
from pabal.notification import OPS_TOPIC
from pabal.offsets.seeks import Seek, read_seek
from pabal.progress import Progress
from pabal.tail import Tail

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 2.0
REMIND_AFTER_SECONDS: Final = 3600.0


class _Standing:
    __slots__ = ("error", "said_at")

    def __init__(self, error: OffsetOutOfRange, *, said_at: float) -> None:
        self.error = error
        self.said_at = said_at


class Standstills:
    """The partitions of one member that stand still. For its polling task alone.

    `progress` is the role's own, by partition: a seek is noted there, and committed once all before it is done.
    """

    def __init__(
        self,
        *,
        group: str,
        consumer: Consumer,
        reader: Reader,
        progress: MutableMapping[TopicPartition, Progress],
        clock: Clock,
    ) -> None:
        self._group = group
        self._consumer = consumer
        self._reader = reader
        self._progress = progress
        self._clock = clock
        self._standing: dict[TopicPartition, _Standing] = {}
        self._seeks: dict[TopicPartition, Seek] = {}
        self._listening: asyncio.Task[None] | None = None

    def note(self, error: OffsetOutOfRange) -> None:
        """A poll said that a partition stands still. Said at once, and again each hour."""
        assert error.topic is not None
        assert error.partition is not None
        partition = TopicPartition(error.topic, error.partition)
        if partition not in self._progress:
            return  # revoked meanwhile: the next owner finds out
        known = self._standing.get(partition)
        if known is not None and known.error.offset == error.offset:
            known.error = error
            return
        self._standing[partition] = _Standing(error, said_at=self._clock.boot_seconds())
        logger.error("%s", describe(self._group, error))
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """These are another member's, or new."""
        for partition in partitions:
            self._standing.pop(partition, None)

    async def settle(self) -> None:
        """Go on where a person said so, and remind of the rest. Costs nothing while all goes on."""
        if not self._standing:
            return
        if self._listening is not None and self._listening.done():
            self._listening.result()
        now = self._clock.boot_seconds()
        for partition, standing in list(self._standing.items()):
            seek = self._seeks.get(partition)
            if seek is not None and await self._go_on(partition, standing.error, seek):
                del self._standing[partition]
            elif now - standing.said_at >= REMIND_AFTER_SECONDS:
                standing.said_at = now
                logger.error("%s", describe(self._group, standing.error))
        if not self._standing:
            await self._stop_listening()

    async def close(self) -> None:
        """Stop listening."""
        await self._stop_listening()
        await self._reader.close()

    async def _go_on(self, partition: TopicPartition, error: OffsetOutOfRange, seek: Seek) -> bool:
        """Whether the partition goes on by this seek, or is not ours any more."""
        progress = self._progress.get(partition)
        if progress is None:
            return True
        if error.offset is None or not seek.is_meant_for(error.offset, high=error.high):
            return False
        is_back = seek.to < error.offset
        if is_back and len(progress):
            return False  # What was read of the former topic ends first.
        try:
            await self._consumer.seek(partition, offset=seek.to)
            if is_back:
                self._progress[partition] = Progress()
                await self._consumer.commit({partition: seek.to})
            else:
                progress.pass_over(seek.to)
        except NotAssigned:
            return True
        except LogUnavailable as unavailable:
            logger.warning("%s: %s", self._group, unavailable)
            return False
        topic, number = partition
        who = f"{seek.by}: {seek.reason}"
        logger.warning(
            "%s: %s/%d goes on at %d instead of %d: %s", self._group, topic, number, seek.to, error.offset, who
        )
        return True

    async def _listen(self) -> None:
        ops = Tail(OPS_TOPIC, reader=self._reader)
        while True:
            try:
                async for record in ops.read_on():
                    try:
                        seek = read_seek(record)
                    except DecodeError as error:
                        logger.warning("%s@%d: %s", OPS_TOPIC, record.offset, error)
                        continue
                    if seek is not None and seek.group == self._group:
                        self._seeks[seek.topic_partition] = seek
            except LogError as error:
                logger.warning("%s: cannot read %s: %s", self._group, OPS_TOPIC, error)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def _stop_listening(self) -> None:
        listening, self._listening = self._listening, None
        self._seeks.clear()
        if listening is not None:
            listening.cancel()
            await asyncio.wait((listening,))


def describe(group: str, error: OffsetOutOfRange) -> str:
    """What stands still, why, and what a person does about it: the alert's words."""
    where = f"{error.topic}/{error.partition}"
    position = "an unknown offset" if error.offset is None else str(error.offset)
    if error.offset is not None and error.low is not None and error.offset < error.low:
        why = f"{error.low - error.offset} records were deleted unread, offsets {error.offset} to {error.low - 1}"
    elif error.offset is not None and error.high is not None and error.offset > error.high:
        why = f"it is to go on at {error.offset}, but ends at {error.high}: was the topic made anew?"
    else:
        why = f"what stood at {position} was deleted unread"
    return (
        f"{group} stands still on {where}, and on nothing else: {why}. See docs/offsets.md; go on with: "
        f"pabal offsets skip {group} {error.topic} {error.partition} --reason WHY"
    )

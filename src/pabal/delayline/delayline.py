"""The role itself: poll, hold, release, commit, in one loop whose only sleep is the poll."""

import asyncio
import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

import msgspec

from pabal.broker.port import Broker, NewRecord, Record, TopicPartition
from pabal.clock import Clock
from pabal.codec import cut_record, dead_record, read_delivery, read_wait
from pabal.delayline.early_release import EarlyReleases
from pabal.delayline.shelf import Shelf, Shelved, released
from pabal.errors import DecodeError, LogUnavailable, OffsetOutOfRange, RecordRefused, UnknownTopic
from pabal.groups import DELAYLINE_GROUP, delay_topics
from pabal.notification import CLASSES, RUNGS_SECONDS, UNKNOWN_CHANNEL, NotificationClass, delay_topic
from pabal.offsets.standing import Standstills
from pabal.ops.follower import OpsFollower
from pabal.ops.recoveries import Recoveries
from pabal.ops.recovery_clearing import RecoveryClearing
from pabal.plan import MAX_SEND_AHEAD, MAX_TIME_TO_LIVE
from pabal.progress import Progress
from pabal.retry import Wait
from pabal.runtime import commit_progress, insist, unless_revoked
from pabal.status.records import GroupStatus, group_status

logger = logging.getLogger(__name__)

COMMIT_EVERY_SECONDS = 1.0
_POLL_SECONDS = 1.0
_POLLING_SECONDS = 10.0
"""The delay line polls at least every second, unless it waits for an append."""
_GATHER_SECONDS = 0.05
"""Between two releases: what falls due meanwhile leaves in one append."""
_BATCH = 500
_LONGEST_WAIT = MAX_SEND_AHEAD + MAX_TIME_TO_LIVE + timedelta(days=1)
"""A delivery that was to wait for longer would go round for ever, and never expire."""
_MOST_HELD = 2000
"""Per partition; beyond it the partition waits in the log. Bounds memory, not the line."""
_MOST_AHEAD = 20_000
"""Records of a partition beyond the first that still waits: the most that a crash releases twice of it."""


class DelayStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How the delay line stands with one class: how many records it holds in memory, and how late the record is that
    is due first (0: none is late)."""

    held: int
    overdue_seconds: float


class DelayLine:
    """Releases what is due on the partitions it is given. `run` once."""

    def __init__(
        self,
        *,
        broker: Broker,
        ops: OpsFollower,
        channels: Collection[str],
        clock: Clock,
        name: str | None = None,
    ) -> None:
        self.unreadable = 0
        """Records that could not be read and were dead-lettered, since it began."""

        self._channels = channels
        self._clock = clock
        self._producer = broker.producer()
        topics = delay_topics()
        self._shelves: dict[TopicPartition, Shelf] = {}
        self._progress: dict[TopicPartition, Progress] = {}
        self._early = EarlyReleases()
        recoveries = Recoveries(self._early.note)
        ops.attend(recoveries)
        self._duties = (ops.run, RecoveryClearing(recoveries, producer=self._producer, clock=clock).run)
        self._paused: set[TopicPartition] = set()
        self._committed_at = clock.boot_seconds()
        self._released_at = 0.0
        self._turned_at = clock.boot_seconds()
        self._consumer = broker.consumer(DELAYLINE_GROUP, topics, self, instance=name)
        self._standstills = Standstills(
            group=DELAYLINE_GROUP, consumer=self._consumer, reader=broker.reader(), progress=self._progress, clock=clock
        )

    async def run(self, stopping: asyncio.Event) -> None:
        """Hold and release until `stopping` is set, then commit and leave."""
        upkeep = asyncio.gather(*(duty(stopping) for duty in self._duties))
        try:
            while not stopping.is_set():
                if upkeep.done():
                    upkeep.result()
                await self._hold_and_release()
            await self._commit()
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await self._standstills.close()
            await self._consumer.close()
            await self._producer.close()

    async def _hold_and_release(self) -> None:
        """One poll, and what leaves at its end."""
        self._turned_at = self._clock.boot_seconds()
        self._early.bring_forward(self._shelves, now=self._clock.now())
        timeout = self._until_next_release()
        self._hold(await self._poll(timeout_seconds=timeout))
        await self._release_due()
        await self._hold_back_full()
        if self._clock.boot_seconds() - self._committed_at >= COMMIT_EVERY_SECONDS:
            await self._commit()

    async def _poll(self, *, timeout_seconds: float) -> Collection[Record]:
        await self._standstills.settle()
        try:
            return await self._consumer.poll(limit=_BATCH, timeout_seconds=timeout_seconds)
        except OffsetOutOfRange as error:
            self._standstills.note(error)
            return ()
        except (LogUnavailable, UnknownTopic) as error:
            logger.warning("%s: %s", DELAYLINE_GROUP, error)
            await asyncio.sleep(_POLL_SECONDS)
            return ()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.assigned`."""
        for partition in partitions:
            self._shelves[partition] = Shelf()
            self._progress[partition] = Progress()
            self._paused.discard(partition)
        self._standstills.forget(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`: what is held here is read again by the next owner."""
        offsets = {}
        for partition in partitions:
            self._shelves.pop(partition, None)
            progress = self._progress.pop(partition, None)
            self._paused.discard(partition)
            if progress is not None and (offset := progress.next_offset) is not None:
                offsets[partition] = offset
        return offsets

    def status(self) -> Sequence[GroupStatus]:
        """How its group stands, for the status of its process."""
        is_polling = self._clock.boot_seconds() - self._turned_at < _POLLING_SECONDS
        return [group_status(DELAYLINE_GROUP, self._progress, is_polling=is_polling)]

    def standing(self) -> Mapping[NotificationClass, DelayStanding]:
        """How it stands with each class, on the partitions that it owns."""
        now = self._clock.now()
        standing = {}
        for class_ in CLASSES:
            topics = {delay_topic(class_, seconds) for seconds in RUNGS_SECONDS}
            shelves = [shelf for partition, shelf in self._shelves.items() if partition.topic in topics]
            releases = [at for shelf in shelves if (at := shelf.next_release()) is not None]
            late = max((now - min(releases)).total_seconds(), 0.0) if releases else 0.0
            standing[class_] = DelayStanding(held=sum(map(len, shelves)), overdue_seconds=late)
        return standing

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.lost`."""
        self.revoked(partitions)

    def _until_next_release(self) -> float:
        now = self._clock.now()
        gathered_in = self._released_at + _GATHER_SECONDS - self._clock.boot_seconds()
        releases = [at for shelf in self._shelves.values() if (at := shelf.next_release()) is not None]
        return min([max((at - now).total_seconds(), gathered_in, 0.0) for at in releases] + [_POLL_SECONDS])

    def _hold(self, records: Collection[Record]) -> None:
        now = self._clock.now()
        for record in records:
            if record.topic_partition in self._shelves:
                self._progress[record.topic_partition].receive((record.offset,))
                shelved = self._shelved(record)
                self._shelves[record.topic_partition].put(shelved, at=self._early.time_of(shelved, now=now))

    def _shelved(self, record: Record) -> Shelved:
        try:
            delivery = read_delivery(record)
            if delivery.channel not in self._channels:
                raise DecodeError(f"there is no channel {delivery.channel!r} here", error_class="misplaced")
            wait = read_wait(record)
            if wait.due - self._clock.now() > _LONGEST_WAIT:
                raise DecodeError(f"x-due: nothing waits until {wait.due}", error_class="undecodable")
            return Shelved(record=record, wait=wait, following=delivery)
        except DecodeError as error:
            self.unreadable += 1
            now = self._clock.now()
            logger.warning("dead-lettered %s/%d@%d: %s", *record.topic_partition, record.offset, error)
            dead = dead_record(
                record,
                channel=UNKNOWN_CHANNEL,
                delivery=None,
                error_class=error.error_class,
                message=str(error),
                at=now,
                group=DELAYLINE_GROUP,
            )
            return Shelved(record=record, wait=Wait(due=now, release_at=now), following=dead)

    async def _release_due(self) -> None:
        if self._clock.boot_seconds() < self._released_at + _GATHER_SECONDS:
            return
        now = self._clock.now()
        for partition, shelf in list(self._shelves.items()):
            progress = self._progress.get(partition)
            # Each append is a moment in which the partition may go to another member.
            while progress is not None and self._shelves.get(partition) is shelf:
                due = shelf.take_due(now, limit=_BATCH)
                if not due:
                    break
                self._released_at = self._clock.boot_seconds()
                await self._append([released(shelved, now) for shelved in due])
                for shelved in due:
                    progress.done(shelved.record.offset)

    async def _append(self, records: Sequence[NewRecord]) -> None:
        """Append; of a record that the log will never take, its start."""
        cut: set[int] = set()
        while True:
            try:
                await insist(functools.partial(self._producer.append, records))
            except RecordRefused as error:
                refused = set(error.indexes) - cut
                if not refused:
                    # Not even a start of it is taken: to go on would lose it, so a person must look.
                    raise
                logger.error("cut short what the log does not take: %s", error)
                records = [cut_record(each) if index in refused else each for index, each in enumerate(records)]
                cut |= refused
            else:
                return

    async def _hold_back_full(self) -> None:
        full = {
            tp
            for tp, shelf in self._shelves.items()
            if len(shelf) >= _MOST_HELD or len(self._progress[tp]) >= _MOST_AHEAD
        } - self._paused
        if full:
            await unless_revoked(self._consumer.pause(full))
            self._paused |= full
        eased = {
            tp
            for tp in self._paused
            if (shelf := self._shelves.get(tp)) is not None
            and len(shelf) <= _MOST_HELD // 2
            and len(self._progress[tp]) <= _MOST_AHEAD // 2
        }
        if eased:
            await unless_revoked(self._consumer.resume(eased))
            self._paused -= eased

    async def _commit(self) -> None:
        self._committed_at = self._clock.boot_seconds()
        await commit_progress(self._consumer, self._progress, group=DELAYLINE_GROUP)

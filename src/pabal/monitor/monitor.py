"""The role: watches where every group stands, keeps the sample window in the log, and writes the history."""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from pabal.broker.port import Broker, Cluster, NewRecord, TopicPartition
from pabal.clock import Clock
from pabal.errors import DecodeError, LogError, NotAssigned, OffsetOutOfRange, RecordRefused
from pabal.groups import MONITOR_GROUP
from pabal.monitor.history import MINUTE_SECONDS, history_record, read_minute
from pabal.monitor.looking import LOOK_BACK
from pabal.monitor.sample_log import SampleWriter
from pabal.monitor.samples import Sampled
from pabal.monitor.sampling import Sampler
from pabal.monitor.watching import Watching
from pabal.monitor.windows import SAMPLE_EVERY_SECONDS, GroupView
from pabal.notification import HISTORY_TOPIC, STATUS_TOPIC
from pabal.status.records import GroupStatus, PartitionStatus, sample_record

logger = logging.getLogger(__name__)

_PARTITION: Final = TopicPartition(STATUS_TOPIC, 0)
_HISTORY: Final = TopicPartition(HISTORY_TOPIC, 0)

LATE_SECONDS: Final = 4.0
"""A monitor that did not come round for so long may have been frozen: before it goes on, it asks whether it is still
the active one. Shorter than a session (6 s by default), after which the log gives its place away."""

CLUSTER_EVERY_SECONDS: Final = 10.0
"""How often the brokers and the replicas are looked at."""

_POLL_LIMIT: Final = 500

_MOST_UNSAVED: Final = 60
"""Minutes that are kept while the log is away."""


class Monitor:
    """One monitor. Of all that run, the owner of the only partition of `pabal.status` is active; the others wait.

    `run` once. `groups` is what the active monitor found with its last sample; empty while this one is not active.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        groups: Mapping[str, Collection[str]],
        clock: Clock,
        instance: str,
        name: str | None = None,
    ) -> None:
        """`groups`: the topics of each group to watch. `instance`: this process's name in its status. `name`: a name
        in the consumer group that survives restarts."""
        self._clock = clock
        self._instance = instance
        self._admin, self._reader, self._producer = broker.admin(), broker.reader(), broker.producer()
        self._consumer = broker.consumer(MONITOR_GROUP, [STATUS_TOPIC], self, instance=name)
        self._sampler = Sampler(admin=self._admin, reader=self._reader, groups=groups, clock=clock)
        self._is_owner = False
        self._watching: Watching | None = None
        self._turned_at = clock.boot_seconds()
        self._minute_from = clock.boot_seconds()
        self._next_offset = 0
        self.groups: Sequence[GroupView] = ()
        self.sampled: Sampled | None = None
        """The last sample of the active monitor."""

        self._cluster: Cluster | None = None
        self._retention: Mapping[str, float | None] = {}
        self._looked_at = -math.inf
        self._unsaved: deque[NewRecord] = deque(maxlen=_MOST_UNSAVED)

    @property
    def watching(self) -> Watching | None:
        """What this monitor has seen; None while it is not the active one."""
        return self._watching if self._is_owner else None

    @property
    def cluster(self) -> Cluster | None:
        """The brokers and replicas, as the active monitor saw them last; None while this one is not active."""
        return self._cluster if self._is_owner else None

    def status(self) -> Sequence[GroupStatus]:
        """How its own group stands."""
        owned = (PartitionStatus(*_PARTITION, self._next_offset),) if self._is_owner else ()
        return [GroupStatus(group=MONITOR_GROUP, partitions=owned)]

    async def run(self, stopping: asyncio.Event) -> None:
        """Watch until `stopping`, then leave the group so that another monitor takes over at once."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._follow()), group.create_task(self._sample())]
                await stopping.wait()
                for task in tasks:
                    task.cancel()
        finally:
            await self._consumer.close()
            for client in (self._producer, self._reader, self._admin):
                await client.close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.assigned`."""
        if _PARTITION in partitions:
            self._is_owner = True

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`."""
        self.lost(partitions)
        return {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.lost`."""
        if _PARTITION in partitions:
            self._is_owner, self._watching = False, None
            self.groups, self.sampled = (), None

    async def _follow(self) -> None:
        """Take in the statuses as they come."""
        while True:
            try:
                if self._is_owner and self._watching is None:
                    await self._take_over()
                records = await self._consumer.poll(limit=_POLL_LIMIT, timeout_seconds=1.0)
            except OffsetOutOfRange:
                await self._go_to_the_end()
                continue
            except LogError as error:
                logger.warning("%s: %s", MONITOR_GROUP, error)
                await asyncio.sleep(1.0)
                continue
            self._turned_at = self._clock.boot_seconds()
            for record in records:
                if self._watching is not None:
                    self._watching.note_record(record)
                    self._next_offset = record.offset + 1

    async def _take_over(self) -> None:
        """Read what the monitor before this one knew: statuses of the last hour, and its samples. Raises LogError."""
        watching = Watching(clock=self._clock)
        counted_from = await self._last_minute()
        now = self._clock.now()
        end = (await self._admin.watermarks(STATUS_TOPIC))[_PARTITION].high
        async for records in self._reader.read(_PARTITION, start=now - LOOK_BACK, stop=end):
            for record in records:
                watching.note_record(record, counted_from=counted_from, is_replayed=True)
        await self._consumer.seek(_PARTITION, offset=end)
        self._next_offset = end
        since = 0.0 if counted_from is None else max((now - counted_from).total_seconds(), 0.0)
        self._minute_from = self._clock.boot_seconds() - min(since, LOOK_BACK.total_seconds())
        if self._is_owner:
            self._watching = watching
            logger.info("this monitor is the active one")

    async def _last_minute(self) -> datetime | None:
        """When the last minute of the history ended; None: there is none."""
        marks = (await self._admin.watermarks(HISTORY_TOPIC))[_HISTORY]
        last = None
        if marks.high > marks.low:
            async for records in self._reader.read(_HISTORY, start=marks.high - 1):
                for record in records:
                    with contextlib.suppress(DecodeError):
                        read_minute(record)
                        last = datetime.fromtimestamp(record.timestamp, UTC)
        return last

    async def _go_to_the_end(self) -> None:
        """Retention has passed the committed offset: the status that matters is the newest, and it is read anew."""
        try:
            end = (await self._admin.watermarks(STATUS_TOPIC))[_PARTITION].high
            await self._consumer.seek(_PARTITION, offset=end)
            self._watching = None
        except LogError as error:
            logger.warning("%s: %s", MONITOR_GROUP, error)
            await asyncio.sleep(1.0)

    async def _sample(self) -> None:
        """Sample, judge and tell, every two seconds while this monitor is the active one."""
        next_at = self._clock.boot_seconds()
        writer, written_for = SampleWriter(self._instance), self._watching
        while True:
            next_at = max(next_at + SAMPLE_EVERY_SECONDS, self._clock.boot_seconds())
            if (watching := self._watching) is not None:
                if watching is not written_for:
                    writer, written_for = SampleWriter(self._instance), watching
                try:
                    await self._look_at_cluster()
                    await self._sample_once(watching, writer)
                except LogError as error:
                    logger.warning("no sample: %s", error)
                    # A difference that was not kept would be missing in all that follow.
                    writer = SampleWriter(self._instance)
            await asyncio.sleep(max(next_at - self._clock.boot_seconds(), 0.0))

    async def _look_at_cluster(self) -> None:
        if self._clock.boot_seconds() - self._looked_at >= CLUSTER_EVERY_SECONDS:
            self._looked_at = self._clock.boot_seconds()
            specs, self._cluster = await asyncio.gather(self._admin.topics(), self._admin.cluster())
            self._retention = {name: spec.retention_seconds for name, spec in specs.items()}

    async def _sample_once(self, watching: Watching, writer: SampleWriter) -> None:
        """One sample, what it says, and its record. Raises LogError."""
        sampled = await self._sampler.take(watching.owners())
        if not await self._is_active(watching):
            return
        watching.note_sample(sampled)
        self.sampled = sampled
        self.groups = watching.windows.groups(retention=self._retention)
        watching.note_groups(self.groups)
        if (passed := self._clock.boot_seconds() - self._minute_from) >= MINUTE_SECONDS:
            self._minute_from = self._clock.boot_seconds()
            self._unsaved.append(history_record(watching.take_minute(seconds=passed)))
        await self._save_minutes()
        if (sample := writer.record_of(sampled, at=self._clock.now())) is not None:
            await self._producer.append([sample_record(sample)])

    async def _save_minutes(self) -> None:
        """Append the minutes that are not in the log yet.

        A minute that the log refuses for good is given up. Raises LogError: the minutes are kept for the next sample.
        """
        minutes = list(self._unsaved)
        if not minutes:
            return
        try:
            await self._producer.append(minutes)
        except RecordRefused as error:
            refused = error.indexes or range(len(minutes))
            logger.error("%d minutes are lost from %s: %s", len(refused), HISTORY_TOPIC, error)
            self._unsaved.clear()
            self._unsaved += [minute for index, minute in enumerate(minutes) if index not in refused]
        else:
            self._unsaved.clear()

    async def _is_active(self, watching: Watching) -> bool:
        """Whether this monitor is still the active one. Raises LogError when the log does not say.

        A late poll shows a freeze, and so does a late sample. The late sample is needed: the poll of a monitor that
        wakes may time out, and count as a turn, before the log has said that the partition has another owner.
        """
        sampled_at = -math.inf if self.sampled is None else self.sampled.at
        if self._clock.boot_seconds() - min(self._turned_at, sampled_at) >= LATE_SECONDS:
            try:
                # A commit is what the log refuses to a member that has lost its place.
                await self._consumer.commit({_PARTITION: self._next_offset})
            except NotAssigned:
                return False
        return self._watching is watching

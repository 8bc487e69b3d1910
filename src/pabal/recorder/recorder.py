"""The role itself: poll, fold, commit, in one loop; and the upkeep beside it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final

from pabal.broker.port import Broker, Record, TopicPartition
from pabal.clock import Clock
from pabal.errors import LogUnavailable, OffsetOutOfRange, StoreUnavailable, UnknownTopic
from pabal.groups import RECORDER_GROUP, recorded_topics
from pabal.guard import DEFAULT_GUARD, GuardSettings
from pabal.offsets.standing import Standstills
from pabal.progress import Progress
from pabal.recorder.folding import Folder, Follow, place
from pabal.recorder.held_records import HeldRecords
from pabal.recorder.holding import Holding
from pabal.recorder.upkeep import Upkeep
from pabal.runtime import commit_progress, unless_revoked
from pabal.status.records import GroupStatus, group_status
from pabal.store.port import Store

logger = logging.getLogger(__name__)


COMMIT_EVERY_SECONDS: Final = 1.0

GATHER_SECONDS: Final = 0.1
"""How long records gather between two polls that did not fill a batch. A transaction costs about as much for 1 fact as
for 20, so this bounds what a trickle costs: ten transactions a second. It is also how far look-ups are behind."""

BATCH: Final = 1000
"""Records in one transaction: some 40 ms of a thread's work."""

HELD_EVERY_SECONDS: Final = 1.0
"""How often the recorder looks for a release while a partition is held."""

_POLL_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0


class Recorder:
    """Records what happens on some channels. `run` once."""

    def __init__(
        self,
        *,
        broker: Broker,
        store: Store,
        channels: Collection[str],
        retention: timedelta,
        clock: Clock,
        follow: Follow | None = None,
        name: str | None = None,
        guard: GuardSettings = DEFAULT_GUARD,
    ) -> None:
        """`follow` is called with facts that were folded, before their offsets count; it may be called again with the
        same. `retention` is how long a delivery that ended is remembered; `guard` says when a partition is held."""
        self.upkeep = Upkeep(store, retention=retention, clock=clock)
        self.recorded: Counter[str] = Counter()
        """Records that were taken in since it began, by the kind of their topic (`deliveries`, `dead`, `events`)."""

        self._folder = Folder(store, follow=follow)
        self._reader, self._producer = broker.reader(), broker.producer()
        self._holding = Holding(
            reader=self._reader,
            producer=self._producer,
            clock=clock,
            ratio=guard.brake_ratio,
            records=guard.brake_records,
        )
        self._held_records = HeldRecords(store=store, folder=self._folder, holding=self._holding, clock=clock)
        self._clock = clock
        self._pending: list[tuple[Record, Progress]] = []
        self._progress: dict[TopicPartition, Progress] = {}
        self._paused: set[TopicPartition] = set()
        self._outage_seconds = 0.0
        self._is_behind = True
        self._committed_at = clock.boot_seconds()
        self._consumer = broker.consumer(RECORDER_GROUP, recorded_topics(channels), self, instance=name)
        self._standstills = Standstills(
            group=RECORDER_GROUP, consumer=self._consumer, reader=broker.reader(), progress=self._progress, clock=clock
        )

    @property
    def held(self) -> Collection[TopicPartition]:
        """Partitions that wait for a person: most of what they bring can be neither decoded nor folded."""
        return frozenset(self._holding.held)

    @property
    def set_aside(self) -> int:
        """How many records this recorder has set aside."""
        return self._held_records.set_aside

    def status(self) -> Sequence[GroupStatus]:
        """How its group stands, for the status of its process. Partitions that are held are told apart."""
        held = {partition: own for partition, own in self._progress.items() if partition in self._holding.held}
        flowing = {partition: own for partition, own in self._progress.items() if partition not in held}
        why = "the store is away" if self._outage_seconds else None
        groups = [group_status(RECORDER_GROUP, flowing, held=why)]
        if held:
            groups.append(group_status(RECORDER_GROUP, held, held="brake: most of its records cannot be folded"))
        return groups

    async def run(self, stopping: asyncio.Event) -> None:
        """Record until `stopping` is set, then commit and leave."""
        try:
            async with asyncio.TaskGroup() as group:
                work = (self.upkeep.prune(), self.upkeep.look(is_current=self._is_current), self._look_at_held())
                upkeep = [group.create_task(each) for each in work]
                while not stopping.is_set():
                    await self._record_some(stopping)
                for task in upkeep:
                    task.cancel()
        finally:
            try:
                await commit_progress(self._consumer, self._progress, group=RECORDER_GROUP)
            finally:
                await self._standstills.close()
                await self._consumer.close()
                await self._producer.close()
                await self._reader.close()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.assigned`."""
        for partition in partitions:
            self._progress[partition] = Progress()
            self._paused.discard(partition)
        self._held_records.forget(partitions)
        self._standstills.forget(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`: what is not folded yet is read again by the next owner."""
        self._paused.difference_update(partitions)
        self._held_records.forget(partitions)
        given_up = {partition: self._progress.pop(partition, None) for partition in partitions}
        return {
            partition: offset
            for partition, progress in given_up.items()
            if progress is not None and (offset := progress.next_offset) is not None
        }

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.lost`."""
        self.revoked(partitions)

    async def _record_some(self, stopping: asyncio.Event) -> None:
        """One poll and what it brings. While the store is away, polls are the pause between two tries."""
        self._receive(await self._poll())
        self._is_behind = len(self._pending) >= BATCH
        if self._pending:
            try:
                await self._fold()
            except StoreUnavailable as error:
                await self._hold_back(error)
            else:
                await self._go_on()
        if self._clock.boot_seconds() - self._committed_at >= COMMIT_EVERY_SECONDS:
            self._committed_at = self._clock.boot_seconds()
            await commit_progress(self._consumer, self._progress, group=RECORDER_GROUP)
        if self._is_current():
            await _wait(stopping, seconds=GATHER_SECONDS)

    async def _poll(self) -> Collection[Record]:
        await self._standstills.settle()
        try:
            return await self._consumer.poll(limit=BATCH, timeout_seconds=self._outage_seconds or _POLL_SECONDS)
        except OffsetOutOfRange as error:
            self._standstills.note(error)
            return ()
        except (LogUnavailable, UnknownTopic) as error:
            logger.warning("%s: %s", RECORDER_GROUP, error)
            await asyncio.sleep(_POLL_SECONDS)
            return ()

    def _receive(self, records: Collection[Record]) -> None:
        for record in records:
            progress = self._progress.get(record.topic_partition)
            if progress is not None:  # else revoked between the poll and now: the next owner reads it
                progress.receive((record.offset,))
                self._pending.append((record, progress))

    async def _fold(self) -> None:
        pending = list(self._pending)
        poison = {place(each.record): each for each in await self._folder.fold(record for record, _ in pending)}
        if poison:
            newly = await self._held_records.take(poison, pending)
            if newly:
                await unless_revoked(self._consumer.pause(set(newly) - self._paused))
                self._paused.difference_update(newly)  # What the store's return lets flow again.
        else:
            self._holding.note((record.topic_partition for record, _ in pending), ())
        for record, progress in pending:
            if place(record) not in poison:
                progress.done(record.offset)
                self.recorded[record.topic.split(".")[1]] += 1
        del self._pending[: len(pending)]

    def _is_current(self) -> bool:
        return not self._is_behind and not self._outage_seconds

    async def _look_at_held(self) -> None:
        """A partition that is held goes on when a person says so, or when its records can be folded after all."""
        while True:
            await asyncio.sleep(HELD_EVERY_SECONDS)
            if not self._holding.held:
                continue
            try:
                free = await self._held_records.look()
            except StoreUnavailable as error:
                logger.warning("what is held waits for the store: %s", error)
                continue
            await unless_revoked(self._consumer.resume(set(free) - self._paused))

    async def _hold_back(self, error: StoreUnavailable) -> None:
        self._outage_seconds = min(max(self._outage_seconds * 2, _FIRST_PAUSE_SECONDS), _LONGEST_PAUSE_SECONDS)
        logger.warning("waiting %.1f s: %s", self._outage_seconds, error)
        flowing = self._progress.keys() - self._paused - self._holding.held
        await unless_revoked(self._consumer.pause(flowing))
        self._paused |= flowing

    async def _go_on(self) -> None:
        self._outage_seconds = 0.0
        if self._paused:
            await unless_revoked(self._consumer.resume(self._paused))
            self._paused.clear()


async def _wait(stopping: asyncio.Event, *, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return

"""The role itself: poll, fold, commit, in one loop; and the upkeep beside it."""

import asyncio
import logging
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
from pabal.recorder.folding import Folder, Follow, Poison, place, set_aside
from pabal.recorder.holding import Holding
from pabal.runtime import commit_progress, unless_revoked
from pabal.store.port import Place, Store

logger = logging.getLogger(__name__)


COMMIT_EVERY_SECONDS: Final = 1.0

GATHER_SECONDS: Final = 0.1
"""How long records gather between two polls that did not fill a batch. A transaction costs about as much for 1 fact as
for 20, so this bounds what a trickle costs: ten transactions a second. It is also how far look-ups are behind."""

BATCH: Final = 1000
"""Records in one transaction: some 40 ms of a thread's work."""

HELD_EVERY_SECONDS: Final = 1.0
TRY_HELD_EVERY_SECONDS: Final = 60.0
"""How often a release is looked for while a partition is held, and how often what is held is tried again."""

PRUNE_EVERY_SECONDS: Final = 600.0
LOOK_EVERY_SECONDS: Final = 60.0
REMIND_AFTER_SECONDS: Final = 3600.0
"""An alarm that stands is raised again after this long, one that changes at once."""

_POLL_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0
_MOST_COUNTED = 10_000


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
        same. `retention` is how long what ended is remembered; `guard` says when a partition is held."""
        self.unaccounted = 0
        self.set_aside = 0
        self._store = store
        self._folder = Folder(store, follow=follow)
        self._reader, self._producer = broker.reader(), broker.producer()
        self._holding = Holding(
            reader=self._reader,
            producer=self._producer,
            clock=clock,
            ratio=guard.brake_ratio,
            records=guard.brake_records,
        )
        self._held: list[tuple[Poison, Progress]] = []
        self._retention = retention
        self._clock = clock
        self._pending: list[tuple[Record, Progress]] = []
        self._progress: dict[TopicPartition, Progress] = {}
        self._paused: set[TopicPartition] = set()
        self._outage_seconds = 0.0
        self._is_behind = True
        self._committed_at = clock.boot_seconds()
        self._alarmed_at = float("-inf")
        self._consumer = broker.consumer(RECORDER_GROUP, recorded_topics(channels), self, instance=name)
        self._standstills = Standstills(
            group=RECORDER_GROUP, consumer=self._consumer, reader=broker.reader(), progress=self._progress, clock=clock
        )

    @property
    def held(self) -> Collection[TopicPartition]:
        """Partitions that wait for a person: most of what they bring can be neither decoded nor folded."""
        return frozenset(self._holding.held)

    async def run(self, stopping: asyncio.Event) -> None:
        """Record until `stopping` is set, then commit and leave."""
        try:
            async with asyncio.TaskGroup() as group:
                upkeep = [group.create_task(each()) for each in (self._prune, self._look, self._look_at_held)]
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
        self._forget_held(partitions)
        self._standstills.forget(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`: what is not folded yet is read again by the next owner."""
        self._paused.difference_update(partitions)
        self._forget_held(partitions)
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
        if not self._is_behind and not self._outage_seconds:
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
            await self._deal_with(poison, pending)
        else:
            self._holding.note((record.topic_partition for record, _ in pending), ())
        for record, progress in pending:
            if place(record) not in poison:
                progress.done(record.offset)
        del self._pending[: len(pending)]

    async def _deal_with(self, poison: Mapping[Place, Poison], read: Sequence[tuple[Record, Progress]]) -> None:
        """Set aside what cannot be folded, unless its partition is to be held."""
        await self._holding.hear()
        newly = self._holding.note((record.topic_partition for record, _ in read), list(poison.values()))
        pairs = [(each, progress) for record, progress in read if (each := poison.get(place(record))) is not None]
        held = [pair for pair in pairs if pair[0].record.topic_partition in self._holding.held]
        await self._set_aside([pair for pair in pairs if pair[0].record.topic_partition not in self._holding.held])
        self._held += held
        if newly:
            await unless_revoked(self._consumer.pause(set(newly) - self._paused))
            self._paused.difference_update(newly)  # What the store's return lets flow again.

    async def _set_aside(self, pairs: Sequence[tuple[Poison, Progress]]) -> None:
        if not pairs:
            return
        await self._store.set_aside([set_aside(poison) for poison, _ in pairs])
        for poison, progress in pairs:
            progress.done(poison.record.offset)
        self.set_aside += len(pairs)
        first = pairs[0][0]
        logger.warning(
            "%d records can be neither decoded nor folded and are set aside (pabal store set-aside); the first is "
            "%s/%d@%d: %s",
            len(pairs),
            *place(first.record),
            first.why,
        )

    def _forget_held(self, partitions: Collection[TopicPartition]) -> None:
        self._holding.forget(partitions)
        self._held = [pair for pair in self._held if pair[0].record.topic_partition not in partitions]

    async def _look_at_held(self) -> None:
        """What is held goes on when a person says so, or when it can be folded after all."""
        tried_at = self._clock.boot_seconds()
        while True:
            await asyncio.sleep(HELD_EVERY_SECONDS)
            if not self._holding.held:
                continue
            try:
                released = await self._holding.hear()
                await self._let_go(released)
                now = self._clock.boot_seconds()
                if now - tried_at >= TRY_HELD_EVERY_SECONDS:
                    tried_at = now
                    await self._try_held()
            except StoreUnavailable as error:
                logger.warning("what is held waits for the store: %s", error)
                continue
            free = self._holding.held - {poison.record.topic_partition for poison, _ in self._held}
            for partition in free:
                self._holding.let_go(partition)
            await unless_revoked(self._consumer.resume(free - self._paused))

    async def _try_held(self) -> None:
        pairs = list(self._held)
        poison = {place(each.record) for each in await self._folder.fold(each.record for each, _ in pairs)}
        for each, progress in pairs:
            if place(each.record) not in poison:
                progress.done(each.record.offset)
        self._held = [pair for pair in self._held if place(pair[0].record) in poison]

    async def _let_go(self, partitions: Collection[TopicPartition]) -> None:
        pairs = [pair for pair in self._held if pair[0].record.topic_partition in partitions]
        await self._set_aside(pairs)
        gone = {place(poison.record) for poison, _ in pairs}
        self._held = [pair for pair in self._held if place(pair[0].record) not in gone]

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

    async def _prune(self) -> None:
        while True:
            try:
                pruned = await self._store.prune(before=self._clock.now() - self._retention)
            except StoreUnavailable as error:
                logger.warning("cannot forget what is old yet: %s", error)
            else:
                if pruned:
                    logger.info("forgot %d deliveries that ended long ago", pruned)
            await asyncio.sleep(PRUNE_EVERY_SECONDS)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            # What is behind has not read yet how they ended.
            if not self._is_behind and not self._outage_seconds:
                await self.look_for_unaccounted()

    async def look_for_unaccounted(self) -> None:
        """Count what is unaccounted, and say so if there is any."""
        try:
            found = await self._store.unaccounted(now=self._clock.now(), limit=_MOST_COUNTED)
        except StoreUnavailable as error:
            logger.warning("cannot look for unaccounted deliveries yet: %s", error)
            return
        now = self._clock.boot_seconds()
        is_new = len(found) != self.unaccounted
        self.unaccounted = len(found)
        if found and (is_new or now - self._alarmed_at >= REMIND_AFTER_SECONDS):
            self._alarmed_at = now
            logger.error(
                "%d deliveries are unaccounted: their time is over and no record says how they ended. The oldest is "
                "%s (%s, expired %s). See docs/store.md, Unaccounted",
                len(found),
                found[0].id,
                found[0].channel,
                found[0].expires_at or "at an unknown time",
            )


async def _wait(stopping: asyncio.Event, *, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return

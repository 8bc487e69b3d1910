"""The records that can be neither decoded nor folded: set aside, or kept while their partition is held.

`holding.py` says which partitions are held. A record that is kept here is not done: nothing of its partition is
committed past it.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from pabal.broker.port import Record, TopicPartition
from pabal.clock import Clock
from pabal.progress import Progress
from pabal.recorder.folding import Folder, Poison, place, set_aside
from pabal.recorder.holding import Holding
from pabal.store.port import RecordPlace, Store

logger = logging.getLogger(__name__)

TRY_HELD_EVERY_SECONDS: Final = 60.0
"""How often the recorder tries to fold again what is held."""


class HeldRecords:
    """See the module. `set_aside` counts the records that this recorder has set aside."""

    def __init__(self, *, store: Store, folder: Folder, holding: Holding, clock: Clock) -> None:
        self.set_aside = 0
        self._store = store
        self._folder = folder
        self._holding = holding
        self._clock = clock
        self._held: list[tuple[Poison, Progress]] = []
        self._tried_at = clock.boot_seconds()

    async def take(
        self, poison: Mapping[RecordPlace, Poison], read: Sequence[tuple[Record, Progress]]
    ) -> Collection[TopicPartition]:
        """Set aside what cannot be folded of the records `read`, or keep it. Returns the partitions held from now on.

        Raises StoreUnavailable: nothing was set aside, that we know of; take the same again.
        """
        await self._holding.hear()
        newly = self._holding.note((record.topic_partition for record, _ in read), list(poison.values()))
        pairs = [(each, progress) for record, progress in read if (each := poison.get(place(record))) is not None]
        held = [pair for pair in pairs if pair[0].record.topic_partition in self._holding.held]
        await self._set_aside([pair for pair in pairs if pair[0].record.topic_partition not in self._holding.held])
        self._held += held
        return newly

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Another recorder has these partitions now."""
        self._holding.forget(partitions)
        self._held = [pair for pair in self._held if pair[0].record.topic_partition not in partitions]

    async def look(self) -> Collection[TopicPartition]:
        """Set aside what a person has released, and fold what can be folded after all. Returns the partitions that go
        on. Raises StoreUnavailable."""
        await self._let_go(await self._holding.hear())
        now = self._clock.boot_seconds()
        if now - self._tried_at >= TRY_HELD_EVERY_SECONDS:
            self._tried_at = now
            await self._try()
        free = self._holding.held - {poison.record.topic_partition for poison, _ in self._held}
        for partition in free:
            self._holding.let_go(partition)
        return free

    async def _try(self) -> None:
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

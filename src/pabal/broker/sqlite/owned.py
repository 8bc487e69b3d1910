"""The partitions that a member of a group owns on the embedded log: what was fetched of them, and what comes next."""

import copy
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from pabal.broker.port import Assignment, Record, TopicPartition
from pabal.broker.sqlite.batches import Span
from pabal.broker.sqlite.groups import Share
from pabal.broker.sqlite.log import OpenLog
from pabal.broker.sqlite.storage import Pulse, Storage
from pabal.broker.sqlite.waker import Waker
from pabal.errors import OffsetOutOfRange

_FETCH_BYTES = 1 << 20
"""How much is read from the file at once: some 2,000 records of 500 bytes, a few milliseconds' work."""


class _Owned:
    """One owned partition: how far it was fetched, and what was fetched and not handed over.

    `trouble` says why it stands still, if it does, and `told` how often a poll has raised that.
    """

    __slots__ = ("epoch", "fetched", "is_paused", "name", "records", "told", "trouble")

    def __init__(self, name: TopicPartition, *, epoch: int, start: int) -> None:
        self.name = name
        self.epoch = epoch
        self.fetched = start
        self.records: deque[Record] = deque()
        self.is_paused = False
        self.trouble: OffsetOutOfRange | None = None
        self.told = 0


class OwnedPartitions:
    """What one member owns, as the application was told it. Lives in the event loop.

    A pause, a resume and a seek return the partitions that the member does not own; nothing is done to these.
    """

    def __init__(self, log: OpenLog, group: str, assignment: Assignment, waker: Waker) -> None:
        self._log = log
        self._group = group
        self._assignment = assignment
        self._waker = waker
        self._owned: dict[int, _Owned] = {}
        self._turns: deque[int] = deque()

    def pause(self, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """Let `take` return nothing from these."""
        mine, others = self._split(partitions)
        for each in mine.values():
            each.is_paused = True
        self._log.view.ignore(self._waker, partitions=mine)
        return others

    def resume(self, partitions: Collection[TopicPartition]) -> set[TopicPartition]:
        """End a pause."""
        mine, others = self._split(partitions)
        for each in mine.values():
            each.is_paused = False
        self._log.view.listen(self._waker, group=self._group, partitions=mine)
        return others

    def seek(self, partition: TopicPartition, *, offset: int) -> set[TopicPartition]:
        """Go on with that offset: what was fetched is dropped, a standstill is over; a pause stays."""
        mine, others = self._split((partition,))
        for identifier, each in mine.items():
            self._owned[identifier] = moved = _Owned(partition, epoch=each.epoch, start=offset)
            moved.is_paused = each.is_paused
        return others

    def to_commit(
        self, offsets: Mapping[TopicPartition, int]
    ) -> tuple[dict[int, tuple[int, int]], list[TopicPartition]]:
        """Offsets as `groups.commit` takes them, and the partitions that the member does not own."""
        mine = {each.name: (identifier, each.epoch) for identifier, each in self._owned.items()}
        refused = [name for name in offsets if name not in mine]
        return {mine[name][0]: (mine[name][1], offset) for name, offset in offsets.items() if name in mine}, refused

    # Records

    def take(self, limit: int) -> list[Record]:
        """Up to `limit` records that are in memory, partition by partition, another one first each time."""
        records: list[Record] = []
        self._turns.rotate(-1)
        for identifier in self._turns:
            each = self._owned[identifier]
            if each.is_paused or each.trouble is not None:
                continue
            while len(records) < limit and (each.records or self._recall(identifier, each)):
                if len(each.records) <= limit - len(records):
                    records += each.records
                    each.records.clear()
                else:
                    records += [each.records.popleft() for _ in range(limit - len(records))]
        return records

    async def fetch(self, *, only_outside: bool = False) -> bool:
        """Read a stretch of a partition that has more than was fetched, or find out that it stands still; whether
        there was one. `only_outside`: of one that is outside the watermarks, as far as is known."""
        for identifier in self._turns:
            each = self._owned[identifier]
            if each.is_paused or each.trouble is not None or each.fetched == self._log.view.end(identifier):
                continue
            if only_outside and (each.records or not self._log.view.is_outside(identifier, each.fetched)):
                continue
            query = partial(_read, identifier=identifier, name=each.name, start=each.fetched)
            try:
                span = await self._log.read(query)
            except OffsetOutOfRange as error:
                each.trouble = error
                return True
            # Should the partition have been taken meanwhile, `each` is no part of what is owned: this has no effect.
            each.records.extend(span.records)
            each.fetched = span.next
            self._log.view.feel(Pulse({identifier: span.watermarks}, {}))
            return True
        return False

    def raise_trouble(self, *, is_news: bool) -> None:
        """Raise why a partition stands still, if one does: what no poll has raised yet, or each in turn."""
        troubled = [each for each in self._owned.values() if each.trouble is not None and not (is_news and each.told)]
        if troubled:
            next_one = min(troubled, key=lambda each: each.told)
            next_one.told += 1
            assert next_one.trouble is not None
            # A new one each time: raised again, an exception would drag its former tracebacks along.
            raise copy.copy(next_one.trouble)

    # Rebalances

    def take_over(self, shares: Sequence[Share]) -> None:
        """Believe what the file says: drop what the member no longer owns, begin what is new."""
        epochs = {share.partition: share.epoch for share in shares}
        self._lose([each for each, owned in self._owned.items() if epochs.get(each) != owned.epoch])
        fresh = [share for share in shares if share.is_target and share.partition not in self._owned]
        for share in fresh:
            name = self._log.view.partitions[share.partition]
            self._owned[share.partition] = _Owned(name, epoch=share.epoch, start=share.start)
        self._turns = deque(self._owned)
        self._log.view.listen(self._waker, group=self._group, partitions=[share.partition for share in fresh])
        if fresh:
            self._assignment.assigned([self._owned[share.partition].name for share in fresh])

    def lose_all(self) -> None:
        """The group has taken everything away."""
        self._lose(list(self._owned))

    def revoke(self, identifiers: Collection[int]) -> dict[int, int | None]:
        """Take partitions from the application; the offsets it wants committed, None where it wants none."""
        release: dict[int, int | None] = dict.fromkeys(identifiers)
        names = self._drop([each for each in identifiers if each in self._owned])
        if names:
            offsets = self._assignment.revoked(names)
            release |= {each: offsets.get(self._log.view.partitions[each]) for each in identifiers}
        return release

    def revoke_all(self) -> dict[int, int | None]:
        """See `revoke`."""
        return self.revoke(list(self._owned))

    def _recall(self, identifier: int, each: _Owned) -> bool:
        remembered = self._log.view.recall(identifier, each.fetched)
        if remembered is None:
            return False
        each.records.extend(remembered)
        each.fetched += len(remembered)
        return True

    def _lose(self, identifiers: Collection[int]) -> None:
        names = self._drop(identifiers)
        if names:
            self._assignment.lost(names)

    def _drop(self, identifiers: Collection[int]) -> list[TopicPartition]:
        self._log.view.ignore(self._waker, partitions=identifiers)
        names = [self._owned.pop(identifier).name for identifier in identifiers]
        self._turns = deque(self._owned)
        return names

    def _split(self, partitions: Collection[TopicPartition]) -> tuple[dict[int, _Owned], set[TopicPartition]]:
        """Which of `partitions` the member owns, and which it does not."""
        mine = {identifier: each for identifier, each in self._owned.items() if each.name in partitions}
        return mine, set(partitions) - {each.name for each in mine.values()}


def _read(storage: Storage, *, identifier: int, name: TopicPartition, start: int) -> Span:
    return storage.read(identifier, name, start=start, size=_FETCH_BYTES)

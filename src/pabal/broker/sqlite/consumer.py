"""A member of a consumer group on the embedded log.

`poll` does everything: it joins the group when there is no membership, settles the member's share when the group
has changed (see `groups.py`), takes records from memory or reads a stretch of the file, and waits. Settling
runs in a task of its own that a cancelled `poll` leaves running, so that what the file says and what this object
believes meet again at the next `poll`.
"""

import asyncio
import copy
import logging
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from pabal.broker.port import Assignment, Record, TopicPartition
from pabal.broker.sqlite import groups
from pabal.broker.sqlite.batches import Span
from pabal.broker.sqlite.log import OpenLog
from pabal.broker.sqlite.storage import Operation, Pulse, Storage
from pabal.errors import Closed, LogUnavailable, NotAssigned, OffsetOutOfRange

_FETCH_BYTES = 1 << 20
"""How much is read from the file at once: some 2,000 records of 500 bytes, a few milliseconds' work."""

_TRY_AGAIN_SECONDS = 0.5
"""How soon to try again what the disk refused."""

_logger = logging.getLogger(__name__)


class _Owned:
    """A partition this member owns: how far it was fetched, and what was fetched and not handed over.

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


class SqliteConsumer:
    """See `pabal.broker.port.Consumer`."""

    def __init__(
        self, log: OpenLog, group: str, topics: Sequence[str], assignment: Assignment, *, instance: str | None
    ) -> None:
        self._log = log
        self.group = self._group = group
        self._topics = tuple(topics)
        self._assignment = assignment
        self._instance = instance
        self._member: int | None = None
        self._generation = 0
        self._lease_ends = 0.0
        self._last_poll = 0.0
        self._poll_ends = float("inf")
        self._is_polling = False
        self._is_back = False
        self._is_cut_off = False
        self._owned: dict[int, _Owned] = {}
        self._releasing: dict[int, int | None] = {}
        self._turns: deque[int] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._settling: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        log.members.add(self)

    async def poll(self, *, limit: int, timeout_seconds: float) -> Sequence[Record]:
        """See `Consumer.poll`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        self._check_open()
        self._is_polling = True
        self._poll_ends = self._log.clock.boot_seconds() + timeout_seconds
        try:
            # What is in memory is had without a wait; the rest of the program gets its turn all the same.
            await asyncio.sleep(0)
            while True:
                self._check_open()
                pause = remaining = max(0.0, deadline - loop.time())
                try:
                    if self._must_settle():
                        if await self._settle(remaining):
                            continue
                        return ()
                    # Before the others' records, which may never end.
                    if await self._fetch(only_outside=True):
                        continue
                    self._raise_trouble(is_news=True)
                    if records := self._take(limit):
                        return records
                    if await self._fetch():
                        continue
                    self._is_cut_off = False
                except LogUnavailable as error:
                    # As a consumer does whose Kafka brokers are away: say so once, wait, try again.
                    pause = min(remaining, _TRY_AGAIN_SECONDS)
                    self._warn(error)
                if not remaining:
                    self._raise_trouble(is_news=False)
                    return ()
                await self._wait(pause)
        finally:
            self._is_polling = False
            self._last_poll = self._poll_ends = self._log.clock.boot_seconds()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.commit`."""
        self._check_open()
        mine = {each.name: (identifier, each.epoch) for identifier, each in self._owned.items()}
        refused = [name for name in offsets if name not in mine]
        committed = {mine[name][0]: (mine[name][1], offset) for name, offset in offsets.items() if name in mine}
        if committed and self._member is not None:
            operation = partial(groups.commit, member=self._member, group=self._group, offsets=committed)
            if taken := await self._log.write(operation):
                self._generation = -1
                refused += [self._log.view.partitions[each] for each in taken]
        _refuse(refused)

    async def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        self._check_open()
        mine, others = self._split(partitions)
        for each in mine.values():
            each.is_paused = True
        self._log.view.ignore(self, partitions=mine)
        _refuse(others)

    async def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        self._check_open()
        mine, others = self._split(partitions)
        for each in mine.values():
            each.is_paused = False
        self._log.view.listen(self, group=self._group, partitions=mine)
        self.wake()
        _refuse(others)

    async def seek(self, partition: TopicPartition, *, offset: int) -> None:
        """See `Consumer.seek`."""
        self._check_open()
        mine, others = self._split((partition,))
        for identifier, each in mine.items():
            self._owned[identifier] = moved = _Owned(partition, epoch=each.epoch, start=offset)
            moved.is_paused = each.is_paused
        self.wake()
        _refuse(others)

    async def close(self) -> None:
        """See `Consumer.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._leave())
            self.wake()
        await asyncio.shield(self._closing)

    def wake(self) -> None:
        """See `Listener.wake`."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def lease(self) -> tuple[int, float] | None:
        """See `Member.lease`: a session from now while polling, else what is left of the one since the last poll."""
        session, now = self._log.session_seconds, self._log.clock.boot_seconds()
        remaining = session if self._is_polling else self._last_poll + session - now
        return None if self._member is None or remaining <= 0 else (self._member, remaining)

    def renewed(self, lease_ends: float) -> None:
        """See `Member.renewed`."""
        self._lease_ends = max(self._lease_ends, lease_ends)

    def unpolled_seconds(self) -> float:
        """See `Member.unpolled_seconds`."""
        return max(0.0, self._log.clock.boot_seconds() - self._poll_ends)

    def fence(self) -> None:
        """See `Member.fence`."""
        self._generation = -1
        self.wake()

    def _warn(self, error: LogUnavailable) -> None:
        if not self._is_cut_off:
            self._is_cut_off = True
            _logger.warning("member of %r waits: %s", self._group, error)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Closed(f"this consumer of {self._group!r} was closed")

    def _split(self, partitions: Collection[TopicPartition]) -> tuple[dict[int, _Owned], set[TopicPartition]]:
        """Those of `partitions` that are this member's, and those that are not."""
        mine = {identifier: each for identifier, each in self._owned.items() if each.name in partitions}
        return mine, set(partitions) - {each.name for each in mine.values()}

    # Records

    def _take(self, limit: int) -> list[Record]:
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

    def _recall(self, identifier: int, each: _Owned) -> bool:
        remembered = self._log.view.recall(identifier, each.fetched)
        if remembered is None:
            return False
        each.records.extend(remembered)
        each.fetched += len(remembered)
        return True

    async def _fetch(self, *, only_outside: bool = False) -> bool:
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
            # Should the partition have been taken meanwhile, `each` is nobody's and this has no effect.
            each.records.extend(span.records)
            each.fetched = span.next
            self._log.view.feel(Pulse({identifier: span.watermarks}, {}))
            return True
        return False

    def _raise_trouble(self, *, is_news: bool) -> None:
        """Raise why a partition stands still, if one does: what no poll has raised yet, or each in turn."""
        troubled = [each for each in self._owned.values() if each.trouble is not None and not (is_news and each.told)]
        if troubled:
            next_one = min(troubled, key=lambda each: each.told)
            next_one.told += 1
            assert next_one.trouble is not None
            # A new one each time: raised again, an exception would drag its former tracebacks along.
            raise copy.copy(next_one.trouble)

    async def _wait(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(seconds, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    # Membership

    def _must_settle(self) -> bool:
        return (
            self._member is None
            or self._settling is not None
            or self._generation != self._log.view.generation(self._group)
            or self._log.clock.boot_seconds() >= self._lease_ends
        )

    async def _settle(self, timeout_seconds: float) -> bool:
        """Whether the share is settled; if not yet, a later poll goes on waiting."""
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle_now())
        await asyncio.wait([self._settling], timeout=timeout_seconds)
        if not self._settling.done():
            return False
        settling, self._settling = self._settling, None
        settling.result()
        return True

    async def _settle_now(self) -> None:
        while True:
            lease_ends = self._log.clock.boot_seconds() + self._log.session_seconds
            settled = await self._log.write(self._settlement())
            self._releasing = {}
            if settled is None:
                self._member, self._is_back = None, True
                self._lose(list(self._owned))
                continue
            self._member, self._generation, self._lease_ends = settled.member, settled.generation, lease_ends
            if any(share.partition not in self._log.view.partitions for share in settled.shares):
                await self._log.learn_catalogue()
            watermarks = {share.partition: share.watermarks for share in settled.shares}
            self._log.view.feel(Pulse(watermarks, {self._group: settled.generation}))
            self._take_over(settled.shares)
            self._releasing = self._revoke([each.partition for each in settled.shares if not each.is_target])
            if not self._releasing:
                return

    def _settlement(self) -> Operation[groups.Settled | None]:
        if self._member is None:
            return partial(
                groups.join,
                group=self._group,
                topics=self._topics,
                instance=self._instance,
                process=self._log.doorbell.name,
                lease_seconds=self._log.session_seconds,
                is_back=self._is_back,
            )
        return partial(
            groups.settle,
            member=self._member,
            group=self._group,
            release=self._releasing,
            lease_seconds=self._log.session_seconds,
        )

    def _take_over(self, shares: Sequence[groups.Share]) -> None:
        """Believe what the file says: drop what is this member's no more, begin what is new."""
        epochs = {share.partition: share.epoch for share in shares}
        self._lose([each for each, owned in self._owned.items() if epochs.get(each) != owned.epoch])
        fresh = [share for share in shares if share.is_target and share.partition not in self._owned]
        for share in fresh:
            name = self._log.view.partitions[share.partition]
            self._owned[share.partition] = _Owned(name, epoch=share.epoch, start=share.start)
        self._turns = deque(self._owned)
        self._log.view.listen(self, group=self._group, partitions=[share.partition for share in fresh])
        if fresh:
            self._assignment.assigned([self._owned[share.partition].name for share in fresh])

    def _lose(self, identifiers: Collection[int]) -> None:
        names = self._drop(identifiers)
        if names:
            self._assignment.lost(names)

    def _revoke(self, identifiers: Collection[int]) -> dict[int, int | None]:
        """Take partitions from the application; the offsets it wants committed, None where it wants none."""
        release: dict[int, int | None] = dict.fromkeys(identifiers)
        names = self._drop([each for each in identifiers if each in self._owned])
        if names:
            offsets = self._assignment.revoked(names)
            release |= {each: offsets.get(self._log.view.partitions[each]) for each in identifiers}
        return release

    def _drop(self, identifiers: Collection[int]) -> list[TopicPartition]:
        self._log.view.ignore(self, partitions=identifiers)
        names = [self._owned.pop(identifier).name for identifier in identifiers]
        self._turns = deque(self._owned)
        return names

    async def _leave(self) -> None:
        if self._settling is not None:
            await asyncio.wait([self._settling])
        self._log.members.discard(self)
        self._log.view.forget(self)
        if self._member is None:
            return
        release = self._releasing | self._revoke(list(self._owned))
        member, self._member = self._member, None
        operation = partial(groups.leave, member=member, group=self._group, release=release)
        try:
            await self._log.write(operation)
        except LogUnavailable as error:
            _logger.warning("member of %r could not leave; its lease ends by itself: %s", self._group, error)


def _read(storage: Storage, *, identifier: int, name: TopicPartition, start: int) -> Span:
    return storage.read(identifier, name, start=start, size=_FETCH_BYTES)


def _refuse(partitions: Collection[TopicPartition]) -> None:
    """Raise `NotAssigned` naming `partitions`, if there are any: what concerns the others was done before."""
    if partitions:
        names = ", ".join(f"{topic}/{number}" for topic, number in sorted(partitions))
        raise NotAssigned(f"not (or no longer) a partition of this member: {names}")

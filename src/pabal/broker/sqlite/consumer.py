"""A member of a consumer group on the embedded log, as its polling task sees it.

`poll` does everything: it joins the group when there is no membership, settles the member's share when the group
has changed, takes records from memory or reads a stretch of the file, and waits.

* `membership.py` the life of the membership · `groups.py` what the file says of it · `signs.py` whether it is polled
* `owned.py` the partitions that it owns, and their records · `waker.py` the wait
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from pabal.broker.port import Assignment, Record, TopicPartition
from pabal.broker.sqlite.log import OpenLog
from pabal.broker.sqlite.membership import Membership
from pabal.broker.sqlite.owned import OwnedPartitions
from pabal.broker.sqlite.signs import PollSigns
from pabal.broker.sqlite.waker import Waker
from pabal.errors import Closed, LogUnavailable, NotAssigned

_TRY_AGAIN_SECONDS = 0.5
"""How soon to try again what the disk refused."""

_logger = logging.getLogger(__name__)


class SqliteConsumer:
    """See `pabal.broker.port.Consumer`."""

    def __init__(
        self,
        log: OpenLog,
        group: str,
        topics: Sequence[str],
        assignment: Assignment,
        *,
        instance: str | None,
        closed: Callable[["SqliteConsumer"], None],
    ) -> None:
        """`closed` is called with this object once it has left its group."""
        self._group = group
        self._waker = Waker()
        self._signs = PollSigns(log.clock, session_seconds=log.session_seconds)
        self._owned = OwnedPartitions(log, group, assignment, self._waker)
        self._membership = Membership(
            log, self._owned, self._signs, self._waker, group=group, topics=topics, instance=instance
        )
        self._closed = closed
        self._is_cut_off = False
        self._closing: asyncio.Task[None] | None = None

    async def poll(self, *, limit: int, timeout_seconds: float) -> Sequence[Record]:
        """See `Consumer.poll`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        self._check_open()
        self._signs.began(timeout_seconds=timeout_seconds)
        try:
            # What is in memory is had without a wait; the rest of the program gets its turn all the same.
            await asyncio.sleep(0)
            while True:
                self._check_open()
                pause = remaining = max(0.0, deadline - loop.time())
                try:
                    if self._membership.must_settle():
                        if await self._membership.settle(remaining):
                            continue
                        return ()
                    # Before the others' records, which may never end.
                    if await self._owned.fetch(only_outside=True):
                        continue
                    self._owned.raise_trouble(is_news=True)
                    if records := self._owned.take(limit):
                        return records
                    if await self._owned.fetch():
                        continue
                    self._is_cut_off = False
                except LogUnavailable as error:
                    # As a consumer does whose Kafka brokers are away: say so once, wait, try again.
                    pause = min(remaining, _TRY_AGAIN_SECONDS)
                    self._warn(error)
                if not remaining:
                    self._owned.raise_trouble(is_news=False)
                    return ()
                await self._waker.wait(pause)
        finally:
            self._signs.ended()

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.commit`."""
        self._check_open()
        owned, refused = self._owned.to_commit(offsets)
        _refuse(refused + await self._membership.commit(owned))

    async def pause(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.pause`."""
        self._check_open()
        _refuse(self._owned.pause(partitions))

    async def resume(self, partitions: Collection[TopicPartition]) -> None:
        """See `Consumer.resume`."""
        self._check_open()
        others = self._owned.resume(partitions)
        self._waker.wake()
        _refuse(others)

    async def seek(self, partition: TopicPartition, *, offset: int) -> None:
        """See `Consumer.seek`."""
        self._check_open()
        others = self._owned.seek(partition, offset=offset)
        self._waker.wake()
        _refuse(others)

    async def close(self) -> None:
        """See `Consumer.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._leave())
            self._waker.wake()
        await asyncio.shield(self._closing)

    async def _leave(self) -> None:
        try:
            await self._membership.leave()
        finally:
            self._closed(self)

    def _warn(self, error: LogUnavailable) -> None:
        if not self._is_cut_off:
            self._is_cut_off = True
            _logger.warning("member of %r waits: %s", self._group, error)

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Closed(f"this consumer of {self._group!r} was closed")


def _refuse(partitions: Collection[TopicPartition]) -> None:
    """Raise `NotAssigned` naming `partitions`, if there are any: what concerns the others was done before."""
    if partitions:
        names = ", ".join(f"{topic}/{number}" for topic, number in sorted(partitions))
        raise NotAssigned(f"not (or no longer) a partition of this member: {names}")

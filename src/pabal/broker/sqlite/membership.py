"""The life of one membership in a group on the embedded log: join, settle, be fenced, leave.

Settling runs in a task of its own that a cancelled `poll` leaves running, so that what the file says and what this
object believes meet again at the next `poll`.
"""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial

from pabal.broker.port import TopicPartition
from pabal.broker.sqlite import groups
from pabal.broker.sqlite.log import OpenLog
from pabal.broker.sqlite.owned import OwnedPartitions
from pabal.broker.sqlite.signs import PollSigns
from pabal.broker.sqlite.storage import Operation, Pulse
from pabal.broker.sqlite.waker import Waker
from pabal.errors import LogUnavailable

_logger = logging.getLogger(__name__)


class Membership:
    """See the module. Implements `Leaseholder`."""

    def __init__(
        self,
        log: OpenLog,
        owned: OwnedPartitions,
        signs: PollSigns,
        waker: Waker,
        *,
        group: str,
        topics: Sequence[str],
        instance: str | None,
    ) -> None:
        self.group = group
        self._log = log
        self._owned = owned
        self._signs = signs
        self._waker = waker
        self._join = partial(groups.join, group=group, topics=tuple(topics), instance=instance)
        self._member: int | None = None
        self._generation = 0
        self._lease_ends = 0.0
        self._is_back = False
        self._releasing: dict[int, int | None] = {}
        self._settling: asyncio.Task[None] | None = None
        log.keeper.leaseholders.add(self)

    def must_settle(self) -> bool:
        """Whether the group has changed, or this is no member (any more)."""
        return (
            self._member is None
            or self._settling is not None
            or self._generation != self._log.view.generation(self.group)
            or self._log.clock.boot_seconds() >= self._lease_ends
        )

    async def settle(self, timeout_seconds: float) -> bool:
        """Whether the share is settled; if not yet, a later poll goes on waiting."""
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle())
        await asyncio.wait([self._settling], timeout=timeout_seconds)
        if not self._settling.done():
            return False
        settling, self._settling = self._settling, None
        settling.result()
        return True

    async def commit(self, offsets: dict[int, tuple[int, int]]) -> list[TopicPartition]:
        """Commit these (see `groups.commit`); the partitions that are not this member's any more."""
        if not offsets or self._member is None:
            return []
        operation = partial(groups.commit, member=self._member, group=self.group, offsets=offsets)
        taken = await self._log.write(operation)
        if taken:
            self._generation = -1
        return [self._log.view.partitions[each] for each in taken]

    async def leave(self) -> None:
        """End the membership; what it owned is free at once."""
        if self._settling is not None:
            await asyncio.wait([self._settling])
        self._log.keeper.leaseholders.discard(self)
        self._log.view.forget(self._waker)
        if self._member is None:
            return
        release = self._releasing | self._owned.revoke_all()
        member, self._member = self._member, None
        operation = partial(groups.leave, member=member, group=self.group, release=release)
        try:
            await self._log.write(operation)
        except LogUnavailable as error:
            _logger.warning("member of %r could not leave; its lease ends by itself: %s", self.group, error)

    # What the keeper asks

    def lease(self) -> tuple[int, float] | None:
        """See `Leaseholder.lease`."""
        remaining = self._signs.session_left_seconds()
        return None if self._member is None or remaining <= 0 else (self._member, remaining)

    def renewed(self, lease_ends: float) -> None:
        """See `Leaseholder.renewed`."""
        self._lease_ends = max(self._lease_ends, lease_ends)

    def unpolled_seconds(self) -> float:
        """See `Leaseholder.unpolled_seconds`."""
        return self._signs.unpolled_seconds()

    def fence(self) -> None:
        """See `Leaseholder.fence`."""
        self._generation = -1
        self._waker.wake()

    async def _settle(self) -> None:
        while True:
            lease_ends = self._log.clock.boot_seconds() + self._log.session_seconds
            settled = await self._log.write(self._settlement())
            self._releasing = {}
            if settled is None:
                self._member, self._is_back = None, True
                self._owned.lose_all()
                continue
            self._member, self._generation, self._lease_ends = settled.member, settled.generation, lease_ends
            if any(share.partition not in self._log.view.partitions for share in settled.shares):
                await self._log.learn_catalogue()
            watermarks = {share.partition: share.watermarks for share in settled.shares}
            self._log.view.feel(Pulse(watermarks, {self.group: settled.generation}))
            self._owned.take_over(settled.shares)
            self._releasing = self._owned.revoke([each.partition for each in settled.shares if not each.is_target])
            if not self._releasing:
                return

    def _settlement(self) -> Operation[groups.Settled | None]:
        lease_seconds = self._log.session_seconds
        if self._member is None:
            process = self._log.doorbell.name
            return partial(self._join, process=process, lease_seconds=lease_seconds, is_back=self._is_back)
        return partial(
            groups.settle,
            member=self._member,
            group=self.group,
            release=self._releasing,
            lease_seconds=lease_seconds,
        )

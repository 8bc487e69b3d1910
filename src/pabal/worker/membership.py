"""One worker's place in the consumer group of one class: it polls, stays a member, commits, and leaves."""

import asyncio
import logging
from collections.abc import Callable, Collection

from pabal.broker.port import Broker, Consumer, Record, TopicPartition
from pabal.clock import Clock
from pabal.errors import LogUnavailable, OffsetOutOfRange, UnknownTopic
from pabal.offsets.lookback import Lookback
from pabal.offsets.passed import Knows
from pabal.offsets.standing import Standstills
from pabal.runtime import commit_progress, unless_revoked
from pabal.worker.partitions import Partitions

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
"""How long a poll waits for records."""

PAUSED_POLL_SECONDS = 0.1
"""How long a poll waits while partitions are paused: they may go on meanwhile."""


class Membership:
    """A member of `group`, which reads `topic`. `partitions` are its own; `on_owned` is called when it has others."""

    def __init__(
        self,
        *,
        broker: Broker,
        group: str,
        topic: str,
        window: int,
        instance: str | None,
        ledger: Knows,
        clock: Clock,
        on_owned: Callable[[], None],
    ) -> None:
        self.group = group
        self.topic = topic
        self.partitions = Partitions(window=window, on_assigned=self._assigned, on_owned=on_owned)
        self._consumer: Consumer = broker.consumer(group, [topic], self.partitions, instance=instance)
        progress = self.partitions.progress
        self._standstills = Standstills(
            group=group, consumer=self._consumer, reader=broker.reader(), progress=progress, clock=clock
        )
        self._lookback = Lookback(
            group=group,
            topic=topic,
            ledger=ledger,
            admin=broker.admin(),
            reader=broker.reader(),
            producer=broker.producer(),
            progress=progress,
            clock=clock,
        )

    async def poll(self, *, limit: int) -> Collection[Record]:
        """Records of partitions that do not wait.

        Raises:
            LogError: the group cannot be read any more: this member was fenced.
        """
        # A partition that waits may be eased while a poll waits for the others, if there are any.
        timeout = PAUSED_POLL_SECONDS if self.partitions.paused else POLL_SECONDS
        return await self._poll(limit=limit, timeout_seconds=timeout)

    async def hold_back_crowded(self) -> None:
        """Pause partitions that are crowded by now, and resume partitions that are so no more."""
        if crowded := self.partitions.newly_crowded():
            await unless_revoked(self._consumer.pause(crowded))
            self.partitions.paused.update(crowded)
        if eased := self.partitions.newly_eased():
            await unless_revoked(self._consumer.resume(eased))
            self.partitions.paused.difference_update(eased)

    async def pause(self) -> Collection[Record]:
        """Pause every partition, and poll, so that the group does not take this member for dead.

        A poll that was under way may still bring a record.
        """
        await unless_revoked(self._consumer.pause(self.partitions.read_on))
        return await self._poll(limit=1, timeout_seconds=PAUSED_POLL_SECONDS)

    async def resume(self) -> None:
        """Resume what `pause` paused."""
        await unless_revoked(self._consumer.resume(self.partitions.read_on))

    async def commit(self) -> None:
        """Commit what is done."""
        await commit_progress(self._consumer, self.partitions.progress, group=self.group)

    async def leave(self) -> None:
        """Commit and leave the group."""
        try:
            await self.commit()
        finally:
            await self._standstills.close()
            await self._lookback.close()
            await self._consumer.close()

    async def _poll(self, *, limit: int, timeout_seconds: float) -> Collection[Record]:
        await self._standstills.settle()
        await self._lookback.settle(self._consumer)
        try:
            return await self._consumer.poll(limit=limit, timeout_seconds=timeout_seconds)
        except OffsetOutOfRange as error:
            self._standstills.note(error)
            return ()
        except (LogUnavailable, UnknownTopic) as error:
            logger.warning("%s: %s", self.group, error)
            await asyncio.sleep(POLL_SECONDS)
            return ()

    def _assigned(self, partitions: Collection[TopicPartition]) -> None:
        self._standstills.forget(partitions)
        self._lookback.assigned(partitions)

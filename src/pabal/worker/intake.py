"""One class of one channel: polls its group's partitions, decodes, and commits what is done."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Literal, Protocol

import msgspec

from pabal.broker.port import Broker, Consumer, Record, TopicPartition
from pabal.clock import Clock
from pabal.codec import read_delivery
from pabal.errors import DecodeError, LogUnavailable, OffsetOutOfRange, UnknownTopic
from pabal.groups import worker_group
from pabal.guard import BrakeTrigger
from pabal.notification import Delivery, NotificationClass, deliveries_topic
from pabal.offsets.lookback import Lookback
from pabal.offsets.passed import Knows
from pabal.offsets.standing import Standstills
from pabal.progress import Progress
from pabal.runtime import commit_progress, unless_revoked

logger = logging.getLogger(__name__)

COMMIT_EVERY_SECONDS = 1.0
"""How often progress is committed: what a crash replays is about that much, and the ledger answers for it."""

Hold = Literal["guard", "brake"]
"""Why an intake takes nothing: every provider of its channel refuses, or too much of what it reads is unreadable."""

_POLL_SECONDS = 1.0
_PAUSED_POLL_SECONDS = 0.1
_POLL_LIMIT = 500
_MOST_AHEAD = 20_000
"""Records of a partition beyond the first that has not ended: the most that a crash replays of it."""


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False, eq=False):
    """A record in flight. `delivery` is the error when the bytes cannot be read; `lane` is then the record's own, and
    there is no `tenant`."""

    delivery: Delivery | DecodeError
    origin: Record
    intake: "Intake"
    progress: Progress
    lane: Hashable
    tenant: str | None


class Put(Protocol):
    """Where the intake puts what it has read."""

    def __call__(self, items: Collection[Item]) -> None:
        """Take items, in order."""
        ...


class Intake:
    """A member of one class's consumer group, with a window on what it has in flight.

    It can be held back, for as many reasons as there are: then it stays a member and takes nothing. `brake` counts what
    cannot be read, and `on_braked` hears when that is too much: a person must let it go again. `on_owned` hears when
    it has other partitions than before.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        channel: str,
        class_: NotificationClass,
        window: int,
        put: Put,
        instance: str | None,
        brake: BrakeTrigger,
        on_braked: Callable[["Intake", DecodeError], None],
        on_owned: Callable[[], None],
        ledger: Knows,
        clock: Clock,
    ) -> None:
        self.channel = channel
        self.class_ = class_
        self.group = worker_group(channel, class_)
        self.topic = deliveries_topic(channel, class_)
        self._window = window
        # Polling again for each single record that ends would cost a poll per record.
        self._low_water = window * 3 // 4
        # Beyond the one a partition is held back, below the other it is read again.
        self._crowded_from = max(window // 2, 1)
        self._eased_below = self._crowded_from // 2
        self._put = put
        self._in_flight = 0
        self._room = asyncio.Event()
        self._holds: set[Hold] = set()
        self._let_go = asyncio.Event()
        self.brake = brake
        self._on_braked = on_braked
        self._on_owned = on_owned
        self._clock = clock
        self._progress: dict[TopicPartition, Progress] = {}
        self._paused: set[TopicPartition] = set()
        self._consumer: Consumer = broker.consumer(self.group, [self.topic], self, instance=instance)
        self._standstills = Standstills(
            group=self.group, consumer=self._consumer, reader=broker.reader(), progress=self._progress, clock=clock
        )
        self._lookback = Lookback(
            group=self.group,
            topic=self.topic,
            ledger=ledger,
            admin=broker.admin(),
            reader=broker.reader(),
            producer=broker.producer(),
            progress=self._progress,
            clock=clock,
        )

    async def run(self, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        """Take records until `stopping`; then only stay a member until `drained`, so that the end can be committed.

        Raises:
            LogError: the group cannot be read any more: this member was fenced.
        """
        while not stopping.is_set():
            if self._holds:
                await self._sit_out(stopping)
                continue
            if self._in_flight >= self._window:
                await self._wait_for_room()
                continue
            limit = min(self._window - self._in_flight, _POLL_LIMIT)
            # What is paused may be eased while a poll waits for what is not, if there is any.
            timeout = _PAUSED_POLL_SECONDS if self._paused else _POLL_SECONDS
            self._receive(await self._poll(limit=limit, timeout_seconds=timeout))
            await self._hold_back_crowded()
        while not drained.is_set():
            await self._poll_paused()

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
            await asyncio.sleep(_POLL_SECONDS)
            return ()

    async def commit(self) -> None:
        """Commit what is done."""
        await commit_progress(self._consumer, self._progress, group=self.group)

    async def close(self) -> None:
        """Commit and leave the group."""
        try:
            await self.commit()
        finally:
            await self._standstills.close()
            await self._lookback.close()
            await self._consumer.close()

    def done(self, item: Item) -> None:
        """Everything about this record is in the log."""
        item.progress.done(item.origin.offset)
        self._in_flight -= 1
        if self._in_flight <= self._low_water:
            self._room.set()

    def is_current(self, item: Item) -> bool:
        """Whether the item's partition is still held under the assignment it was read in."""
        return self._progress.get(item.origin.topic_partition) is item.progress

    def hold(self, why: Hold) -> None:
        """Take nothing more, until `let_go`."""
        self._holds.add(why)

    def let_go(self, why: Hold) -> None:
        """Go on, unless there is another reason not to. Harmless when it was not held."""
        if why in self._holds:
            self._holds.remove(why)
            self._let_go.set()

    @property
    def is_braked(self) -> bool:
        """Whether unreadable records wait for a person."""
        return "brake" in self._holds

    @property
    def partitions(self) -> int:
        """How many it has."""
        return len(self._progress)

    @property
    def in_flight(self) -> int:
        """Records taken from the log and not ended."""
        return self._in_flight

    @property
    def held_back(self) -> int:
        """How many records must end before all its partitions are read again."""
        crowded = (self._progress[tp] for tp in self._paused)
        return sum(max(progress.undone - self._eased_below, 0) for progress in crowded)

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.assigned`."""
        for partition in partitions:
            self._progress[partition] = Progress()
            self._paused.discard(partition)
        self._standstills.forget(partitions)
        self._lookback.assigned(partitions)
        self._on_owned()

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """See `Assignment.revoked`. Calls under way are not waited for: the ledger knows about them."""
        given_up = {partition: self._progress.pop(partition, None) for partition in partitions}
        self._paused.difference_update(partitions)
        self._on_owned()
        return {
            partition: offset
            for partition, progress in given_up.items()
            if progress is not None and (offset := progress.next_offset) is not None
        }

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """See `Assignment.lost`."""
        self.revoked(partitions)

    def _receive(self, records: Collection[Record]) -> None:
        items = []
        first_error: DecodeError | None = None
        unreadable = 0
        for record in records:
            progress = self._progress.get(record.topic_partition)
            if progress is None:
                continue  # Revoked between the poll and now: the next owner reads it.
            progress.receive((record.offset,))
            delivery = _read(record)
            lane: Hashable
            if isinstance(delivery, DecodeError):
                lane, tenant, first_error, unreadable = record, None, first_error or delivery, unreadable + 1
            else:
                lane, tenant = delivery.lane, delivery.tenant
            items.append(
                Item(delivery=delivery, origin=record, intake=self, progress=progress, lane=lane, tenant=tenant)
            )
        self._in_flight += len(items)
        now = self._clock.boot_seconds()
        if self.brake.note(read=len(items), unreadable=unreadable, now=now) and not self.is_braked:
            assert first_error is not None
            self.hold("brake")
            self._on_braked(self, first_error)
        self._put(items)

    async def _sit_out(self, stopping: asyncio.Event) -> None:
        """Stay a member and take nothing while held; all stays paused, as resuming would fetch it in vain."""
        while self._holds and not stopping.is_set():
            self._let_go.clear()
            await unless_revoked(self._consumer.pause(set(self._progress) - self._paused))
            self._receive(await self._poll(limit=1, timeout_seconds=_PAUSED_POLL_SECONDS))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._let_go.wait(), _PAUSED_POLL_SECONDS)
        await unless_revoked(self._consumer.resume(set(self._progress) - self._paused))

    async def _wait_for_room(self) -> None:
        """Wait for the window, and keep polling (paused) so that the group does not take us for dead."""
        self._room.clear()
        try:
            await asyncio.wait_for(self._room.wait(), _POLL_SECONDS)
        except TimeoutError:
            await self._poll_paused()

    async def _poll_paused(self) -> None:
        partitions = set(self._progress) - self._paused
        await unless_revoked(self._consumer.pause(partitions))
        self._receive(await self._poll(limit=1, timeout_seconds=_PAUSED_POLL_SECONDS))
        await unless_revoked(self._consumer.resume(partitions))

    async def _hold_back_crowded(self) -> None:
        """One stuck partition must not fill the window: beyond half of it, it waits.

        One that goes on behind a few that are stuck (calls that hang) does not: others wait behind those.
        """
        crowded = {
            tp
            for tp, progress in self._progress.items()
            if (progress.undone >= self._crowded_from and len(self._progress) > 1) or len(progress) >= _MOST_AHEAD
        } - self._paused
        if crowded:
            await unless_revoked(self._consumer.pause(crowded))
            self._paused |= crowded
        eased = {
            tp
            for tp in self._paused
            if (progress := self._progress.get(tp)) is not None
            and progress.undone <= self._eased_below
            and len(progress) <= _MOST_AHEAD // 2
        }
        if eased:
            await unless_revoked(self._consumer.resume(eased))
            self._paused -= eased


def _read(record: Record) -> Delivery | DecodeError:
    try:
        delivery = read_delivery(record)
    except DecodeError as error:
        return error
    if deliveries_topic(delivery.channel, delivery.class_) != record.topic:
        belongs = f"{delivery.channel}.{delivery.class_}"
        return DecodeError(f"a delivery of {belongs} does not belong into {record.topic}", error_class="misplaced")
    return delivery

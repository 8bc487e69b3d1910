"""One class of one channel: takes records from its group's partitions, as far as there is room, and decodes them."""

import asyncio
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Protocol

import msgspec

from pabal.broker.port import Broker, Record, TopicPartition
from pabal.clock import Clock
from pabal.codec import read_delivery
from pabal.errors import DecodeError
from pabal.groups import worker_group
from pabal.guard import BrakeTrigger
from pabal.notification import Delivery, NotificationClass, deliveries_topic
from pabal.offsets.passed import Knows
from pabal.progress import Progress
from pabal.worker.holds import Holds, IdleReason
from pabal.worker.membership import PAUSED_POLL_SECONDS, POLL_SECONDS, Membership
from pabal.worker.window import Window

POLLING_SECONDS = 10.0
"""An intake polls at least every second, whatever the log does. One that did not for so long does not poll."""

COMMIT_EVERY_SECONDS = 1.0
"""How often progress is committed: what a crash replays is about that much, and the ledger answers for it."""

_POLL_LIMIT = 500


class _InFlight(msgspec.Struct, frozen=True, kw_only=True, gc=False, eq=False):
    """A record that was read and has not ended: `intake` read it, and `progress` is its partition's."""

    origin: Record
    intake: "Intake"
    progress: Progress
    lane: Hashable
    tenant: str | None


class Item(_InFlight, frozen=True, kw_only=True, gc=False, eq=False):
    """A delivery in flight."""

    delivery: Delivery


class UnreadableItem(_InFlight, frozen=True, kw_only=True, gc=False, eq=False):
    """Bytes that are no delivery, and why. Its lane is its own, and its tenant is not known."""

    error: DecodeError


InFlight = Item | UnreadableItem


class Put(Protocol):
    """Where the intake puts what it has read."""

    def __call__(self, items: Collection[InFlight]) -> None:
        """Take items, in order."""
        ...


class Intake:
    """Takes what one class reads, with a window on what is in flight.

    It can be held, for several reasons at once: then it stays a member of its group and takes nothing. `brake` counts
    what cannot be read, and `on_braked` is called when that is too much; it must hold the class until a person has
    looked. `on_owned` is called when the intake has other partitions than before.
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
        on_braked: Callable[[DecodeError], None],
        on_owned: Callable[[], None],
        ledger: Knows,
        clock: Clock,
    ) -> None:
        self.channel = channel
        self.class_ = class_
        self.group = worker_group(channel, class_)
        self.topic = deliveries_topic(channel, class_)
        self.brake = brake
        self.unreadable = 0
        """Records that could not be read, since it began."""

        self._window = Window(window)
        self._holds = Holds()
        self._put = put
        self._on_braked = on_braked
        self._clock = clock
        self._turned_at: float | None = None
        self._membership = Membership(
            broker=broker,
            group=self.group,
            topic=self.topic,
            window=window,
            instance=instance,
            ledger=ledger,
            clock=clock,
            on_owned=on_owned,
        )
        self._partitions = self._membership.partitions

    async def run(self, stopping: asyncio.Event, drained: asyncio.Event) -> None:
        """Take records until `stopping`; then only stay a member until `drained`, so that the end can be committed.

        Raises:
            LogError: the group cannot be read any more: this member was fenced.
        """
        while not stopping.is_set():
            self._turned_at = self._clock.boot_seconds()
            if self._holds:
                await self._sit_out(stopping)
            elif self._window.room <= 0:
                if not await self._window.wait_for_room(timeout_seconds=POLL_SECONDS):
                    await self._stay()
            else:
                self._receive(await self._membership.poll(limit=min(self._window.room, _POLL_LIMIT)))
                await self._membership.hold_back_crowded()
        while not drained.is_set():
            self._turned_at = self._clock.boot_seconds()
            await self._stay()

    async def commit(self) -> None:
        """Commit what is done."""
        await self._membership.commit()

    async def close(self) -> None:
        """Commit and leave the group."""
        await self._membership.leave()

    def done(self, item: InFlight) -> None:
        """Everything about this record is in the log."""
        item.progress.done(item.origin.offset)
        self._window.end()

    def is_current(self, item: InFlight) -> bool:
        """Whether the item's partition is still owned under the assignment it was read in."""
        return self._partitions.progress.get(item.origin.topic_partition) is item.progress

    def hold(self, reason: IdleReason) -> None:
        """Take nothing more, until `let_go`."""
        self._holds.add(reason)

    def let_go(self, reason: IdleReason) -> None:
        """Go on, unless there is another reason not to. Harmless when it was not held."""
        self._holds.remove(reason)

    @property
    def holds(self) -> Collection[IdleReason]:
        """Why it takes nothing at the moment; empty: it takes what comes."""
        return self._holds.reasons

    @property
    def idle_seconds(self) -> float:
        """Seconds since it last asked for records, or chose not to. 0 before it runs: the worker waits for the log."""
        return 0.0 if self._turned_at is None else self._clock.boot_seconds() - self._turned_at

    @property
    def progress(self) -> Mapping[TopicPartition, Progress]:
        """How far each of its partitions is done."""
        return self._partitions.progress

    @property
    def partitions(self) -> int:
        """How many it owns."""
        return len(self._partitions)

    @property
    def in_flight(self) -> int:
        """Records taken from the log and not ended."""
        return self._window.in_flight

    @property
    def held_back(self) -> int:
        """How many records must end before all its partitions are read again."""
        return self._partitions.held_back

    def _receive(self, records: Collection[Record]) -> None:
        items: list[InFlight] = []
        first_error: DecodeError | None = None
        unreadable = 0
        for record in records:
            progress = self._partitions.progress.get(record.topic_partition)
            if progress is None:
                continue  # Revoked between the poll and now: the next owner reads it.
            progress.receive((record.offset,))
            try:
                delivery = _read(record)
            except DecodeError as error:
                first_error, unreadable = first_error or error, unreadable + 1
                items.append(
                    UnreadableItem(error=error, origin=record, intake=self, progress=progress, lane=record, tenant=None)
                )
            else:
                items.append(
                    Item(
                        delivery=delivery,
                        origin=record,
                        intake=self,
                        progress=progress,
                        lane=delivery.lane,
                        tenant=delivery.tenant,
                    )
                )
        self.unreadable += unreadable
        self._window.take(len(items))
        is_bad = self.brake.note(read=len(items), unreadable=unreadable, now=self._clock.boot_seconds())
        if is_bad and first_error is not None and "brake" not in self.holds:
            self._on_braked(first_error)
        self._put(items)

    async def _sit_out(self, stopping: asyncio.Event) -> None:
        """Stay a member and take nothing while held. All stays paused, as resuming would fetch it in vain."""
        while self._holds and not stopping.is_set():
            self._turned_at = self._clock.boot_seconds()
            self._receive(await self._membership.pause())
            await self._holds.wait_for_change(timeout_seconds=PAUSED_POLL_SECONDS)
        await self._membership.resume()

    async def _stay(self) -> None:
        """Poll, paused, so that the group does not take this member for dead."""
        self._receive(await self._membership.pause())
        await self._membership.resume()


def _read(record: Record) -> Delivery:
    """The delivery in a record. Raises DecodeError."""
    delivery = read_delivery(record)
    if deliveries_topic(delivery.channel, delivery.class_) != record.topic:
        belongs = f"{delivery.channel}.{delivery.class_}"
        raise DecodeError(f"a delivery of {belongs} does not belong into {record.topic}", error_class="misplaced")
    return delivery

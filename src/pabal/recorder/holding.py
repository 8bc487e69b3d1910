"""When most records of a partition can be neither decoded nor folded, the partition is held: as by the worker's brake.

One bad record is set aside, and nothing is late. Many bad records look like a bad deploy, perhaps of this recorder:
committed past, they would be missing from the store when a mended recorder could fold them. So a partition is held when
it brings at least `records` bad ones within a minute, and they are `ratio` of all. Nothing is then committed past the
first record that is held. The partition goes on when its records can be folded (they are tried again once a minute, and
by each recorder that starts), or when a person says so.
"""

import logging
from collections.abc import Collection, Iterable, Sequence

import msgspec

from pabal.broker.port import Producer, Reader, TopicPartition
from pabal.clock import Clock
from pabal.errors import DecodeError, LogError
from pabal.guard import BrakeTrigger
from pabal.notification import OPS_TOPIC
from pabal.ops.brakes import RECORDER, BrakeState, brake_key, brake_record, how_to_release, read_brake
from pabal.recorder.folding import Poison
from pabal.tail import Tail
from pabal.unreadable import Unreadable

logger = logging.getLogger(__name__)


class Holding:
    """Which partitions are held, and the brakes on their topics as all recorders share them in `pabal.ops`."""

    def __init__(self, *, reader: Reader, producer: Producer, clock: Clock, ratio: float, records: int) -> None:
        self.unreadable = Unreadable("the recorder's brakes")
        self._ops = Tail(OPS_TOPIC, reader=reader)
        self._producer = producer
        self._clock = clock
        self._ratio, self._records = ratio, records
        self._brakes: dict[TopicPartition, BrakeTrigger] = {}
        self._states: dict[bytes, BrakeState] = {}
        self._untold: dict[bytes, BrakeState] = {}
        self.held: set[TopicPartition] = set()

    def note(self, read: Iterable[TopicPartition], poison: Sequence[Poison]) -> Collection[TopicPartition]:
        """These records were read, some in vain. Returns the partitions that are held from now on."""
        counts: dict[TopicPartition, list[int]] = {}
        for partition in read:
            counts.setdefault(partition, [0, 0])[0] += 1
        first: dict[TopicPartition, Poison] = {}
        for each in poison:
            counts[each.record.topic_partition][1] += 1
            first.setdefault(each.record.topic_partition, each)
        newly = []
        for partition, (total, bad) in counts.items():
            brake = self._brakes.get(partition)
            if brake is None:
                brake = self._brakes[partition] = BrakeTrigger(ratio=self._ratio, records=self._records)
            is_tripped = brake.note(read=total, unreadable=bad, now=self._clock.boot_seconds())
            if not bad or partition in self.held or self._release(partition.topic) is not None:
                continue
            if is_tripped or self._is_braked(partition.topic):
                newly.append(partition)
                self._hold(partition, first[partition], brake)
        return newly

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Other recorders have these partitions now."""
        self.held.difference_update(partitions)
        for partition in partitions:
            self._brakes.pop(partition, None)

    def let_go(self, partition: TopicPartition) -> None:
        """All that was held of it is folded or set aside."""
        self.held.discard(partition)

    async def hear(self) -> set[TopicPartition]:
        """Append the brakes that are not in the log yet, and read what other roles appended.

        Returns the partitions that a person has released.
        """
        try:
            for key, state in list(self._untold.items()):
                await self._producer.append([brake_record(RECORDER, _topic_of(key), state)])
                self._untold.pop(key, None)
            async for record in self._ops.read_on():
                try:
                    heard = read_brake(record)
                except DecodeError as error:
                    self.unreadable.note(record, error)
                    continue
                if heard is not None and record.key is not None:
                    self._states[record.key] = heard
        except LogError as error:
            logger.warning("cannot follow the brakes yet: %s", error)
        return {partition for partition in self.held if self._is_released(partition)}

    def _hold(self, partition: TopicPartition, poison: Poison, brake: BrakeTrigger) -> None:
        self.held.add(partition)
        reason = (
            f"{brake.unreadable} of {brake.read} records of {partition.topic}/{partition.partition} can be neither "
            f"decoded nor folded, such as offset {poison.record.offset}: {poison.why}"
        )
        key = brake_key(RECORDER, partition.topic)
        if not self._is_braked(partition.topic):
            self._states[key] = self._untold[key] = BrakeState(state="braked", at=self._clock.now(), reason=reason)
        logger.error(
            "held: the recorder takes nothing more from %s/%d: %s. %s",
            *partition,
            reason,
            how_to_release(f"{RECORDER} {partition.topic}"),
        )

    def _is_braked(self, topic: str) -> bool:
        state = self._states.get(brake_key(RECORDER, topic))
        return state is not None and state.state == "braked"

    def _is_released(self, partition: TopicPartition) -> bool:
        key = brake_key(RECORDER, partition.topic)
        state = self._release(partition.topic) or self._states.get(key)
        if key in self._untold or state is None or state.state != "released":
            return False
        if self._is_braked(partition.topic):
            # The class was released, and the topic with it: the topic's own brake must not stand there for ever.
            told = msgspec.structs.replace(state, at=self._clock.now())
            self._states[key] = self._untold[key] = told
        logger.warning("released: the recorder goes on with %s/%d: %s", *partition, state.reason)
        return True

    def _release(self, topic: str) -> BrakeState | None:
        """The release that holds for the topic at the moment: its own, or that of the class of its deliveries."""
        keys = [brake_key(RECORDER, topic)]
        match topic.split("."):
            case ["pabal", "deliveries", channel, class_]:
                keys.append(brake_key(channel, class_))
        states = [state for key in keys if (state := self._states.get(key)) is not None]
        now = self._clock.now()
        holding = (each for each in states if each.state == "released" and each.until is not None and each.until > now)
        return next(holding, None)


def _topic_of(key: bytes) -> str:
    return key.decode().rpartition("/")[2]

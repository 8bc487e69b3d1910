"""What one process knows of the embedded log without asking the disk.

The catalogue of topics, every partition's end, every group's generation, and a tail of recent batches: a reader in
the process that appended gets its records from memory. Batches never change (compaction keeps the last value of
each key, and a reader may always see more), so a batch remembered is a batch true. Waits for records end here.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from pabal.broker.port import Record, TopicPartition
from pabal.broker.sqlite.batches import NewBatch, batch_id
from pabal.broker.sqlite.storage import Catalogue, Changes, Pulse
from pabal.errors import UnknownTopic

TAIL_BYTES = 8 << 20
"""How much of what was appended last is kept in memory. Measured with two groups reading along 32 appending tasks:
a record is handed over 0.7 ms after its append instead of 3.6 ms, for a third less of the processor."""


class Wakeable(Protocol):
    """A wait for records, or for another share of the partitions."""

    def wake(self) -> None:
        """Look again."""
        ...


class View:
    """One process's knowledge of the log. Lives in the event loop."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.partitions: Mapping[int, TopicPartition] = {}
        self._identifiers: dict[str, list[int]] = {}
        self._ends: dict[int, int] = {}
        self._lows: dict[int, int] = {}
        self._generations: dict[str, int] = {}
        self._tail: OrderedDict[int, NewBatch] = OrderedDict()
        self._tail_size = 0
        self._readers: dict[int, set[Wakeable]] = {}
        self._members: dict[str, set[Wakeable]] = {}
        self.learn(catalogue)

    def end(self, partition: int) -> int:
        """The high watermark of a partition, as far as is known."""
        return self._ends.get(partition, 0)

    def is_outside(self, partition: int, offset: int) -> bool:
        """Whether an offset lies outside a partition's watermarks, as far as is known."""
        return not self._lows.get(partition, 0) <= offset <= self.end(partition)

    def generation(self, group: str) -> int:
        """How often a group's members or shares changed, as far as is known."""
        return self._generations.get(group, 0)

    def identifiers(self, topic: str) -> Sequence[int]:
        """The ids of a topic's partitions by number. Raises UnknownTopic."""
        try:
            return self._identifiers[topic]
        except KeyError:
            raise UnknownTopic(topic) from None

    def identifier(self, partition: TopicPartition) -> int:
        """The id of a partition. Raises UnknownTopic."""
        identifiers = self.identifiers(partition.topic)
        if not 0 <= partition.partition < len(identifiers):
            raise UnknownTopic(f"{partition.topic}/{partition.partition}")
        return identifiers[partition.partition]

    def learn(self, catalogue: Catalogue) -> None:
        """Take in everything the file says."""
        self.partitions = catalogue.partitions
        self._identifiers = {topic: [] for topic in catalogue.topics}
        for identifier, (topic, _) in catalogue.partitions.items():
            self._identifiers[topic].append(identifier)
        self.feel(catalogue.pulse)

    def feel(self, pulse: Pulse) -> None:
        """Take in how far partitions and groups are, and end the waits that it concerns."""
        for partition, (low, high) in pulse.watermarks.items():
            self._lows[partition] = max(low, self._lows.get(partition, 0))
            self._note_end(partition, high)
        for group, generation in pulse.generations.items():
            self._note_generation(group, generation)

    def note(self, changes: Changes) -> None:
        """Take in what this process has written."""
        for batch in changes.batches:
            self._tail[batch.id] = batch
            self._tail_size += len(batch.payload)
            self._note_end(batch.partition, batch.first + len(batch.records))
        while self._tail_size > TAIL_BYTES:
            _, batch = self._tail.popitem(last=False)
            self._tail_size -= len(batch.payload)
        self._lows |= changes.lows
        for group, generation in changes.generations.items():
            self._note_generation(group, generation)

    def recall(self, partition: int, offset: int) -> list[Record] | None:
        """The records of the batch that starts there, if they are remembered."""
        batch = self._tail.get(batch_id(partition, offset))
        if batch is None or offset < self._lows.get(partition, 0):
            return None
        topic, number = self.partitions[partition]
        timestamp = batch.appended_ms / 1000
        return [
            Record(
                topic=topic,
                partition=number,
                offset=offset + index,
                timestamp=timestamp,
                key=each.key,
                value=each.value,
                headers=each.headers,
            )
            for index, each in enumerate(batch.records)
        ]

    def listen(self, waiting: Wakeable, *, group: str, partitions: Iterable[int] = ()) -> None:
        """Wake `waiting` when the group changes, or there are records in these partitions."""
        self._members.setdefault(group, set()).add(waiting)
        for partition in partitions:
            self._readers.setdefault(partition, set()).add(waiting)

    def ignore(self, waiting: Wakeable, *, partitions: Iterable[int]) -> None:
        """Wake `waiting` no more for records in these partitions."""
        for partition in partitions:
            self._readers.get(partition, set()).discard(waiting)

    def forget(self, waiting: Wakeable) -> None:
        """Wake `waiting` no more."""
        for waits in (*self._readers.values(), *self._members.values()):
            waits.discard(waiting)

    def _note_end(self, partition: int, end: int) -> None:
        if end > self.end(partition):
            self._ends[partition] = end
            for waiting in self._readers.get(partition, ()):
                waiting.wake()

    def _note_generation(self, group: str, generation: int) -> None:
        if generation > self.generation(group):
            self._generations[group] = generation
            for waiting in self._members.get(group, ()):
                waiting.wake()

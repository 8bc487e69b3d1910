"""Readers that follow a topic without a group: each goes on where its last read stopped.

There are two, because topics are of two kinds. A compacted topic holds *state*: it can be read whole at any time, and
then says all that it ever will (`Tail`). A topic with a retention holds *history*: it is read from an instant on, and
what it has deleted cannot be known again (`HistoryTail`).
"""

from collections.abc import AsyncIterator
from datetime import datetime

from pabal.broker.port import Admin, Reader, Record, TopicPartition
from pabal.errors import OffsetOutOfRange


class Tail:
    """Reads one partition of a compacted topic: whole at first, then on from where the last read stopped.

    A read may be stopped, or fail, in the middle: the next one goes on behind the last record that was yielded. When
    the records that the next read begins with have been deleted, that read ends without a record and the one after it
    is whole: the records that are left are all the state there is. A caller therefore meets records again that it has
    seen before. One task reads at a time.
    """

    def __init__(self, topic: str, *, reader: Reader, partition: int = 0) -> None:
        self._partition = TopicPartition(topic, partition)
        self._reader = reader
        self._next: int | None = None
        self._has_ended = False
        self._before: tuple[int | None, bool] = (None, False)

    @property
    def next_offset(self) -> int | None:
        """The offset behind the last record that was yielded; None: the next read is whole, or nothing stands there."""
        return self._next

    @property
    def is_whole_next(self) -> bool:
        """Whether the next read yields everything that stands in the partition."""
        return self._next is None and not self._has_ended

    async def read_on(self) -> AsyncIterator[Record]:
        """The records up to the present end, in order. Raises LogUnavailable, UnknownTopic."""
        self._before = (self._next, self._has_ended)
        try:
            async for records in self._reader.read(self._partition, start=self._next):
                for record in records:
                    self._next = record.offset + 1
                    yield record
        except OffsetOutOfRange:
            self.begin_anew()
        else:
            self._has_ended = True

    def begin_anew(self) -> None:
        """Let the next read be whole."""
        self._next, self._has_ended = None, False

    def undo(self) -> None:
        """Let the next read begin where the last one began: for a caller that takes a read whole or not at all."""
        self._next, self._has_ended = self._before


class HistoryTail:
    """Reads all partitions of a topic with a retention: from an instant at first (None: from the first record kept),
    then on from where the last read stopped. Each read ends where the partitions end when it begins."""

    def __init__(self, topic: str, *, reader: Reader, admin: Admin, start: datetime | None) -> None:
        self._topic = topic
        self._reader = reader
        self._admin = admin
        self._start = start
        self._next: dict[TopicPartition, int] = {}

    async def read_on(self) -> AsyncIterator[Record]:
        """The records that were appended since the last read, partition by partition.

        Raises UnknownTopic, LogUnavailable; OffsetOutOfRange when some of them have been deleted unread.
        """
        for partition, marks in sorted((await self._admin.watermarks(self._topic)).items()):
            start = self._next.get(partition, self._start)
            if isinstance(start, int) and start >= marks.high:
                continue
            async for records in self._reader.read(partition, start=start, stop=marks.high):
                for record in records:
                    yield record
            self._next[partition] = marks.high

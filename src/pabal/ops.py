"""Following `pabal.ops`, the small state that all roles share."""

from collections.abc import AsyncIterator
from typing import Final

from pabal.broker.port import Reader, Record, TopicPartition
from pabal.errors import OffsetOutOfRange
from pabal.notification import OPS_TOPIC

LOOK_EVERY_SECONDS: Final = 1.0
"""How often whoever follows it looks."""


class OpsTail:
    """Reads the topic on from where it stopped; the first time from its start."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._next_offset: int | None = None

    async def read_on(self) -> AsyncIterator[Record]:
        """What was appended since the last time, in order; now and then (after a compaction) what was read before as
        well. Raises LogUnavailable, UnknownTopic."""
        try:
            async for records in self._reader.read(TopicPartition(OPS_TOPIC, 0), start=self._next_offset):
                for record in records:
                    self._next_offset = record.offset + 1
                    yield record
        except OffsetOutOfRange:
            self._next_offset = None  # Compaction took what we had read up to: the whole at the next look.

"""Following `pabal.ops`: each record once, whatever compaction does meanwhile."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

from pabal.broker.port import Record, TopicPartition
from pabal.errors import OffsetOutOfRange
from pabal.notification import OPS_TOPIC
from pabal.ops import OpsTail


class Log:
    """A reader of one topic whose low end may be cut off."""

    def __init__(self) -> None:
        self.low, self.high = 0, 0

    async def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        assert (partition, stop) == ((OPS_TOPIC, 0), None)
        first = self.low if start is None else start
        assert isinstance(first, int)
        if first < self.low:
            raise OffsetOutOfRange(f"{first} is below {self.low}")
        if first < self.high:
            yield [
                Record(topic=OPS_TOPIC, partition=0, offset=offset, timestamp=0.0, key=b"k", value=b"")
                for offset in range(first, self.high)
            ]

    async def close(self) -> None:
        """Nothing is held."""


async def read_on(tail: OpsTail) -> list[int]:
    return [record.offset async for record in tail.read_on()]


async def test_each_look_goes_on_where_the_last_one_ended() -> None:
    log = Log()
    tail = OpsTail(log)

    log.high = 2
    first = await read_on(tail)
    again = await read_on(tail)
    log.high = 3
    later = await read_on(tail)

    assert (first, again, later) == ([0, 1], [], [2])


async def test_when_what_was_read_is_gone_the_next_look_is_at_all_there_is() -> None:
    log = Log()
    tail = OpsTail(log)
    log.high = 2
    await read_on(tail)

    log.low, log.high = 5, 7
    missed = await read_on(tail)
    whole = await read_on(tail)

    assert (missed, whole) == ([], [5, 6])

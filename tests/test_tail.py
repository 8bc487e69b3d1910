"""What every reader of a compacted topic keeps, over a real log: `Tail` itself, and each reader that is built on it."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, Reader, Record, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import ManualClock
from pabal.errors import LogUnavailable, OffsetOutOfRange
from pabal.notification import OPS_TOPIC, SUPPRESSIONS_TOPIC
from pabal.ops.follower import OpsFollower
from pabal.suppressions import SuppressionReader
from pabal.tail import HistoryTail, Tail

TOPIC = "pabal.events"
START = datetime.fromisoformat("2026-01-01T00:00:00Z")


class Failing:
    """The log's own reader, one record a batch. It goes away behind `after` records."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.after: int | None = None
        self.starts: list[int | datetime | None] = []

    async def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        self.starts.append(start)
        left, self.after = self.after, None
        async for records in self._reader.read(partition, start=start, stop=stop):
            for record in records:
                if left == 0:
                    raise LogUnavailable("no answer")
                yield [record]
                left = None if left is None else left - 1

    async def close(self) -> None:
        await self._reader.close()


class Log:
    """One topic that a test appends to, and whose records it can let retention delete."""

    def __init__(self, broker: SqliteBroker, clock: ManualClock, topic: str) -> None:
        self.broker = broker
        self.reader = Failing(broker.reader())
        self._clock = clock
        self._topic = topic

    async def append(self, *names: str) -> None:
        await self.broker.producer().append(
            [NewRecord(topic=self._topic, key=f"shop/email/{name}".encode(), value=None) for name in names]
        )

    async def delete_all(self) -> None:
        self._clock.advance(7200.0)
        await self.broker.clean()


class Follows(ABC):
    """A reader under test: reads on, and says which names it was given since the last time."""

    topic = OPS_TOPIC

    @abstractmethod
    async def read(self) -> list[str]: ...


class ByTail(Follows):
    def __init__(self, log: Log, clock: ManualClock) -> None:
        del clock
        self._tail = Tail(OPS_TOPIC, reader=log.reader)
        self._seen: list[str] = []

    async def read(self) -> list[str]:
        async for record in self._tail.read_on():
            self._seen.append(_name(record.key))
        seen, self._seen = self._seen, []
        return seen


class ByFollower(Follows):
    prefix = b"shop/"

    def __init__(self, log: Log, clock: ManualClock) -> None:
        del clock
        self._ops = OpsFollower(log.reader)
        self._seen: list[str] = []
        self._ops.attend(self)

    def take(self, records: Sequence[Record]) -> None:
        self._seen += [_name(record.key) for record in records]

    async def read(self) -> list[str]:
        await self._ops.look()
        seen, self._seen = self._seen, []
        return seen


class BySuppressions(Follows):
    topic = SUPPRESSIONS_TOPIC

    def __init__(self, log: Log, clock: ManualClock) -> None:
        self._reader = SuppressionReader(reader=log.reader, clock=clock)

    async def read(self) -> list[str]:
        changes, _ = await self._reader.read_on()
        return [_name(change.key) for change in changes]


def _name(key: bytes | None) -> str:
    return (key or b"").decode().rpartition("/")[2]


@pytest.fixture(params=[ByTail, ByFollower, BySuppressions], ids=lambda kind: kind.__name__)
async def followed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Log, Follows]]:
    clock = ManualClock(START)
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name=request.param.topic, partitions=1, retention_seconds=3600))
    log = Log(broker, clock, request.param.topic)
    yield log, request.param(log, clock)
    await broker.close()


async def test_each_read_goes_on_where_the_last_one_ended(followed: tuple[Log, Follows]) -> None:
    log, follows = followed

    await log.append("a", "b")
    first = await follows.read()
    again = await follows.read()
    await log.append("c")

    assert (first, again, await follows.read()) == (["a", "b"], [], ["c"])


async def test_a_topic_that_is_empty_at_first_is_followed_from_its_first_record(followed: tuple[Log, Follows]) -> None:
    log, follows = followed

    empty = [await follows.read(), await follows.read()]
    await log.append("a")

    assert (empty, await follows.read()) == ([[], []], ["a"])


async def test_when_records_were_deleted_unread_everything_that_is_left_is_read_anew(
    followed: tuple[Log, Follows],
) -> None:
    log, follows = followed
    await log.append("a", "b")
    await follows.read()

    await log.append("unread")
    await log.delete_all()
    await log.append("c", "d")
    missed = await follows.read()
    whole = await follows.read()
    await log.append("e")

    assert (missed, whole, await follows.read()) == ([], ["c", "d"], ["e"])


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_of_a_read_that_fails_in_the_middle_no_record_is_lost(followed: tuple[Log, Follows], after: int) -> None:
    log, follows = followed
    await log.append("a", "b", "c")

    log.reader.after = after
    with pytest.raises(LogUnavailable):
        await follows.read()
    later = await follows.read()
    log.reader.after = after
    await log.append("d", "e", "f")
    with pytest.raises(LogUnavailable):
        await follows.read()

    assert (later, await follows.read()) == (["a", "b", "c"], ["d", "e", "f"])


async def test_a_suppression_that_was_read_before_the_log_went_away_belongs_to_the_whole(tmp_path: Path) -> None:
    """The gate lifts what is not in the whole: a part that is taken for it would open the gate."""
    clock = ManualClock(START)
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name=SUPPRESSIONS_TOPIC, partitions=1, compacted=True))
    log = Log(broker, clock, SUPPRESSIONS_TOPIC)
    await log.append("a", "b")
    reader = SuppressionReader(reader=log.reader, clock=clock)

    log.reader.after = 1
    with pytest.raises(LogUnavailable):
        await reader.read_on()
    is_whole_again = reader.is_to_be_read_whole()
    changes, is_whole = await reader.read_on()
    await broker.close()

    assert (is_whole_again, is_whole, [_name(change.key) for change in changes]) == (True, True, ["a", "b"])


@pytest.fixture
async def history(tmp_path: Path) -> AsyncIterator[tuple[Log, ManualClock]]:
    clock = ManualClock(START)
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name=TOPIC, partitions=2, retention_seconds=3600))
    yield Log(broker, clock, TOPIC), clock
    await broker.close()


async def test_history_is_read_from_an_instant_on_over_all_partitions(history: tuple[Log, ManualClock]) -> None:
    log, clock = history
    await log.append(*map(str, range(9)))
    clock.advance(60.0)
    await log.append(*map(str, range(10, 19)))
    tail = HistoryTail(TOPIC, reader=log.reader, admin=log.broker.admin(), start=START + timedelta(seconds=30))

    first = {_name(record.key) async for record in tail.read_on()}
    again = [record async for record in tail.read_on()]
    await log.append("20")
    more = [_name(record.key) async for record in tail.read_on()]

    assert (first, again, more) == (set(map(str, range(10, 19))), [], ["20"])


async def test_of_history_that_was_deleted_unread_the_caller_is_told(history: tuple[Log, ManualClock]) -> None:
    log, _ = history
    tail = HistoryTail(TOPIC, reader=log.reader, admin=log.broker.admin(), start=None)
    await log.append("a")
    _ = [record async for record in tail.read_on()]

    await log.append(*map(str, range(9)))
    await log.delete_all()
    await log.append(*map(str, range(9)))

    with pytest.raises(OffsetOutOfRange):
        _ = [record async for record in tail.read_on()]

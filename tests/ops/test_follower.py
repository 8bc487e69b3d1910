"""One read of `pabal.ops` serves every fold of a process; over a real log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, Record, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import ManualClock
from pabal.errors import DecodeError, LogUnavailable, OffsetOutOfRange
from pabal.notification import OPS_TOPIC
from pabal.ops.fold import LastWins
from pabal.ops.follower import OpsFollower
from tests.waiting import eventually


class Remembers:
    """A fold that keeps what it is handed, look by look."""

    def __init__(self, prefix: bytes = b"a/") -> None:
        self.prefix = prefix
        self.looks: list[list[tuple[bytes | None, bytes | None]]] = []

    def take(self, records: Sequence[Record]) -> None:
        self.looks.append([(record.key, record.value) for record in records])


class Ops:
    """The topic, and a follower whose reads a test counts and may let fail."""

    def __init__(self, broker: SqliteBroker) -> None:
        self._broker = broker
        reader = broker.reader()
        self._read = reader.read
        reader.read = self.read  # type: ignore[method-assign]
        self.follower = OpsFollower(reader)
        self.reads = 0
        self.failures = 0
        self.is_out_of_range = False

    async def read(self, *which: object, **more: object) -> AsyncIterator[Sequence[Record]]:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("no answer")
        if self.is_out_of_range:
            self.is_out_of_range = False
            raise OffsetOutOfRange("above the end")
        async for records in self._read(*which, **more):  # type: ignore[arg-type]
            yield records

    async def append(self, *words: tuple[bytes | None, bytes | None]) -> None:
        await self._broker.producer().append([NewRecord(topic=OPS_TOPIC, key=key, value=value) for key, value in words])

    def attend(self, prefix: bytes = b"a/") -> Remembers:
        fold = Remembers(prefix)
        self.follower.attend(fold)
        return fold


@pytest.fixture
async def ops(tmp_path: Path) -> AsyncIterator[Ops]:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=ManualClock())
    await broker.admin().create_topic(TopicSpec(name=OPS_TOPIC, partitions=1, compacted=True))
    yield Ops(broker)
    await broker.close()


async def test_each_fold_is_handed_the_records_of_its_prefix_in_log_order(ops: Ops) -> None:
    of_a, of_b = ops.attend(b"a/"), ops.attend(b"b/")

    await ops.append((b"a/1", b"x"), (b"b/1", b"x"), (None, b"x"), (b"c/1", b"x"), (b"a/1", None), (b"a/2", b"y"))
    await ops.follower.look()

    assert of_a.looks == [[(b"a/1", b"x"), (b"a/1", None), (b"a/2", b"y")]]
    assert of_b.looks == [[(b"b/1", b"x")]]
    assert ops.reads == 1


async def test_a_fold_that_comes_late_is_handed_all_and_the_others_nothing_twice(ops: Ops) -> None:
    early = ops.attend()
    await ops.append((b"a/1", b"x"), (b"a/2", b"x"))
    await ops.follower.look()

    late = ops.attend()
    before = ops.follower.applied_offset
    await ops.append((b"a/3", b"x"))
    await ops.follower.look()

    everything = [(b"a/1", b"x"), (b"a/2", b"x"), (b"a/3", b"x")]
    assert (early.looks, late.looks) == ([everything[:2], everything[2:]], [everything])
    assert (before, ops.follower.applied_offset) == (0, 3)
    await ops.follower.look()
    assert (len(early.looks), len(late.looks)) == (2, 1)


async def test_whatever_stands_there_when_it_has_caught_up_was_handed_on_also_when_the_log_was_away(ops: Ops) -> None:
    fold = ops.attend()
    await ops.append((b"a/1", b"x"))

    ops.failures = 1
    await ops.follower.catch_up()

    assert fold.looks == [[(b"a/1", b"x")]]
    assert ops.follower.applied_offset == 1


async def test_roles_that_run_it_together_share_its_reads_and_relieve_each_other(
    ops: Ops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.ops.follower.LOOK_EVERY_SECONDS", 0.01)
    fold, first, second = ops.attend(), asyncio.Event(), asyncio.Event()
    running = [asyncio.create_task(ops.follower.run(stopping)) for stopping in (first, second)]
    await eventually(lambda: ops.reads > 3)
    first.set()
    await running[0]

    await ops.append((b"a/1", b"x"))
    await eventually(lambda: fold.looks)
    second.set()
    await asyncio.gather(*running)

    assert fold.looks == [[(b"a/1", b"x")]]


async def test_of_two_roles_that_run_it_one_reads(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.ops.follower.LOOK_EVERY_SECONDS", 3600.0)
    fold, stopping = ops.attend(), asyncio.Event()
    await ops.append((b"a/1", b"x"))

    running = [asyncio.create_task(ops.follower.run(stopping)) for _ in range(2)]
    await eventually(lambda: fold.looks)
    stopping.set()
    await asyncio.gather(*running)

    assert ops.reads == 1


async def test_of_a_topic_that_was_made_anew_every_fold_takes_in_all(ops: Ops) -> None:
    fold = ops.attend()
    await ops.append((b"a/1", b"x"), (b"a/2", b"x"))
    await ops.follower.look()

    ops.is_out_of_range = True
    await ops.follower.catch_up()

    everything = [(b"a/1", b"x"), (b"a/2", b"x")]
    assert fold.looks == [everything, everything]


async def test_following_goes_on_when_the_log_was_away(ops: Ops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.ops.follower.LOOK_EVERY_SECONDS", 0.01)
    fold, stopping = ops.attend(), asyncio.Event()
    await ops.append((b"a/1", b"x"))
    ops.failures = 2

    running = asyncio.create_task(ops.follower.run(stopping))
    await eventually(lambda: fold.looks)
    stopping.set()
    await running

    assert ops.reads >= 3


def a_record(key: bytes, value: bytes | None) -> Record:
    return Record(topic=OPS_TOPIC, partition=0, offset=0, timestamp=0.0, key=key, value=value)


def read_word(record: Record) -> str | None:
    if record.value == b"?":
        raise DecodeError("not a word", error_class="undecodable")
    return None if record.value is None else record.value.decode()


def test_of_a_fold_in_which_the_last_word_holds_the_last_that_can_be_read_is_told() -> None:
    told: list[dict[bytes, str]] = []
    fold = LastWins(b"a/", read=read_word, name="words", tell=lambda new: told.append(dict(new)))

    fold.take([a_record(b"a/1", b"x"), a_record(b"a/2", b"x"), a_record(b"a/1", b"y"), a_record(b"a/1", b"?")])
    fold.take([a_record(b"a/2", None), a_record(b"a/1", b"?")])
    fold.take([a_record(b"a/2", b"z")])

    assert told == [{b"a/1": "y", b"a/2": "x"}, {b"a/2": "z"}]
    assert fold.last == {b"a/1": "y", b"a/2": "z"}
    assert fold.unreadable.count == 2

"""The role over a real log, with an append that waits, a partition that goes away meanwhile, and a log with a limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from pabal.broker.port import NewRecord, Position, Producer, Record, TopicPartition
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.codec import delay_record
from pabal.delayline.delayline import DelayLine
from pabal.errors import LogUnavailable, RecordRefused
from pabal.groups import DELAYLINE_GROUP
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.notification import OPS_TOPIC, Content, Delivery, dead_topic, deliveries_topic
from pabal.ops.follower import OpsFollower
from pabal.ops.recoveries import Recovery, recovery_key, recovery_record
from pabal.retry import Parked, Wait
from pabal.topics.spec import topics_for
from tests.delayline.test_shelf import DELIVERY
from tests.waiting import eventually, eventually_told

SHELF = TopicPartition("pabal.delay.bulk.5", 0)
CLOCK = SystemClock()


class Through:
    """A producer of the real log; a test may stand in the way of its appends."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self.begun: list[Sequence[NewRecord]] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.refuses: Callable[[NewRecord], bool] = lambda _: False

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        self.begun.append(records)
        await self.may_go_on.wait()
        if refused := [index for index, record in enumerate(records) if self.refuses(record)]:
            raise RecordRefused("too large", indexes=refused[:1])
        return await self._producer.append(records)

    async def close(self) -> None:
        await self._producer.close()


class Member(NamedTuple):
    """One member of the delay line, and what stands between it and the log."""

    line: DelayLine
    log: Through
    running: "asyncio.Task[None]"


class Lab:
    """One log, and members of the delay line that each have it open for themselves."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[SqliteBroker]:
        broker = await SqliteBroker.open(self._path, clock=CLOCK, session_seconds=0.5)
        try:
            yield broker
        finally:
            await broker.close()

    @contextlib.asynccontextmanager
    async def line(self, *, standing_in_the_way: bool = False, fails: bool = False) -> AsyncIterator["Member"]:
        async with self.opened() as broker:
            producers: list[Through] = []

            def producer(*, deadline_seconds: float = 5.0) -> Producer:
                producers.append(Through(SqliteBroker.producer(broker, deadline_seconds=deadline_seconds)))
                return producers[-1]

            broker.producer = producer  # type: ignore[method-assign,assignment]
            line = DelayLine(broker=broker, ops=OpsFollower(broker.reader()), channels=["email"], clock=CLOCK)
            [through] = producers
            if standing_in_the_way:
                through.may_go_on.clear()
            stopping = asyncio.Event()
            running = asyncio.create_task(line.run(stopping))
            try:
                yield Member(line, through, running)
            finally:
                through.may_go_on.set()
                stopping.set()
                await asyncio.wait([running])
            assert (running.exception() is not None) == fails

    async def append(self, *records: NewRecord) -> None:
        async with self.opened() as broker:
            await broker.producer().append(records)

    async def released(self) -> list[Record]:
        return await self.records(deliveries_topic("email", "bulk"))

    async def records(self, topic: str) -> list[Record]:
        async with self.opened() as broker:
            return [record async for batch in broker.reader().read(TopicPartition(topic, 0)) for record in batch]

    async def committed(self) -> int:
        async with self.opened() as broker:
            return (await broker.admin().committed(DELAYLINE_GROUP, [SHELF.topic])).get(SHELF, 0)


@pytest.fixture
async def lab(tmp_path: Path) -> Lab:
    lab = Lab(tmp_path / "log.db")
    async with lab.opened() as broker:
        for spec in topics_for(["email"], partitions=1, replication=None):
            await broker.admin().create_topic(spec)
    return lab


def waiting(
    delivery: Delivery = DELIVERY,
    *,
    due: datetime | None = None,
    topic: str = SHELF.topic,
    parked: Parked | None = None,
) -> NewRecord:
    due = due or CLOCK.now()
    return delay_record(delivery, topic=topic, wait=Wait(due=due, release_at=due, parked=parked))


def back() -> dict[bytes, Recovery | None]:
    """What is heard of a callee that is back as of now."""
    recovery = Recovery(channel="email", callee="smtp a", at=CLOCK.now())
    return {recovery_key("email", "smtp a"): recovery}


async def until(condition: Callable[[], object]) -> None:
    await eventually(condition, within_seconds=10.0)


until_there = partial(eventually_told, within_seconds=10.0)


async def until_released(lab: Lab, count: int) -> Collection[Record]:
    async def enough() -> Collection[Record]:
        released = await lab.released()
        return released if len(released) >= count else ()

    return await eventually_told(enough, within_seconds=10.0)


async def test_a_partition_that_goes_away_during_an_append_is_the_next_members(lab: Lab) -> None:
    """Both append the record: a copy, which the ledger knows. The first goes on, and commits nothing of it."""
    await lab.append(waiting())

    async with lab.line(standing_in_the_way=True) as first:
        await until(lambda: first.log.begun)
        async with lab.line():
            await until_released(lab, 1)
        committed = await lab.committed()
        first.log.may_go_on.set()
        await until_released(lab, 2)

        await lab.append(waiting())
        await until_released(lab, 3)
        assert not first.running.done()

    assert committed == 1
    assert await lab.committed() == 2


async def test_of_a_partition_that_is_taken_away_nothing_more_is_released(lab: Lab) -> None:
    """A shelf is released in several appends; the log says during the first that another has the partition now."""
    due = CLOCK.now() + timedelta(seconds=1.0)
    await lab.append(*(waiting(due=due) for _ in range(600)))

    async with lab.line(standing_in_the_way=True) as member:
        await until(lambda: member.log.begun)
        offsets = member.line.revoked([SHELF])
        member.log.may_go_on.set()
        await until_released(lab, 500)
        await lab.append(waiting(topic="pabal.delay.bulk.30"))
        await until_released(lab, 501)

    assert offsets == {}
    assert [len(records) for records in member.log.begun] == [500, 1]


async def test_a_record_that_the_log_refuses_is_cut_and_the_others_go_as_they_are(lab: Lab) -> None:
    huge = msgspec.structs.replace(DELIVERY, content=Content(body="x" * 200_000))

    async with lab.line() as member:
        member.log.refuses = lambda record: len(record.value or b"") > 100_000
        await lab.append(waiting(), waiting(huge), waiting(), waiting(huge))
        released = await until_released(lab, 4)

    sizes = [len(record.value or b"") for record in released]
    assert sizes.count(64 * 1024) == 2
    assert len([size for size in sizes if size < 1000]) == 2
    for record in released:
        assert (record.header("x-cut-from-bytes") is None) == (len(record.value or b"") < 1000)


async def test_a_record_of_which_not_even_a_start_is_taken_stops_the_line(lab: Lab) -> None:
    """To go on would lose it; what is committed stays before it."""
    await lab.append(waiting())

    async with lab.line(fails=True) as member:
        member.log.refuses = lambda _: True
        await asyncio.wait([member.running], timeout=10.0)
        failure = member.running.exception()

    assert isinstance(failure, RecordRefused)
    assert await lab.committed() == 0


async def test_what_cannot_be_read_or_has_no_channel_here_is_given_up_and_holds_nothing_up(lab: Lab) -> None:
    good, misplaced = waiting(), waiting(msgspec.structs.replace(DELIVERY, channel="telex"))
    garbage = msgspec.structs.replace(good, value=b"\xff")
    timeless = msgspec.structs.replace(good, headers=good.headers[:1])

    await lab.append(garbage, misplaced, timeless, good)
    async with lab.line():
        await until_released(lab, 1)

    dead = await lab.records("pabal.dead.unknown")
    assert [record.header("x-error-class") for record in dead] == [b"undecodable", b"misplaced", b"undecodable"]
    assert [record.value for record in dead] == [b"\xff", misplaced.value, timeless.value]
    assert await lab.committed() == 4


async def test_what_is_too_much_to_hold_waits_in_the_log(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.delayline.delayline._MOST_HELD", 10)
    monkeypatch.setattr("pabal.delayline.delayline._BATCH", 5)
    due = CLOCK.now() + timedelta(seconds=1.5)
    await lab.append(*(waiting(due=due) for _ in range(50)))

    async with lab.line() as member:
        await until(lambda: SHELF in member.line._paused)
        held = len(member.line._shelves[SHELF])
        await until_released(lab, 50)

    assert held == 10
    assert await lab.committed() == 50


async def test_a_log_that_is_away_is_waited_for(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.delayline.delayline._POLL_SECONDS", 0.01)
    polled = 0

    async with lab.line() as member:
        poll = member.line._consumer.poll

        async def away_at_first(*, limit: int, timeout_seconds: float) -> Sequence[Record]:
            nonlocal polled
            polled += 1
            if polled <= 3:
                raise LogUnavailable("no answer")
            return await poll(limit=limit, timeout_seconds=timeout_seconds)

        member.line._consumer.poll = away_at_first  # type: ignore[method-assign]
        await lab.append(waiting())
        await until_released(lab, 1)

    assert polled > 3


async def test_who_is_parked_for_one_that_is_back_is_released_before_it_is_due_and_others_are_not(lab: Lab) -> None:
    due = CLOCK.now() + timedelta(minutes=5)
    parked = [Parked(callee=callee, at=CLOCK.now()) for callee in ("smtp a", "smtp b")]
    await lab.append(*(waiting(due=due, parked=each) for each in (parked[0], None, parked[1], parked[0])))

    async with lab.line() as member:
        await until(lambda: sum(map(len, member.line._shelves.values())) == 4)
        member.line._early.note(back())
        await until_released(lab, 2)
        left = [held.record.offset for _, held in member.line._shelves[SHELF]]

    assert sorted(left) == [1, 2]


async def test_what_stands_behind_those_in_memory_comes_early_as_well(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.delayline.delayline._MOST_HELD", 10)
    monkeypatch.setattr("pabal.delayline.delayline._BATCH", 5)
    due, parked = CLOCK.now() + timedelta(minutes=5), Parked(callee="smtp a", at=CLOCK.now())
    await lab.append(*(waiting(due=due, parked=parked) for _ in range(30)))

    async with lab.line() as member:
        await until(lambda: SHELF in member.line._paused)
        member.line._early.note(back())
        await until_released(lab, 30)

    assert await lab.committed() == 30


async def test_one_that_fails_again_has_the_rest_wait_until_they_are_due(lab: Lab) -> None:
    due, parked = CLOCK.now() + timedelta(minutes=5), Parked(callee="smtp a", at=CLOCK.now())
    await lab.append(*(waiting(due=due, parked=parked) for _ in range(400)))

    async with lab.line() as member:
        await until(lambda: sum(map(len, member.line._shelves.values())) == 400)
        member.line._early.note(back())
        await until_released(lab, 1)
        member.line._early.note(dict.fromkeys(back()))
        await until(lambda: not member.line._early._noted)
        times = {at for at, _ in member.line._shelves[SHELF]}

    assert times == {due}


async def test_one_that_failed_and_came_back_between_two_looks_begins_with_the_smallest_step(lab: Lab) -> None:
    due, parked = CLOCK.now() + timedelta(minutes=5), Parked(callee="smtp a", at=CLOCK.now())
    await lab.append(*(waiting(due=due, parked=parked) for _ in range(400)))

    async with lab.line() as member:
        await until(lambda: sum(map(len, member.line._shelves.values())) == 400)
        member.line._early.note(back())
        await until_released(lab, 1)
        before = max(at for at, _ in member.line._shelves[SHELF])
        member.line._early.note(dict.fromkeys(back()))
        member.line._early.note(back())
        await until(lambda: not member.line._early._noted)
        after = max(at for at, _ in member.line._shelves[SHELF])

    assert after > before


@pytest.mark.parametrize(
    "due", ["9000-12-31T00:00:00+00:00", "9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00Z"]
)
async def test_a_wait_that_nobody_could_have_asked_for_needs_a_person(lab: Lab, due: str) -> None:
    good = waiting()
    headers = tuple((name, due.encode() if name == "x-due" else value) for name, value in good.headers)
    await lab.append(msgspec.structs.replace(good, headers=headers), good)

    async with lab.line():
        await until_there(lambda: lab.records(dead_topic("unknown")))
        await until_there(lab.released)

    [dead] = await lab.records(dead_topic("unknown"))
    assert dead.value == good.value
    assert len(await lab.released()) == 1


async def test_a_worker_that_says_in_pabal_ops_that_a_callee_is_back_is_heard(lab: Lab) -> None:
    due, parked = CLOCK.now() + timedelta(minutes=5), Parked(callee="smtp a", at=CLOCK.now())
    await lab.append(waiting(due=due, parked=parked))

    async with lab.line() as member:
        await until(lambda: sum(map(len, member.line._shelves.values())) == 1)
        await lab.append(recovery_record(Recovery(channel="email", callee="smtp a", at=CLOCK.now())))
        await until_released(lab, 1)


async def test_the_topic_is_cleared_of_recoveries_that_no_delivery_waits_for(lab: Lab) -> None:
    at = CLOCK.now() - timedelta(seconds=LONGEST_PARK_SECONDS + 1)
    old, fresh = (Recovery(channel="email", callee=name, at=when) for name, when in (("a", at), ("b", CLOCK.now())))
    await lab.append(recovery_record(old), recovery_record(fresh))

    async with lab.line():
        await eventually_told(lambda: _is_cleared(lab))

    said = [(record.key, record.value is None) for record in await lab.records(OPS_TOPIC)]
    gone, kept = recovery_key("email", "a"), recovery_key("email", "b")
    assert said == [(gone, False), (kept, False), (gone, True)]


async def _is_cleared(lab: Lab) -> bool:
    return (await lab.records(OPS_TOPIC))[-1].value is None


async def test_a_defect_in_following_pabal_ops_ends_the_line(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(OpsFollower, "look", broken)

    async with lab.line(fails=True) as member:
        await asyncio.wait([member.running], timeout=10.0)
        failure = member.running.exception()

    assert isinstance(failure, ZeroDivisionError)

"""The role on the embedded log: what it tells, the minutes it writes, and that it asks before it tells when late."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from pabal.broker.port import Admin, Broker, GroupMembers, NewRecord, Position, Producer, Record
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.errors import LogUnavailable, RecordRefused
from pabal.groups import groups_for
from pabal.monitor.history import Minute, read_minute
from pabal.monitor.monitor import LATE_SECONDS, Monitor
from pabal.notification import HISTORY_TOPIC, STATUS_TOPIC
from pabal.status.records import LagSample, ProcessStatus, read_status, status_record
from pabal.telemetry.meter import NumberSeries, Snapshot
from pabal.topics.spec import topics_for
from tests.shifted_clock import ShiftedClock
from tests.stuck_log import StuckBroker
from tests.waiting import eventually, eventually_told

pytestmark = pytest.mark.timeout(120)

CHANNELS = ("webhook",)
COUNTED = ("pabal_retries_total", ("webhook", "critical"))


class World:
    """A log with Pabal's topics, and what is told in it."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.clock = ShiftedClock()

    @contextlib.asynccontextmanager
    async def monitor(self, instance: str, *, broker: Broker | None = None) -> AsyncIterator[Monitor]:
        """A monitor that runs within."""
        monitor = Monitor(
            broker=broker or self.broker, groups=groups_for(CHANNELS), clock=self.clock, instance=instance
        )
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(monitor.run(stopping))
            try:
                yield monitor
            finally:
                stopping.set()

    async def tell(self, instance: str, *, counted: float) -> None:
        """A process says what it has counted since it began."""
        status = ProcessStatus(
            instance=instance,
            roles=("worker",),
            version="1",
            state="running",
            at=self.clock.now(),
            started_at=self.clock.now().replace(hour=0, minute=0, second=0, microsecond=0),
            figures=Snapshot(numbers=(NumberSeries(*COUNTED, counted),)),
        )
        await self.broker.producer().append([status_record(status)])

    async def let_wait(self) -> None:
        """A record waits, so that each sample is worth to be kept."""
        record = NewRecord(topic="pabal.deliveries.webhook.bulk", key=b"k", value=b"{}", partition=0)
        await self.broker.producer().append([record])

    async def samples(self) -> Sequence[LagSample]:
        """What monitors told, in order."""
        told = [read_status(record) for record in await self._records(STATUS_TOPIC)]
        return [each for each in told if isinstance(each, LagSample)]

    async def tellers(self) -> Sequence[str]:
        """Which monitors told samples, in order."""
        return [each.instance for each in await self.samples()]

    async def minutes(self) -> Sequence[Minute]:
        """The history."""
        return [read_minute(record) for record in await self._records(HISTORY_TOPIC)]

    async def _records(self, topic: str) -> list[Record]:
        [partition] = await self.broker.admin().watermarks(topic)
        return [record async for batch in self.broker.reader().read(partition) for record in batch]


class RefusingProducer:
    """A producer whose log takes nothing while a test says so."""

    def __init__(self, inner: Producer) -> None:
        self._inner = inner
        self.is_away = False
        self.takes_no_sample = False
        self.too_large: set[int] = set()
        """Of the next append of more than one record, the places of those that are never taken."""

        self.refused = 0
        self.close = inner.close

    def has_refused(self, count: int) -> bool:
        return self.refused >= count

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if self.is_away:
            self.refused += 1
            raise LogUnavailable("the log is away")
        if self.takes_no_sample and any((record.key or b"").startswith(b"sample/") for record in records):
            self.refused += 1
            raise RecordRefused("too large")
        if self.too_large and len(records) > 1:
            refused, self.too_large = self.too_large, set()
            raise RecordRefused("too large", indexes=sorted(refused))
        return await self._inner.append(records)


class ReadOnlyBroker(StuckBroker):
    """A log that can be read when it takes nothing."""

    def __init__(self, inner: Broker) -> None:
        super().__init__(inner)
        self.writing = RefusingProducer(inner.producer())

    def producer(self, *, deadline_seconds: float = 5.0) -> Producer:
        return self.writing


class FreezingBroker(StuckBroker):
    """A log that does not say who the members of the groups are until `thawed`."""

    def __init__(self, inner: Broker) -> None:
        super().__init__(inner)
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.asked = 0

    def admin(self) -> Admin:
        admin = super().admin()
        members = admin.members

        async def members_when_thawed(groups: Collection[str]) -> Mapping[str, GroupMembers]:
            self.asked += 1
            await self.thawed.wait()
            return await members(groups)

        admin.members = members_when_thawed  # type: ignore[method-assign]
        return admin


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock(), session_seconds=LATE_SECONDS)
    for spec in topics_for(CHANNELS, partitions=2, replication=None):
        await broker.admin().create_topic(spec)
    yield World(broker)
    await broker.close()


async def watches(monitor: Monitor) -> None:
    await eventually(lambda: monitor.sampled is not None, within_seconds=30)


def knows(monitor: Monitor, counted: float) -> bool:
    """Whether a process told the monitor that it has counted so much."""
    processes = [] if monitor.watching is None else monitor.watching.fleet.processes()
    return counted in [number.value for process in processes for number in process.figures.numbers]


async def test_one_of_two_monitors_is_active_and_when_it_stops_the_other_is(world: World) -> None:
    async with world.monitor("second") as second:
        async with world.monitor("first") as first:
            await eventually(lambda: (first.sampled is None) != (second.sampled is None), within_seconds=30)
            idle = first if first.sampled is None else second

            assert idle.watching is None
            assert (idle.groups, idle.cluster) == ((), None)

        await watches(second)
        assert {view.group for view in second.groups} == set(groups_for(CHANNELS))


async def test_a_monitor_whose_poll_is_stuck_asks_whether_it_is_still_the_active_one_before_it_tells(
    world: World,
) -> None:
    broker = StuckBroker(world.broker)
    await world.let_wait()
    async with world.monitor("stuck", broker=broker) as stuck:
        await watches(stuck)
        [consumer] = broker.consumers
        consumer.is_stuck = True
        async with world.monitor("next") as following:
            await watches(following)
            told = len(await world.tellers())

            async def some_more() -> bool:
                return len(await world.tellers()) >= told + 3

            await eventually_told(some_more, within_seconds=60)

            assert set((await world.tellers())[told:]) == {"next"}


async def test_a_frozen_monitor_whose_poll_ends_before_it_learns_that_its_place_is_gone_asks_first(
    world: World,
) -> None:
    broker = FreezingBroker(world.broker)
    await world.let_wait()
    async with world.monitor("frozen", broker=broker) as frozen:
        await watches(frozen)
        [consumer] = broker.consumers
        consumer.is_stuck = True
        broker.thawed.clear()
        async with world.monitor("next") as following:
            await watches(following)
            told, asked = len(await world.tellers()), broker.asked

            consumer.ends.release()
            broker.thawed.set()
            await eventually(lambda: broker.asked >= asked + 2, within_seconds=30)

            assert "frozen" not in (await world.tellers())[told:]


async def test_a_minute_adds_up_what_all_processes_counted_in_it_and_a_new_monitor_counts_nothing_twice(
    world: World,
) -> None:
    async with world.monitor("first") as first:
        await watches(first)
        for instance, counted in (("one", 3), ("two", 4), ("one", 5)):
            await world.tell(instance, counted=counted)
        await eventually(lambda: first.watching and len(first.watching.fleet.processes()) == 2, within_seconds=30)
        world.clock.ahead += timedelta(seconds=60)
        await eventually_told(world.minutes, within_seconds=30)
    await world.tell("two", counted=10)
    async with world.monitor("second") as second:
        await watches(second)
        world.clock.ahead += timedelta(seconds=60)

        async def another_minute() -> bool:
            return len(await world.minutes()) > 1

        await eventually_told(another_minute, within_seconds=30)

    # The log's own clock was not set forward, so that the second monitor may find that its first minute has passed.
    first_minute, *others = [each.figures for each in await world.minutes()]
    assert [each.value for each in first_minute.numbers] == [9.0]
    assert [each.value for figures in others for each in figures.numbers] == [6.0]


async def test_a_monitor_that_lost_its_place_and_is_active_again_counts_nothing_twice(world: World) -> None:
    broker = StuckBroker(world.broker)
    async with world.monitor("first", broker=broker) as first:
        await watches(first)
        await world.tell("one", counted=3)
        await eventually(lambda: first.watching and first.watching.fleet.processes(), within_seconds=30)
        [consumer] = broker.consumers
        consumer.is_stuck = True
        async with world.monitor("second") as second:
            await watches(second)
            consumer.is_stuck = False
            consumer.ends.release()
            await eventually(lambda: first.watching is None, within_seconds=30)
            world.clock.ahead += timedelta(seconds=60)
            await eventually_told(world.minutes, within_seconds=30)
        await world.tell("one", counted=5)
        await watches(first)
        world.clock.ahead += timedelta(seconds=60)

        async def another_minute() -> bool:
            return len(await world.minutes()) > 1

        await eventually_told(another_minute, within_seconds=30)

    assert sum(each.value for minute in await world.minutes() for each in minute.figures.numbers) == 5.0


async def test_after_a_sample_that_the_log_did_not_take_the_next_one_has_every_partition(world: World) -> None:
    broker = ReadOnlyBroker(world.broker)
    await world.let_wait()
    async with world.monitor("one", broker=broker) as monitor:
        await watches(monitor)
        assert await eventually_told(world.samples)
        broker.writing.is_away = True
        await eventually(lambda: broker.writing.refused, within_seconds=30)
        kept = len(await world.samples())
        broker.writing.is_away = False

        async def next_one() -> Sequence[LagSample]:
            return (await world.samples())[kept:]

        following = await eventually_told(next_one, within_seconds=30)

    assert following[0].is_whole


async def test_a_sample_that_the_log_will_never_take_costs_no_minute_of_the_history(world: World) -> None:
    broker = ReadOnlyBroker(world.broker)
    broker.writing.takes_no_sample = True
    await world.let_wait()
    async with world.monitor("one", broker=broker) as monitor:
        await watches(monitor)
        await eventually(lambda: broker.writing.refused, within_seconds=30)
        world.clock.ahead += timedelta(seconds=60)

        assert await eventually_told(world.minutes, within_seconds=30)


async def test_of_minutes_that_wait_for_the_log_only_the_one_that_it_refuses_is_lost(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    broker = ReadOnlyBroker(world.broker)
    async with world.monitor("one", broker=broker) as monitor:
        await watches(monitor)
        broker.writing.is_away = True
        for counted in (1, 3, 6):
            await world.tell("a process", counted=counted)
            await eventually(partial(knows, monitor, counted), within_seconds=30)
            refused = broker.writing.refused
            world.clock.ahead += timedelta(seconds=60)
            await eventually(partial(broker.writing.has_refused, refused + 2), within_seconds=30)
        broker.writing.too_large = {1}
        broker.writing.is_away = False

        async def two_minutes() -> bool:
            return len(await world.minutes()) >= 2

        await eventually_told(two_minutes, within_seconds=30)

    assert [each.value for minute in await world.minutes() for each in minute.figures.numbers] == [1.0, 3.0]
    assert "1 minutes are lost" in caplog.text

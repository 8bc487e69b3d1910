"""What a command sees that is not the monitor: the window that a monitor keeps, or two samples of its own."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.lag import Sample
from pabal.monitor.looking import LOOK_BACK, Onlooker
from pabal.monitor.sample_log import WHOLE_EVERY_SECONDS, SampleWriter
from pabal.monitor.samples import Place, Sampled
from pabal.monitor.sampling import Sampler
from pabal.notification import STATUS_TOPIC
from pabal.status.records import ProcessStatus, sample_record, status_record
from tests.shifted_clock import ShiftedClock

PLACE = Place("g", "t", 0)


class Lab:
    """A log in which nine records wait for a group, and what was told in it some time ago."""

    def __init__(self, broker: SqliteBroker, clock: ShiftedClock) -> None:
        self._broker = broker
        self._clock = clock
        admin, reader = broker.admin(), broker.reader()
        self.onlooker = Onlooker(reader=reader, admin=admin, clock=clock)
        self.sampler = Sampler(admin=admin, reader=reader, groups={"g": ["t"]}, clock=clock)

    async def create_status_topic(self) -> None:
        await self._broker.admin().create_topic(TopicSpec(name=STATUS_TOPIC, partitions=1))

    async def append(self, *records: NewRecord) -> None:
        await self._broker.producer().append(records)

    async def tell(self, instance: str, *, seconds_ago: float = 0.0) -> None:
        """A process tells its status."""
        self._clock.ahead = -timedelta(seconds=seconds_ago)
        now = self._clock.now()
        status = ProcessStatus(
            instance=instance, roles=("worker",), version="1", state="running", at=now, started_at=now
        )
        await self.append(status_record(status))
        self._clock.ahead = timedelta()

    async def keep(self, *seconds_ago: float) -> None:
        """A monitor keeps samples in which one record of the nine is read."""
        writer = SampleWriter("monitor")
        for each in seconds_ago:
            self._clock.ahead = -timedelta(seconds=each)
            sample = Sample(at=-each, low=0, high=9, committed=1, owner="m")
            record = writer.record_of(
                Sampled(at=-each, samples={PLACE: sample}, members={"g": 1}), at=self._clock.now()
            )
            assert record is not None
            await self.append(sample_record(record))
        self._clock.ahead = timedelta()

    async def committed(self) -> list[int | None]:
        """What the window of the only partition says was committed, after one more look."""
        watching = await self.onlooker.look_and_sample(self.sampler)
        return [each.committed for each in watching.windows.window(PLACE)]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    clock = ShiftedClock()
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name="t", partitions=1))
    lab = Lab(broker, clock)
    await lab.append(*(NewRecord(topic="t", key=b"k", value=b"v") for _ in range(9)))
    yield lab
    await broker.close()


async def test_a_log_of_another_system_has_no_statuses_and_is_sampled_twice(lab: Lab) -> None:
    assert await lab.committed() == [None, None]
    assert (await lab.onlooker.look()).fleet.processes() == []


async def test_without_a_monitor_two_samples_say_whether_anything_moves_and_each_look_adds_one(lab: Lab) -> None:
    await lab.create_status_topic()

    assert [len(await lab.committed()) for _ in range(2)] == [2, 3]


async def test_the_window_that_a_monitor_keeps_is_gone_on_with(lab: Lab) -> None:
    await lab.create_status_topic()
    await lab.keep(6, 4, 2)

    assert await lab.committed() == [1, 1, 1, None]


async def test_after_the_first_look_the_samples_of_the_monitor_are_left_to_it(lab: Lab) -> None:
    await lab.create_status_topic()
    await lab.keep(2)
    await lab.committed()
    await lab.keep(1, 0)

    assert await lab.committed() == [1, None, None]


async def test_the_window_of_a_monitor_that_is_gone_says_nothing_of_now(lab: Lab) -> None:
    await lab.create_status_topic()
    await lab.keep(2 * WHOLE_EVERY_SECONDS + 2, 2 * WHOLE_EVERY_SECONDS)

    assert await lab.committed() == [None, None]


async def test_statuses_of_the_last_hour_are_known_and_each_look_reads_on(lab: Lab) -> None:
    await lab.create_status_topic()
    await lab.tell("long gone", seconds_ago=LOOK_BACK.total_seconds() + 60)
    await lab.tell("one", seconds_ago=LOOK_BACK.total_seconds() - 60)

    async def instances() -> list[str]:
        watching = await lab.onlooker.look()
        return [each.status.instance for each in watching.fleet.processes()]

    assert await instances() == ["one"]
    await lab.tell("two")
    assert await instances() == ["one", "two"]

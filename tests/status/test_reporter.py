"""When a process tells its status, and what is in it. The log is a real one, or one that is away."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, Position, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import ManualClock, SystemClock
from pabal.compose.parts import Parts, reporting
from pabal.config import Settings
from pabal.errors import LogUnavailable
from pabal.notification import STATUS_TOPIC
from pabal.ops.follower import OpsFollower
from pabal.progress import Progress
from pabal.status.records import GroupStatus, ProcessStatus, group_status, read_status
from pabal.status.reporter import REPORT_EVERY_SECONDS, WHOLE_EVERY_SECONDS, Reporter
from pabal.telemetry.meter import LabelValues, Meter
from tests.waiting import eventually_told


class AtTimesAway:
    """A producer whose log is away when a test says so."""

    def __init__(self, broker: SqliteBroker) -> None:
        self._inner = broker.producer()
        self.is_away = False
        self.before_append: Callable[[], Awaitable[None]] = _at_once
        self.close = self._inner.close

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if self.is_away:
            raise LogUnavailable("the log is away")
        await self.before_append()
        return await self._inner.append(records)


async def _at_once() -> None:
    pass


class Lab:
    """A reporter of a worker, and what it told."""

    def __init__(self, broker: SqliteBroker) -> None:
        self.clock = ManualClock()
        self.meter = Meter()
        self.producer = AtTimesAway(broker)
        self.groups: Sequence[GroupStatus] = ()
        self.ops = OpsFollower(broker.reader())
        self.reporter = Reporter(
            producer=self.producer, meter=self.meter, ops=self.ops, clock=self.clock, instance="one"
        )
        self._broker = broker

    def parts(self, folder: Path) -> Parts:
        """The parts of a process that has this reporter."""
        return Parts(
            settings=Settings(),
            log_url="",
            data=folder,
            clock=self.clock,
            broker=self._broker,
            ops=self.ops,
            meter=self.meter,
            reporter=self.reporter,
        )

    async def look(self, *, after_seconds: float = 0.0) -> int:
        """Let it look; how many statuses there are then."""
        self.clock.advance(after_seconds)
        await self.reporter.look()
        return len(await self.told())

    async def told(self) -> list[ProcessStatus]:
        reader, found = self._broker.reader(), []
        async for records in reader.read(TopicPartition(STATUS_TOPIC, 0)):
            found += [read_status(record) for record in records]
        return [each for each in found if isinstance(each, ProcessStatus)]


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[Lab]:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock())
    await broker.admin().create_topic(TopicSpec(name=STATUS_TOPIC, partitions=1))
    yield Lab(broker)
    await broker.close()


async def test_a_process_without_a_role_tells_nothing(lab: Lab) -> None:
    assert await lab.look() == 0
    await lab.reporter.say_stopped()
    assert await lab.told() == []


async def test_it_is_told_at_the_start_then_every_ten_seconds_and_at_last_that_it_stops(lab: Lab) -> None:
    lab.reporter.enter("worker", groups=lambda: lab.groups)

    counts = [await lab.look(), await lab.look(after_seconds=1.0), await lab.look(after_seconds=REPORT_EVERY_SECONDS)]
    await lab.reporter.say_stopped()

    told = await lab.told()
    assert counts == [1, 1, 2]
    assert [each.state for each in told] == ["running", "running", "stopped"]
    assert {(each.instance, each.roles) for each in told} == {("one", ("worker",))}
    assert len({each.started_at for each in told}) == 1


async def test_what_an_operator_would_ask_about_is_told_at_once_and_mere_progress_is_not(lab: Lab) -> None:
    partition = TopicPartition("pabal.events", 0)
    progress = Progress()
    lab.reporter.enter("worker", groups=lambda: lab.groups)
    is_open: dict[LabelValues, float] = {("webhook", "hooks"): 0.0}
    lab.meter.gauge("pabal_provider_open", lambda: is_open)

    counts = [await lab.look()]
    for group in (
        group_status("g", {}),
        group_status("g", {}, held="brake"),
        group_status("g", {}, held="brake", is_polling=False),
        group_status("g", {partition: progress}),
    ):
        lab.groups = [group]
        counts.append(await lab.look())
    is_open["webhook", "hooks"] = 1.0
    counts.append(await lab.look())
    lab.reporter.enter("api")
    counts.append(await lab.look())
    assert counts == [1, 2, 3, 4, 5, 6, 7]
    assert (await lab.told())[-1].open == ("webhook/hooks",)

    progress.receive((0,))
    progress.done(0)
    lab.groups = [group_status("g", {partition: progress})]
    assert await lab.look() == 7
    await lab.look(after_seconds=REPORT_EVERY_SECONDS)
    [group] = (await lab.told())[-1].groups
    assert (group.partitions[0].ended, group.partitions[0].highest_ended) == (1, 0)


async def test_figures_are_told_when_they_changed_and_once_a_minute(lab: Lab) -> None:
    lab.reporter.enter("worker")
    counter = lab.meter.counter("pabal_retries_total", "webhook", "critical")
    counter.add()
    await lab.look()
    await lab.look(after_seconds=REPORT_EVERY_SECONDS)
    counter.add()
    steps = int(WHOLE_EVERY_SECONDS / REPORT_EVERY_SECONDS)
    for _ in range(1 + steps):
        await lab.look(after_seconds=REPORT_EVERY_SECONDS)

    figures = [each.figures for each in await lab.told()]
    assert [None if each is None else [series.value for series in each.numbers] for each in figures] == [
        [1.0],
        None,
        [2.0],
        *[None] * (steps - 1),
        [2.0],
    ]


async def test_a_log_that_is_away_costs_one_warning_and_what_was_not_told_is_told_when_it_is_back(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.reporter.enter("worker")
    lab.meter.counter("pabal_retries_total", "webhook", "critical").add()
    lab.producer.is_away = True
    for _ in range(3):
        assert await lab.look(after_seconds=REPORT_EVERY_SECONDS) == 0
    lab.producer.is_away = False
    assert await lab.look(after_seconds=REPORT_EVERY_SECONDS) == 1

    [status] = await lab.told()
    assert status.figures is not None
    warnings = [each.message for each in caplog.records if each.levelname == "WARNING"]
    assert warnings == ["cannot tell the status of this process: the log is away"]


async def test_a_log_that_goes_away_again_is_another_warning(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.reporter.enter("worker")
    for is_away in (True, True, False, True):
        lab.producer.is_away = is_away
        await lab.look(after_seconds=REPORT_EVERY_SECONDS)

    assert [each.levelname for each in caplog.records if "cannot tell" in each.message].count("WARNING") == 2


async def test_figures_are_those_that_the_process_counted_itself(lab: Lab) -> None:
    lab.reporter.enter("worker")
    lab.meter.counter("pabal_retries_total", "webhook", "critical")
    lab.meter.gauge("pabal_in_flight", lambda: {("webhook", "bulk"): 7.0, ("webhook", "critical"): 0.0})
    lab.meter.gauge("pabal_consumergroup_drain_seconds", lambda: {("g",): 5.0})
    lab.meter.gauge("pabal_delay_overdue_seconds", lambda: {("bulk",): math.inf})
    lab.meter.histogram("pabal_append_duration_seconds").observe(0.5)
    await lab.look()

    [status] = await lab.told()
    assert status.figures is not None
    assert [(each.name, each.value) for each in status.figures.numbers] == [("pabal_in_flight", 7.0)]
    assert [each.sum for each in status.figures.histograms] == [0.5]


def test_what_ails_a_process_is_what_ails_any_of_its_roles(lab: Lab) -> None:
    lab.reporter.enter("worker", ailments=lambda: ["one", "two"])
    lab.reporter.enter("recorder")
    lab.reporter.enter("delayline", ailments=lambda: ["three"])

    assert lab.reporter.ailments() == ["one", "two", "three"]


async def test_a_process_tells_while_its_roles_run_and_nothing_after_it_said_that_it_stops(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.status.reporter.LOOK_EVERY_SECONDS", 0.0)

    async def becomes_due() -> None:
        lab.clock.advance(REPORT_EVERY_SECONDS)
        for _ in range(100):
            await asyncio.sleep(0)

    async with reporting(lab.parts(tmp_path)):
        lab.reporter.enter("worker")
        assert await eventually_told(lab.told)
        lab.producer.before_append = becomes_due

    assert [each.state for each in await lab.told()] == ["running", "stopped"]


async def test_a_process_that_ends_by_an_error_does_not_say_that_it_stopped_in_order(lab: Lab, tmp_path: Path) -> None:
    async def run() -> None:
        async with reporting(lab.parts(tmp_path)):
            lab.reporter.enter("worker")
            await eventually_told(lab.told)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        await run()

    assert [each.state for each in await lab.told()] == ["running"]


async def test_a_defect_in_a_role_is_said_and_the_status_is_told_again_afterwards(
    lab: Lab, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.status.reporter.REPORT_EVERY_SECONDS", 0.0)
    answers = iter([ZeroDivisionError("a defect")])

    def groups() -> Sequence[GroupStatus]:
        for error in answers:
            raise error
        return ()

    lab.reporter.enter("worker", groups=groups)
    telling = asyncio.create_task(lab.reporter.run())
    await eventually_told(lab.told)
    telling.cancel()

    assert "a defect: the status of this process could not be told" in caplog.text
    assert "ZeroDivisionError" in caplog.text

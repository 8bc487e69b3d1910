"""`pabal status` as a person calls it: what processes told in the log, what is wrong, and the exit status."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner, Result

from pabal.broker.port import NewRecord
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.cli.main import main
from pabal.clock import SystemClock
from pabal.lag import Sample
from pabal.monitor.sample_log import SampleWriter
from pabal.monitor.samples import Place, Sampled
from pabal.status.records import GroupStatus, ProcessStatus, sample_record, status_record
from pabal.topics.spec import topics_for

CONFIG = "[channels.email]\nenabled = false\n"
GROUP, TOPIC = "pabal.worker.webhook.bulk", "pabal.deliveries.webhook.bulk"


class Past(SystemClock):
    """The machine's clocks, behind by as much as a test says."""

    behind_seconds = 0.0

    def now(self) -> Any:
        return super().now() - timedelta(seconds=self.behind_seconds)


class Log:
    """A log with Pabal's topics, in which processes and a monitor told something some time ago, the oldest first."""

    def __init__(self, broker: SqliteBroker, clock: Past) -> None:
        self._broker = broker
        self._clock = clock

    async def tell(self, instance: str, *, seconds_ago: float = 0.0, **changes: Any) -> None:
        self._clock.behind_seconds = seconds_ago
        values: dict[str, Any] = {"roles": ("worker",), "version": "1.2.3", "state": "running"}
        now = self._clock.now()
        status = ProcessStatus(instance=instance, at=now, started_at=now, **values | changes)
        await self._append(status_record(status))

    async def sample(self, **changes: Any) -> None:
        """The window of a monitor: one partition as it stood for the last half minute."""
        writer = SampleWriter("monitor")
        for seconds_ago in range(29, 0, -2):
            self._clock.behind_seconds = seconds_ago
            sample = msgspec.structs.replace(Sample(at=-seconds_ago, low=0, high=9, committed=4), **changes)
            sampled = Sampled(at=-seconds_ago, samples={Place(GROUP, TOPIC, 0): sample}, members={GROUP: 0})
            record = writer.record_of(sampled, at=self._clock.now())
            if record is not None:
                await self._append(sample_record(record))

    async def _append(self, record: NewRecord) -> None:
        producer = self._broker.producer()
        await producer.append([record])
        await producer.close()


def with_log(folder: Path, tell: Callable[[Log], Awaitable[None]] | None = None) -> None:
    async def run() -> None:
        clock = Past()
        broker = await SqliteBroker.open(folder / "log.db", clock=clock)
        for spec in topics_for(["webhook"], partitions=2, replication=None):
            await broker.admin().create_topic(spec)
        if tell is not None:
            await tell(Log(broker, clock))
        await broker.close()

    asyncio.run(run())


def status(folder: Path, *arguments: str, config: str = "") -> Result:
    (folder / "pabal.toml").write_text(CONFIG + config)
    where = ("--data", str(folder), "--config", str(folder / "pabal.toml"))
    return CliRunner().invoke(main, ["status", *arguments, *where], catch_exceptions=False)


def test_where_nothing_runs_that_is_what_is_wrong(tmp_path: Path) -> None:
    with_log(tmp_path)

    shown = status(tmp_path)

    assert shown.exit_code == 1
    assert "wrong: no process has told of itself within the last hour" in shown.output


def test_what_runs_is_shown_with_what_it_holds_and_holding_is_not_wrong(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        held = GroupStatus(group=GROUP, held="brake: too many of its records cannot be read")
        await log.sample(owner="m", held="brake: too many of its records cannot be read")
        await log.tell("host-1", groups=(held,), open=("webhook/hooks",))

    with_log(tmp_path, tell)

    shown, told = status(tmp_path), json.loads(status(tmp_path, "--json").output)

    assert shown.exit_code == 0
    assert "nothing is wrong" in shown.output
    assert "1 held" in shown.output
    assert told["wrong"] == []
    [process] = told["processes"]
    assert (process["instance"], process["roles"], process["version"], process["state"]) == (
        "host-1", ["worker"], "1.2.3", "running"
    )  # fmt: skip
    assert process["holds"] == [{"group": GROUP, "reason": "brake: too many of its records cannot be read"}]
    assert process["open"] == ["webhook/hooks"]
    assert [(each["group"], each["verdict"]) for each in told["groups"]] == [(GROUP, "held")]


def test_a_process_that_fell_silent_is_a_role_that_is_missing(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.tell("host-1", seconds_ago=90)
        await log.tell("host-2", roles=("recorder",))

    with_log(tmp_path, tell)

    shown, told = status(tmp_path), json.loads(status(tmp_path, "--json").output)

    assert shown.exit_code == 1
    assert told["wrong"] == ["role worker: 0 of 1 report; host-1 fell silent 90 s ago"]
    assert [(each["instance"], each["state"]) for each in told["processes"]] == [
        ("host-1", "silent"),
        ("host-2", "running"),
    ]


def test_a_process_that_stopped_in_order_is_missed_when_it_stays_away(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.tell("host-2", roles=("recorder",), seconds_ago=50, state="stopped")
        await log.tell("host-1", seconds_ago=5, state="stopped")

    with_log(tmp_path, tell)

    told = json.loads(status(tmp_path, "--json").output)

    assert told["wrong"] == ["role recorder: 0 of 1 report; host-2 stopped in order 50 s ago"]
    assert {each["state"] for each in told["processes"]} == {"stopped"}


def test_more_are_missed_where_more_are_expected(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.tell("host-1")

    with_log(tmp_path, tell)

    shown = status(tmp_path, config="[expected]\nworker = 2\nmonitor = 1\n")

    assert shown.exit_code == 1
    assert "wrong: role worker: 1 of 2 report; host-1" in shown.output
    assert "wrong: role monitor: 0 of 1 report; none was heard of within the last hour" in shown.output


def test_a_group_that_stands_still_or_has_no_member_is_wrong(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.sample()
        await log.tell("host-1")

    with_log(tmp_path, tell)
    stop = status(tmp_path)

    assert stop.exit_code == 1
    assert f"wrong: {GROUP}: STOP: {TOPIC}/0: 5 records wait, and no member owns the partition" in stop.output


def test_records_that_were_deleted_unread_are_wrong_also_in_a_group_that_is_held(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.sample(low=6, owner="m", held="guard")
        await log.tell("host-1")

    with_log(tmp_path, tell)
    told = json.loads(status(tmp_path, "--json").output)

    assert told["wrong"] == [f"{GROUP}: 2 records were deleted unread (pabal offsets list)"]
    assert [(each["verdict"], each["lost"]) for each in told["groups"]] == [("held", 2)]

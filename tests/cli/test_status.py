"""`pabal status` as a person calls it: what processes told in the log, what is wrong, and the exit status."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from pabal.broker.port import NewRecord, TopicPartition
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.cli.main import main
from pabal.clock import SystemClock
from pabal.lag import Sample
from pabal.monitor.sample_log import SampleWriter
from pabal.monitor.samples import Place, Sampled
from pabal.status.records import GroupStatus, PartitionStatus, ProcessStatus, sample_record, status_record
from pabal.topics.spec import topics_for
from tests.waiting import eventually_told

CONFIG = "[channels.email]\nenabled = false\n"
GROUP, TOPIC = "pabal.worker.webhook.bulk", "pabal.deliveries.webhook.bulk"


class Past(SystemClock):
    """The machine's clocks, behind by as much as a test says."""

    behind = timedelta()

    def now(self) -> datetime:
        return super().now() - self.behind


class Log:
    """A log with Pabal's topics, in which processes and a monitor told something some time ago, the oldest first."""

    def __init__(self, broker: SqliteBroker, clock: Past) -> None:
        self.broker = broker
        self.clock = clock

    async def tell(self, instance: str, *, seconds_ago: float = 0.0, **changes: Any) -> None:
        """A process tells its status."""
        self.clock.behind = timedelta(seconds=seconds_ago)
        values: dict[str, Any] = {"roles": ("worker",), "version": "1.2.3", "state": "running"}
        now = self.clock.now()
        await self.append(status_record(ProcessStatus(instance=instance, at=now, started_at=now, **values | changes)))

    async def let_wait(self, *, days_ago: float = 0.0) -> None:
        """Nine records wait in the first partition."""
        self.clock.behind = timedelta(days=days_ago)
        await self.append(*(NewRecord(topic=TOPIC, key=b"k", value=b"{}", partition=0) for _ in range(9)))

    async def sample(self, *, owner: str | None = None) -> None:
        """The window of a monitor: nine records have waited for half a minute, with this owner or none."""
        writer = SampleWriter("monitor")
        for seconds_ago in range(29, 0, -2):
            self.clock.behind = timedelta(seconds=seconds_ago)
            sampled = Sampled(
                at=-seconds_ago,
                samples={Place(GROUP, TOPIC, 0): Sample(at=-seconds_ago, low=0, high=9, owner=owner)},
                members={GROUP: 0},
            )
            record = writer.record_of(sampled, at=self.clock.now())
            assert record is not None
            await self.append(sample_record(record))

    async def append(self, *records: NewRecord) -> None:
        producer = self.broker.producer()
        await producer.append(records)
        await producer.close()


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Log]:
    clock = Past()
    broker = await SqliteBroker.open(folder / "log.db", clock=clock)
    for spec in topics_for(["webhook"], partitions=2, replication=None):
        await broker.admin().create_topic(spec)
    yield Log(broker, clock)
    await broker.close()


def with_log(folder: Path, tell: Callable[[Log], Awaitable[None]] | None = None) -> None:
    async def run() -> None:
        async with opened(folder) as log:
            if tell is not None:
                await tell(log)

    asyncio.run(run())


class Member:
    """Keeps what it is assigned."""

    def __init__(self) -> None:
        self.owned: set[TopicPartition] = set()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        self.owned |= set(partitions)

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        pass


def status(folder: Path, *arguments: str, config: str = "") -> Result:
    (folder / "pabal.toml").write_text(CONFIG + config)
    where = ("--data", str(folder), "--config", str(folder / "pabal.toml"))
    return CliRunner().invoke(main, ["status", *arguments, *where], catch_exceptions=False)


def test_where_nothing_runs_that_is_what_is_wrong(tmp_path: Path) -> None:
    with_log(tmp_path)

    shown = status(tmp_path)

    assert shown.exit_code == 1
    assert "wrong: no process has told of itself within the last hour" in shown.output


@contextlib.asynccontextmanager
async def joined(log: Log, *, instance: str) -> AsyncIterator[Collection[TopicPartition]]:
    """A member of the group that owns all its partitions."""
    member = Member()
    consumer = log.broker.consumer(GROUP, [TOPIC], member, instance=instance)

    async def has_all() -> bool:
        await consumer.poll(limit=1, timeout_seconds=0.1)
        return len(member.owned) == 2

    await eventually_told(has_all)
    yield member.owned
    await consumer.close()


async def test_what_runs_is_shown_with_what_it_holds_and_holding_is_not_wrong(tmp_path: Path) -> None:
    async with opened(tmp_path) as log, joined(log, instance="host-1") as partitions:
        await log.let_wait()
        owned = tuple(PartitionStatus(*each, 0) for each in partitions)
        await log.tell(
            "host-1", groups=(GroupStatus(group=GROUP, held="brake", partitions=owned),), open=("webhook/x",)
        )

        shown = await asyncio.to_thread(status, tmp_path)
        told = json.loads((await asyncio.to_thread(status, tmp_path, "--json")).output)

    assert shown.exit_code == 0
    assert "nothing is wrong" in shown.output
    assert "1 held" in shown.output
    assert told["wrong"] == []
    [process] = told["processes"]
    assert (process["instance"], process["roles"], process["version"], process["state"]) == (
        "host-1", ["worker"], "1.2.3", "running"
    )  # fmt: skip
    assert process["holds"] == [{"group": GROUP, "reason": "brake"}]
    assert process["open"] == ["webhook/x"]
    assert [(each["group"], each["lag"]) for each in told["groups"] if each["verdict"] == "held"] == [(GROUP, 9)]


def test_a_process_that_fell_silent_is_a_role_that_is_missing(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.tell("host-1", seconds_ago=90)
        await log.tell("host-2", roles=("recorder",))

    with_log(tmp_path, tell)

    shown, told = status(tmp_path), json.loads(status(tmp_path, "--json").output)

    assert shown.exit_code == 1
    [wrong] = told["wrong"]
    assert re.fullmatch(r"role worker: 0 of 1 report; host-1 fell silent \d+ s ago", wrong)
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

    [wrong] = told["wrong"]
    assert re.fullmatch(r"role recorder: 0 of 1 report; host-2 stopped in order \d+ s ago", wrong)
    assert {each["state"] for each in told["processes"]} == {"stopped"}


def test_more_are_missed_where_more_are_expected(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.tell("host-1")

    with_log(tmp_path, tell)

    shown = status(tmp_path, config="[expected]\nworker = 2\nmonitor = 1\n")

    assert shown.exit_code == 1
    assert "wrong: role worker: 1 of 2 report; host-1" in shown.output
    assert "wrong: role monitor: 0 of 1 report; none was heard of within the last hour" in shown.output


async def test_a_group_that_makes_no_progress_is_wrong(tmp_path: Path) -> None:
    async with opened(tmp_path) as log, joined(log, instance="host-1"):
        await log.let_wait()
        await log.sample(owner="host-1")
        await log.tell("host-1")

        shown = await asyncio.to_thread(status, tmp_path)

    assert shown.exit_code == 1
    assert re.search(
        f"wrong: {GROUP}: STALL: {TOPIC}/0: its owner polls, 9 records wait, and nothing was done", shown.output
    )


def test_a_group_without_a_member_is_wrong_once_the_window_of_the_monitor_says_so(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.let_wait()
        await log.sample()
        await log.tell("host-1")

    with_log(tmp_path, tell)
    shown = status(tmp_path)

    assert shown.exit_code == 1
    assert f"wrong: {GROUP}: STOP: {TOPIC}/0: 9 records wait, and no member owns the partition" in shown.output


def test_without_a_monitor_two_samples_in_a_row_do_not_tell_a_stop_from_a_rebalance(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.let_wait()
        await log.tell("host-1")

    with_log(tmp_path, tell)
    told = json.loads(status(tmp_path, "--json").output)

    assert told["wrong"] == []
    assert {each["group"]: each["verdict"] for each in told["groups"]}[GROUP] == "incomplete"


def test_records_that_were_deleted_unread_are_wrong_although_nothing_waits(tmp_path: Path) -> None:
    async def tell(log: Log) -> None:
        await log.let_wait(days_ago=30)
        await log.broker.admin().reset_offsets(GROUP, {TopicPartition(TOPIC, 0): 4})
        await log.tell("host-1")
        await log.broker.clean()

    with_log(tmp_path, tell)
    told = json.loads(status(tmp_path, "--json").output)

    assert told["wrong"] == [f"{GROUP}: 5 records were deleted unread (pabal offsets list)"]
    assert [each["lost"] for each in told["groups"] if each["lost"]] == [5]

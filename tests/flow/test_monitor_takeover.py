"""Of two monitors one is active. When it is killed or frozen, the other goes on with its window; never do both tell."""

import signal
from asyncio.subprocess import Process
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pabal.broker.port import NewRecord
from pabal.compose.parts import Parts, open_parts
from pabal.config import Settings
from pabal.notification import STATUS_TOPIC
from pabal.status.records import LagSample, read_status
from tests.flow.processes import Commands, free_port
from tests.waiting import eventually_told

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

GROUP = "pabal.worker.email.critical"


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


class RunningMonitor:
    """A `pabal monitor`, and what it exposes."""

    def __init__(self, process: Process, port: int) -> None:
        self.process = process
        self._port = port

    @classmethod
    async def start(cls, commands: Commands, name: str) -> "RunningMonitor":
        """Start it, and wait until it answers."""
        port = free_port()
        process = await commands.start("monitor", "--name", name, "--status-port", str(port))
        started = cls(process, port)
        await eventually_told(started.answers, within_seconds=60)
        return started

    async def answers(self) -> bool:
        """Whether it answers yet."""
        try:
            await self.verdict()
        except aiohttp.ClientConnectionError:
            return False
        return True

    async def verdict(self) -> str | None:
        """What it says of the group; None while it is not the active one."""
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{self._port}/metrics") as answer:
            families = text_string_to_metric_families(await answer.text())
        said = [
            sample.labels["verdict"]
            for family in families
            for sample in family.samples
            if sample.name == "pabal_consumergroup_verdict" and sample.labels["consumergroup"] == GROUP and sample.value
        ]
        return said[0] if said else None


async def samples(parts: Parts) -> list[LagSample]:
    """What monitors have told so far, in the order of the log."""
    reader, found = parts.broker.reader(), []
    [partition] = await parts.broker.admin().watermarks(STATUS_TOPIC)
    async for records in reader.read(partition):
        found += [told for told in map(read_status, records) if isinstance(told, LagSample)]
    return found


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_another_monitor_goes_on_with_the_window_of_one_that_is_gone(
    tmp_path: Path, log_url: str, fate: signal.Signals
) -> None:
    async with (
        Commands.ready(tmp_path, log_url=log_url) as commands,
        open_parts(Settings(), log_url=log_url, data=tmp_path) as parts,
    ):
        assert await commands.run("topics", "create", "--partitions", "2") == 0, commands.printed()
        first = await RunningMonitor.start(commands, "one")
        record = NewRecord(topic="pabal.deliveries.email.critical", key=b"mail", value=b"{}")
        await parts.broker.producer().append([record])

        async def first_says_stop() -> bool:
            return await first.verdict() == "stop"

        await eventually_told(first_says_stop, within_seconds=90)
        second = await RunningMonitor.start(commands, "two")
        assert await second.verdict() is None
        active = (await samples(parts))[-1].instance

        first.process.send_signal(fate)
        verdict = await eventually_told(second.verdict, within_seconds=60)

        # A window that had begun anew would say `incomplete`.
        assert verdict == "stop"
        if fate is signal.SIGSTOP:
            before = len(await samples(parts))
            first.process.send_signal(signal.SIGCONT)

            async def three_more() -> bool:
                return len(await samples(parts)) >= before + 3

            await eventually_told(three_more, within_seconds=60)
            assert active not in {sample.instance for sample in (await samples(parts))[before:]}
            assert await first.verdict() is None

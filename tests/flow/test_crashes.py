"""What survives SIGKILL: the process of `pabal up`, or a worker on its own, in the middle of 2,000 deliveries."""

from pathlib import Path

import pytest

from pabal.simulator import HttpBehaviour, Phase, Schedule
from tests.flow.processes import Commands, kill
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

COUNT = 2000
IN_FLIGHT = 128
"""Call slots of one channel in one worker (`docs/configuration.md`): the most that one crash can leave unknown."""


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


async def in_the_middle(commands: Commands) -> None:
    """Return when the provider hangs: what is killed now has calls in flight, however busy the machine is."""
    await eventually(lambda: commands.simulator.phase.http, within_seconds=30)


async def answer_a_quarter(commands: Commands) -> None:
    """From now on the provider answers a quarter of the deliveries, and then hangs."""
    hangs = Phase(after_requests=COUNT // 4, http=(HttpBehaviour(answer="hang"),))
    await commands.simulator.follow(Schedule(phase=(Phase(), hangs)))


async def prove_complete(commands: Commands, accepted: list[str], *, crashes: int) -> None:
    """Every accepted delivery arrives; what arrives twice is at most what was in flight."""
    await eventually(lambda: commands.arrived(accepted) == COUNT, within_seconds=60)
    by_key = commands.simulator.counts().by_key
    duplicated = sum(by_key[delivery] - 1 for delivery in accepted)
    print(f"accepted {len(accepted)}  arrived {commands.arrived(accepted)}  duplicated {duplicated}")  # noqa: T201

    assert len(set(accepted)) == COUNT
    assert duplicated <= crashes * IN_FLIGHT


async def test_killing_pabal_up_in_the_middle_loses_nothing(tmp_path: Path, log_url: str) -> None:
    async with Commands.ready(tmp_path, log_url=log_url) as commands:
        assert await commands.run("topics", "create", "--partitions", "2") == 0, commands.printed()
        assert await commands.run("ledger", "adopt", "--yes") == 0, commands.printed()
        up = await commands.start("up", "--port", str(commands.port))
        await commands.until_ready()
        await answer_a_quarter(commands)
        accepted = await commands.ask_webhooks(COUNT)
        await in_the_middle(commands)

        await kill(up)
        assert COUNT // 4 <= commands.arrived(accepted) < COUNT
        await commands.simulator.behave()
        await commands.start("up", "--port", str(commands.port))

        await prove_complete(commands, accepted, crashes=1)


async def test_killing_a_worker_in_the_middle_loses_nothing(tmp_path: Path, log_url: str) -> None:
    async with Commands.ready(tmp_path, log_url=log_url) as commands:
        assert await commands.run("topics", "create", "--partitions", "2") == 0, commands.printed()
        assert await commands.run("ledger", "adopt", "--yes") == 0, commands.printed()
        await commands.start("api", "--port", str(commands.port))
        await commands.start("delayline")
        worker = await commands.start("worker", "--name", "one")
        await commands.until_ready()
        await answer_a_quarter(commands)
        accepted = await commands.ask_webhooks(COUNT)

        for _ in range(2):
            await in_the_middle(commands)
            await kill(worker)
            await answer_a_quarter(commands)
            worker = await commands.start("worker", "--name", "one")
        await commands.simulator.behave()

        await prove_complete(commands, accepted, crashes=2)


async def test_a_signal_drains_and_exits_cleanly(tmp_path: Path) -> None:
    async with Commands.ready(tmp_path, log_url=f"sqlite:{tmp_path / 'log.db'}") as commands:
        up = await commands.start("up", "--port", str(commands.port))
        await commands.until_ready()
        accepted = await commands.ask_webhooks(COUNT)
        await eventually(lambda: commands.simulator.received > COUNT // 4, within_seconds=30)

        up.terminate()
        assert await up.wait() == 0, commands.printed()
        await commands.start("up", "--port", str(commands.port))

        await eventually(lambda: commands.arrived(accepted) == COUNT, within_seconds=60)
        assert commands.simulator.counts().repeated == 0


async def test_a_missing_topic_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    async with Commands.ready(tmp_path, log_url=f"sqlite:{tmp_path / 'log.db'}") as commands:
        status = await commands.run("worker")

        assert status == 1
        assert "pabal topics create --log sqlite:" in commands.printed()

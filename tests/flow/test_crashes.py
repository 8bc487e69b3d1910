"""What survives SIGKILL: the process of `pabal up`, or a worker on its own, in the middle of 2,000 deliveries."""

from functools import partial
from pathlib import Path

import pytest

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
        accepted = await commands.ask_webhooks(COUNT)
        await eventually(lambda: commands.simulator.received > COUNT // 4, within_seconds=30)

        await kill(up)
        assert commands.arrived(accepted) < COUNT
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
        accepted = await commands.ask_webhooks(COUNT)

        for at in (COUNT // 4, COUNT // 2):
            await eventually(partial(commands.has_received_more_than, at), within_seconds=30)
            await kill(worker)
            worker = await commands.start("worker", "--name", "one")

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

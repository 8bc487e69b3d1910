"""What a role without an API answers on its status port."""

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import aiohttp
import msgspec
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from pabal.cli.main import main
from pabal.compose.listening import listen
from pabal.compose.parts import open_parts
from pabal.compose.status_port import serve_status
from pabal.compose.topics import create_topics
from pabal.compose.worker import run_worker
from pabal.config import Settings, StatusSettings
from pabal.simulator import Simulator
from pabal.worker.telling_status import AILING_SECONDS
from tests.flow.installation import settings_for
from tests.shifted_clock import ShiftedClock
from tests.stuck_log import StuckBroker
from tests.waiting import eventually, eventually_told

pytestmark = pytest.mark.timeout(60)


class Role:
    """A worker with a status port, on an embedded log that can be stuck."""

    def __init__(self, url: str, broker: StuckBroker, clock: ShiftedClock) -> None:
        self.broker = broker
        self.clock = clock
        self._url = url

    async def ask(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as http, http.get(f"{self._url}{path}") as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def role(tmp_path: Path) -> AsyncIterator[Role]:
    async with await Simulator.start() as simulator:
        settings = settings_for(simulator)
        async with open_parts(settings, log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as own:
            await create_topics(own, partitions=2, replication=None)
            broker, clock = StuckBroker(own.broker), ShiftedClock()
            parts = msgspec.structs.replace(own, broker=broker, clock=clock)
            stopping = asyncio.Event()
            listening = listen("127.0.0.1", 0, option="--status-port")
            async with asyncio.TaskGroup() as group:
                group.create_task(serve_status(parts, stopping, listening=listening))
                working = group.create_task(run_worker(parts, stopping, name="one"))
                try:
                    yield Role("http://{}:{}".format(*listening.getsockname()[:2]), broker, clock)
                finally:
                    stopping.set()
                    if any(consumer.is_stuck for consumer in broker.consumers):
                        working.cancel()


async def test_it_answers_what_prometheus_a_supervisor_and_a_balancer_ask_and_nothing_else(role: Role) -> None:
    async def is_working() -> bool:
        return "pabal_in_flight" in (await role.ask("/metrics"))[1]

    await eventually_told(is_working)
    names = {family.name for family in text_string_to_metric_families((await role.ask("/metrics"))[1])}

    assert {"pabal_in_flight", "pabal_build_info", "process_cpu_seconds"} <= names
    assert [(await role.ask(path))[0] for path in ("/healthz", "/readyz")] == [200, 200]
    assert [(await role.ask(path))[0] for path in ("/v1/notifications", "/docs", "/")] == [404, 404, 404]


async def test_a_worker_that_does_not_poll_any_more_is_not_healthy_and_names_the_group(role: Role) -> None:
    await eventually(lambda: role.broker.consumers)
    role.clock.ahead += timedelta(seconds=AILING_SECONDS / 2)
    assert (await role.ask("/healthz"))[0] == 200

    for consumer in role.broker.consumers:
        consumer.is_stuck = True

    async def is_ailing() -> str:
        role.clock.ahead += timedelta(seconds=AILING_SECONDS)
        status, text = await role.ask("/healthz")
        return text if status == 503 else ""

    text = await eventually_told(is_ailing)

    assert "pabal.worker.webhook.critical has not polled for" in text


async def test_it_is_on_this_machine_alone_unless_the_configuration_says_otherwise() -> None:
    assert (StatusSettings().host, StatusSettings().port, Settings().status) == ("127.0.0.1", None, StatusSettings())


@pytest.mark.parametrize("role", ["worker", "delayline", "recorder", "monitor"])
def test_a_port_that_is_taken_ends_the_role_with_the_option_that_chooses_another(tmp_path: Path, role: str) -> None:
    async def create() -> None:
        async with open_parts(Settings(), log_url=log_url, data=tmp_path) as own:
            await create_topics(own, partitions=1, replication=None)

    log_url, config = f"sqlite:{tmp_path / 'log.db'}", tmp_path / "pabal.toml"
    asyncio.run(create())
    with socket.create_server(("127.0.0.2", 0)) as by_default, socket.create_server(("127.0.0.2", 0)) as by_option:
        default, chosen = (each.getsockname()[1] for each in (by_default, by_option))
        config.write_text(f'[status]\nhost = "127.0.0.2"\nport = {default}\n')
        where = ("--log", log_url, "--data", str(tmp_path), "--config", str(config))

        for port, options in ((default, ()), (chosen, ("--status-port", str(chosen)))):
            ended = CliRunner().invoke(main, [role, *where, *options])

            said = f"cannot listen on 127.0.0.2:{port} (Address already in use; choose another with --status-port)"
            assert (ended.exit_code, said in ended.output) == (1, True), ended.output

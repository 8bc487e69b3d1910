import asyncio
import socket
from pathlib import Path

import pytest
from starlette.applications import Starlette

from pabal.clock import SystemClock
from pabal.compose.listening import listen
from pabal.compose.parts import open_parts
from pabal.compose.providers import make_carriers
from pabal.compose.topics import create_topics
from pabal.compose.worker import run_worker
from pabal.config import ChannelOverrides, Settings, WeightedProvider
from pabal.errors import ConfigError
from pabal.serving.server import serve


async def status_line(address: tuple[str, int]) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.split(b"\r\n")[0]


async def test_a_cancelled_server_no_longer_accepts() -> None:
    listening = listen("127.0.0.1", 0, option="--port")
    address = listening.getsockname()
    serving = asyncio.create_task(serve(Starlette(), listening=listening, stopping=asyncio.Event()))
    assert await status_line(address) == b"HTTP/1.1 404 Not Found"

    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving

    with pytest.raises(ConnectionRefusedError):
        await status_line(address)

    assert listening.fileno() == -1


async def test_a_server_that_is_asked_to_stop_closes_its_socket() -> None:
    listening = listen("127.0.0.1", 0, option="--port")
    stopping = asyncio.Event()
    stopping.set()

    await serve(Starlette(), listening=listening, stopping=stopping)

    assert listening.fileno() == -1


def test_a_port_that_is_taken_names_the_option_that_chooses_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(ConfigError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1], option="--port")


async def test_a_channel_that_is_switched_off_has_no_topics(tmp_path: Path) -> None:
    settings = Settings(channel_overrides={"email": ChannelOverrides(enabled=False)})

    async with open_parts(settings, log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as parts:
        made = await create_topics(parts, partitions=1, replication=None)

    assert "pabal.deliveries.webhook.bulk" in made

    assert not [name for name in made if "email" in name]


def test_a_worker_asked_for_a_channel_that_is_switched_off_hears_which_there_are() -> None:
    settings = Settings(channel_overrides={"email": ChannelOverrides(enabled=False)})

    with pytest.raises(ConfigError, match="no channel 'email' here; there are: webhook"):
        make_carriers(settings, clock=SystemClock(), channels=("email",))


async def test_a_worker_whose_templates_are_missing_opens_no_ledger(tmp_path: Path) -> None:
    settings = Settings(
        templates=str(tmp_path / "nowhere"), channel_overrides={"email": ChannelOverrides(enabled=False)}
    )

    async with open_parts(settings, log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as parts:
        with pytest.raises(ConfigError, match="nowhere"):
            await run_worker(parts, asyncio.Event(), name="worker-1")

    assert not (tmp_path / "ledger.db").exists()


SMTP = {"kind": "smtp", "host": "mx.example.com", "sender": "a@example.com"}


def test_a_channel_may_have_several_providers_also_of_one_kind() -> None:
    settings = Settings(
        channel_overrides={
            "email": ChannelOverrides(
                providers=(WeightedProvider(name="main", weight=9), WeightedProvider(name="backup"))
            )
        },
        providers={"main": SMTP, "backup": {**SMTP, "rate_per_second": 5.0}},
    )

    carrier = make_carriers(settings, clock=SystemClock(), channels=("email",))["email"]

    carried_by = [(each.provider_name, each.weight, each.rate_per_second) for each in (carrier, *carrier.others)]
    assert carried_by == [("main", 9, None), ("backup", 1, 5.0)]


def test_a_wrong_setting_is_named_by_the_table_it_stands_in() -> None:
    settings = Settings(
        channel_overrides={"email": ChannelOverrides(provider="backup")}, providers={"backup": {**SMTP, "port": 0}}
    )

    with pytest.raises(ConfigError, match=r"^\$\.providers\.backup\.port"):
        make_carriers(settings, clock=SystemClock(), channels=("email",))


def test_a_provider_of_another_channel_is_refused() -> None:
    settings = Settings(channel_overrides={"email": ChannelOverrides(provider="webhook")})

    with pytest.raises(ConfigError, match="'webhook' carries webhook, not email"):
        make_carriers(settings, clock=SystemClock(), channels=("email",))

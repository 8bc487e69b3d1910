import asyncio
import contextlib
import re
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from pabal.cli.compose import listen
from pabal.cli.up import Greeting, _inbox_if_needed, _member_name
from pabal.config import Settings


async def test_any_free_port_will_do_for_the_inbox_and_mail_goes_there() -> None:
    settings = Settings()
    greeting = Greeting(log_url="", api_url="", inbox_url="http://127.0.0.1", key=None)

    page = listen("127.0.0.1", 0, option="--inbox-port")
    async with _inbox_if_needed(settings, greeting, asyncio.Event(), page=page, smtp_port=0) as complete:
        smtp = complete.providers["smtp"]
        _, writer = await asyncio.open_connection(smtp["host"], smtp["port"])
        writer.close()
        await writer.wait_closed()

    assert smtp["port"] > 0


@pytest.mark.timeout(60)
async def test_with_port_0_it_prints_where_everything_really_is(tmp_path: Path) -> None:
    ports = ["--port", "0", "--inbox-port", "0", "--smtp-port", "0"]

    async with running("up", "--data", str(tmp_path), *ports) as process, aiohttp.ClientSession() as http:
        said = await read_until(process, "Ctrl-C ends it")
        found = dict(re.findall(r"^ +(API|inbox) +(http://127\.0\.0\.1:\d+)", said, re.MULTILINE))
        answers = [(await http.get(url)).status for url in (f"{found['API']}/healthz", found["inbox"])]

    assert answers == [200, 200]
    assert "no API key" not in said


@pytest.mark.timeout(60)
async def test_without_any_api_key_both_that_serve_the_api_say_so_and_how_to_make_one(tmp_path: Path) -> None:
    config = tmp_path / "pabal.toml"
    config.write_text("")
    common = ["--data", str(tmp_path), "--config", str(config), "--port", "0"]

    async with running("up", *common, "--inbox-port", "0", "--smtp-port", "0") as process:
        up_said = await read_until(process, "Ctrl-C ends it")
    async with running("api", *common, "--log", f"sqlite:{tmp_path / 'log.db'}") as process:
        api_said = await read_until(process, "pabal key new --tenant NAME")

    assert re.search("^  key    no API key is configured.* pabal key new --tenant NAME$", up_said, re.MULTILINE)
    assert api_said.startswith("api listens on http://")


@contextlib.asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Process]:
    """A `pabal` in a process of its own, asked to end afterwards."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pabal", *arguments, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.communicate()


async def read_until(process: Process, words: str) -> str:
    """What it prints, up to the line with these words."""
    assert process.stdout is not None
    said = ""
    async with asyncio.timeout(40):
        while words not in said:
            line = (await process.stdout.readline()).decode()
            assert line, f"it ended, having said:\n{said}"
            said += line
    return said


def test_up_is_named_by_its_host_on_a_log_that_hosts_share(tmp_path: Path) -> None:
    assert _member_name("kafka://kafka-1:9092") == f"up-{socket.gethostname()}"

    assert _member_name(f"sqlite:{tmp_path / 'log.db'}") == "up"

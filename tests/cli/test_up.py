import asyncio
import re
import socket
import sys
from asyncio.subprocess import PIPE
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
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pabal", "up", "--data", str(tmp_path), *ports, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None

    found: dict[str, str] = {}
    async with asyncio.timeout(40), aiohttp.ClientSession() as http:
        while found.keys() != {"API", "inbox"}:
            line = (await process.stdout.readline()).decode()
            assert line, "it ended"
            found |= re.findall(r"^ +(API|inbox) +(http://127\.0\.0\.1:\d+)", line)
        answers = [(await http.get(url)).status for url in (f"{found['API']}/healthz", found["inbox"])]
        process.terminate()
        await process.communicate()

    assert answers == [200, 200]


def test_up_is_named_by_its_host_on_a_log_that_hosts_share(tmp_path: Path) -> None:
    assert _member_name("kafka://kafka-1:9092") == f"up-{socket.gethostname()}"

    assert _member_name(f"sqlite:{tmp_path / 'log.db'}") == "up"

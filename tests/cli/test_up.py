import asyncio
import contextlib
import re
import socket
import stat
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from pabal.cli.greeting import Greeting
from pabal.cli.main import main
from pabal.cli.up import _how_to_change_it, _member_name
from pabal.compose.inbox import inbox_if_needed
from pabal.compose.listening import SocketAddress, listen_on
from pabal.config import Settings
from tests.waiting import eventually_told


async def test_any_free_port_will_do_for_the_inbox_and_mail_goes_there() -> None:
    settings = Settings()
    addresses = [SocketAddress(host="127.0.0.1", port=0, option=option) for option in ("--inbox-port", "--smtp-port")]
    with listen_on(addresses) as sockets:
        async with inbox_if_needed(settings, asyncio.Event(), sockets=sockets) as complete:
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
        answers = []
        for url in (f"{found['API']}/healthz", found["inbox"]):
            async with http.get(url) as answer:
                answers.append(answer.status)

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


@pytest.mark.timeout(90)
async def test_a_configuration_of_ones_own_begins_with_all_that_the_first_start_had(tmp_path: Path) -> None:
    data, config = tmp_path / "data", tmp_path / "pabal.toml"
    ports = ["--port", "0", "--inbox-port", "0", "--smtp-port", "0"]

    async with running("up", "--data", str(data), *ports) as process:
        first = await read_until(process, "Ctrl-C ends it")
    made = CliRunner().invoke(main, ["init", str(config), "--data", str(data)])
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "shipped.toml").write_text('title = "Order {{ order }} shipped"\nbody = "!"\n')
    own = config.read_text().replace('# templates = "templates"', f'templates = "{tmp_path / "templates"}"')
    config.write_text(own.replace("Pabal <pabal@pabal.example>", "Ana's Shop <shop@shop.example>"))
    async with running("up", "--data", str(data), "--config", str(config), *ports) as process:
        second = await read_until(process, "Ctrl-C ends it")
        found = dict(re.findall(r"^ +(API|inbox|key) +(\S+)", second, re.MULTILINE))
        to = [
            {"channel": "email", "address": "ana@example.com"},
            {"channel": "webhook", "address": f"{found['inbox']}/hook/shop"},
        ]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {found['key']}"}) as http:
            body = {"to": to, "template": "shipped", "data": {"order": 17}}
            async with http.post(f"{found['API']}/v1/notifications", json=body) as answer:
                assert answer.status == 202, await answer.text()

            async def read(path: str) -> Any:
                async with http.get(f"{found['inbox']}/{path}") as answer:
                    return await answer.json()

            async def arrived() -> Any:
                messages = (await read("messages.json"))["messages"]
                return messages if len(messages) == 2 else None

            messages = await eventually_told(arrived)
            [mail] = [each["id"] for each in messages if each["kind"] == "email"]
            seen = await read(f"messages/{mail}.json")

    assert made.exit_code == 0, made.output
    assert command_in(first) == command_in(second)
    assert [each["signature"]["verdict"] for each in messages if each["kind"] == "webhook"] == ["valid"]
    assert dict(seen["headers"])["From"] == "Ana's Shop <shop@shop.example>"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700


def command_in(said: str) -> str:
    """The command that is printed to be pasted, without the ports."""
    [command] = re.findall(r"^curl .*$", said, re.MULTILINE)
    return re.sub(r":\d+/", ":PORT/", command)


@pytest.mark.timeout(60)
async def test_a_fast_ladder_is_said_at_every_start_and_kept_from_a_log_that_others_share(tmp_path: Path) -> None:
    ports = ["--port", "0", "--inbox-port", "0", "--smtp-port", "0"]

    async with running("up", "--data", str(tmp_path), "--fast", *ports) as process:
        fast = await read_until(process, "Ctrl-C ends it")
    async with running("up", "--data", str(tmp_path), *ports) as process:
        usual = await read_until(process, "Ctrl-C ends it")
    refused = CliRunner().invoke(main, ["up", "--data", str(tmp_path), "--fast", "--log", "kafka://127.0.0.1:1"])

    assert re.search(
        "^  fast   every class tries again after 5 s, then 5 s, then gives up .*--fast", fast, re.MULTILINE
    )
    assert "--fast" not in usual
    assert (refused.exit_code, refused.output[:49]) == (1, "Error: --fast is for trying out on the embedded l")


def test_a_configuration_in_this_folder_is_not_taken_unasked_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    alone = _how_to_change_it()
    (tmp_path / "pabal.toml").touch()

    assert alone == "to change it, make it your own: pabal init"
    assert _how_to_change_it() == "not pabal.toml, which is here: --config pabal.toml"


def test_up_is_named_by_its_host_on_a_log_that_hosts_share(tmp_path: Path) -> None:
    assert _member_name("kafka://kafka-1:9092") == f"up-{socket.gethostname()}"

    assert _member_name(f"sqlite:{tmp_path / 'log.db'}") == "up"


def test_the_page_gets_the_first_command_without_the_key_and_the_terminal_with_it(tmp_path: Path) -> None:
    key_file = tmp_path / "a folder" / "development.key"
    key_file.parent.mkdir()
    key_file.write_text("pabal_secret\n")
    greeting = Greeting(log_url="", api_url="http://here", inbox_url=None, key="pabal_secret", key_file=key_file)

    command = greeting.command_for_page()

    assert command is not None
    assert "pabal_secret" not in command
    spoken = subprocess.run(
        ["bash", "-c", command.replace("curl ", "printf '%s|' ")], capture_output=True, text=True, check=True
    )
    assert "|Authorization: Bearer pabal_secret|" in spoken.stdout
    assert 'Authorization: Bearer pabal_secret"' in greeting.first_command(key="pabal_secret")

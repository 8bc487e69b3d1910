"""A channel of somebody else's, with its provider: installed as its own package, and everything follows from that."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pabal-channel-ntfy"

SAY_IT = """
import sys
from pathlib import Path
from pabal.config import load_settings
from pabal.errors import ConfigError
from pabal.template import parse_template
from pabal.topics.spec import topics_for

settings = load_settings(Path(sys.argv[1]), environment={})
print(settings.channels["ntfy"].provider, settings.channels["ntfy"].concurrency)
print(*[spec.name for spec in topics_for(settings.channels, partitions=1, replication=None) if "ntfy" in spec.name])
try:
    parse_template("alert", '[ntfy]\\nmessage = "x"\\npriority = "{{ p }}"\\n[sample]\\np = 9', path="alert.toml")
except ConfigError as error:
    print(error)
"""

ALERT = """
body = "Disk full on {{ host }}"

[ntfy]
priority = "{{ priority }}"

[sample]
host = "db-2"
priority = 4
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which the package is installed; ours stays as it is."""
    target = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    _run([*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(EXAMPLE)], environment=os.environ)
    return {**os.environ, "PYTHONPATH": str(target)}


def _run(command: list[str], *, environment: Mapping[str, str], directory: Path = ROOT, status: int = 0) -> str:
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.timeout(90)
def test_both_parts_pass_the_public_contracts(installed: Mapping[str, str]) -> None:
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]

    printed = _run(pytest_run, environment=installed, directory=EXAMPLE)

    assert " passed" in printed


@pytest.mark.timeout(90)
def test_its_defaults_and_topics_follow_and_an_unknown_channel_is_answered_with_what_there_is(
    installed: Mapping[str, str], tmp_path: Path
) -> None:
    config, wrong = tmp_path / "pabal.toml", tmp_path / "wrong.toml"
    config.write_text("")
    wrong.write_text("[channels.nfty]\nenabled = true\n")

    said = _run([sys.executable, "-c", SAY_IT, str(config)], environment=installed).splitlines()
    refused = _run([sys.executable, "-c", SAY_IT, str(wrong)], environment=installed, status=1)

    assert said[0] == "ntfy 20"
    assert said[1].split() == [
        "pabal.deliveries.ntfy.critical",
        "pabal.deliveries.ntfy.standard",
        "pabal.deliveries.ntfy.bulk",
        "pabal.dead.ntfy",
    ]
    assert said[2] == "alert.toml: ntfy: does not render to what ntfy can say: Expected `int` <= 5 - at `$.priority`"
    assert "there is no channel 'nfty'; there are: email, ntfy, webhook - at `$.channels.nfty`" in refused


@pytest.mark.timeout(120)
async def test_a_notification_reaches_its_server_from_a_content_and_from_a_template(
    installed: Mapping[str, str], tmp_path: Path
) -> None:
    received: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

    async def receive(request: web.Request) -> web.Response:
        received.put_nowait(await request.json())
        return web.json_response({"id": "m-1"})

    application = web.Application()
    application.router.add_post("/", receive)
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "alert.toml").write_text(ALERT)
    to = [{"channel": "ntfy", "address": "backups"}]
    said = {"title": "Backup failed", "body": "Disk full", "ntfy": {"priority": 5, "click": "https://a.example/"}}
    async with TestServer(application) as server:
        config = f'templates = "{templates}"\n[providers.ntfy]\nurl = "{server.make_url("/")}"\n'
        async with _up(installed, tmp_path, config) as (api, http):
            taken = await _ask(http, api, {"to": to, "content": said})
            from_content = await asyncio.wait_for(received.get(), 20)
            templated = await _ask(http, api, {"to": to, "template": "alert", "data": {"host": "db-1", "priority": 2}})
            from_template = await asyncio.wait_for(received.get(), 20)
            wrong = [
                await _ask(http, api, {"to": to, "content": {"body": "x", "ntfy": {"priority": 9}}}),
                await _ask(http, api, {"to": to, "content": {"title": "x"}}),
                await _ask(http, api, {"to": [{"channel": "nfty", "address": "backups"}], "content": {"body": "x"}}),
            ]
            async with http.get(f"{api}/openapi.json") as answer:
                document = await answer.json()

    assert (taken["status"], templated["status"]) == (202, 202)
    assert from_content == {
        "topic": "backups",
        "title": "Backup failed",
        "message": "Disk full",
        "priority": 5,
        "click": "https://a.example/",
    }
    assert from_template == {"topic": "backups", "message": "Disk full on db-1", "priority": 2}
    flaws = [each["errors"][0] for each in wrong]
    assert [(flaw["path"], flaw["code"]) for flaw in flaws] == [
        ("$.content.ntfy.priority", "invalid_field"),
        ("$.content", "unusable_content"),
        ("$.to[0].channel", "unknown_channel"),
    ]
    assert flaws[2]["message"] == "there is no channel 'nfty' here; there are: email, ntfy, webhook"
    schemas = document["components"]["schemas"]
    assert schemas["Recipient"]["properties"]["channel"]["enum"] == ["email", "ntfy", "webhook"]
    assert set(schemas["RequestedNtfy"]["properties"]) == {"message", "click", "priority"}
    assert set(schemas["NtfyContent"]["properties"]) == {"message", "click", "priority"}


async def _ask(http: aiohttp.ClientSession, api: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    async with http.post(f"{api}/v1/notifications", json=body) as answer:
        return {"status": answer.status, **await answer.json()}


@contextlib.asynccontextmanager
async def _up(
    environment: Mapping[str, str], folder: Path, config: str
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    """`pabal up` until the context ends: its API, and a client with its key."""
    pabal = str(Path(sys.executable).with_name("pabal"))
    _run([pabal, "init"], environment=environment, directory=folder)
    file = folder / "pabal.toml"
    head, _, tables = config.partition("\n")
    file.write_text(f"{head}\n{file.read_text()}\n{tables}")
    ports = ["--port", "0", "--inbox-port", "0", "--smtp-port", "0", "--config", "pabal.toml"]
    process = await asyncio.create_subprocess_exec(
        *(pabal, "up", *ports), cwd=folder, env=environment, stdout=PIPE, stderr=STDOUT
    )
    try:
        assert process.stdout is not None
        printed = (await process.stdout.readuntil(b"Ctrl-C ends it")).decode()
        found = dict(re.findall(r"^ +(API|key) +(\S+)", printed, re.MULTILINE))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {found['key']}"}) as http:
            yield found["API"], http
    finally:
        process.terminate()
        await process.communicate()

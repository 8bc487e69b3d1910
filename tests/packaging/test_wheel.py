"""The wheel alone is Pabal: every file is in it, and installed by pip without a clone it starts and answers.

The environments are new and hold nothing but the wheel. What `pabal[all]` requires is found where this one has it (a
`.pth` file; ours is not seen through it, as it is installed editable); of what `pabal` requires, a link to each
package. So no registry is asked, and pip finds a requirement that is not declared. That the locks can be installed, and
from scratch, is for test_tomorrow.py and test_containers.py.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Mapping
from importlib import metadata
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.waiting import eventually_told

ROOT = Path(__file__).parents[2]
BARE = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON", "PABAL"))}

pytestmark = [pytest.mark.timeout(120), pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours, as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    _run(sys.executable, "-m", "pip", "wheel", *options, str(ROOT), directory=folder)
    [built] = folder.glob("pabal-*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment, with the wheel and every extra installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    _install(f"{wheel}[all]", folder)
    return folder


@pytest.fixture(scope="module")
def base(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment, with the wheel installed and no extra."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    for name in _needed("pabal") - {"pabal"} | {"pip"}:
        for path in {
            file.parts[0] for file in metadata.files(name) or () if file.parts[0] not in ("..", "__pycache__")
        }:
            (packages / path).symlink_to(Path(sysconfig.get_path("purelib")) / path)
    _install(str(wheel), folder)
    return folder


def _needed(name: str) -> set[str]:
    """The package and all that it requires without an extra, by canonical name."""
    found, waiting = set[str](), [Requirement(name)]
    while waiting:
        wanted = waiting.pop()
        if (key := canonicalize_name(wanted.name)) in found:
            continue
        found.add(key)
        every = [Requirement(text) for text in metadata.requires(key) or ()]
        waiting += [
            each
            for each in every
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))
        ]
    return found


def _install(what: str, folder: Path) -> None:
    # Not `--no-deps`: pip has to find that all the wheel requires is there.
    _run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-index", what, directory=folder)


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    source = ROOT / "src"
    ours = {str(path.relative_to(source)) for path in source.glob("pabal/**/*") if path.is_file()}

    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("pabal/")}

    assert inside == {name for name in ours if "__pycache__" not in name}


def test_its_suites_are_what_a_third_party_can_use_for_a_log_a_channel_or_a_provider(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        modules = {Path(name).stem for name in archive.namelist() if name.startswith("pabal/testing/")}

    suites = {name for name in modules if not name.startswith("_")}
    assert suites == {"broker", "broker_process", "channels", "providers"}


def test_what_runs_is_the_wheels(environment: Path, tmp_path: Path) -> None:
    place = _run(str(environment / "bin/python"), "-c", "import pabal; print(pabal.__file__)", directory=tmp_path)

    assert place.startswith(str(environment))


async def test_it_starts_takes_a_notification_and_shows_the_mail(environment: Path, tmp_path: Path) -> None:
    async with _up(environment, tmp_path) as (found, http):
        await _send(found["API"], http, to={"channel": "email", "address": "ana@example.com"})

        for page in (found["inbox"], f"{found['API']}/docs", f"{found['API']}/openapi.json"):
            async with http.get(page) as answer:
                assert answer.status == 200, page


async def test_without_an_extra_it_starts_and_sends_on_the_embedded_log(base: Path, tmp_path: Path) -> None:
    received = []

    async def receive(request: web.Request) -> web.Response:
        received.append(await request.json())
        return web.Response()

    application = web.Application()
    application.router.add_post("/hook", receive)
    pabal = str(base / "bin/pabal")
    _run(pabal, "init", directory=tmp_path)
    config = tmp_path / "pabal.toml"
    without_mail = re.sub(r"(?s)\[providers.smtp\].*?\n\n", "", config.read_text())
    config.write_text(f"{without_mail}\n[channels.email]\nenabled = false\n")
    async with TestServer(application) as server, _up(base, tmp_path, "--config", "pabal.toml") as (found, http):
        await _send(found["API"], http, to={"channel": "webhook", "address": str(server.make_url("/hook"))})

    assert len(received) == 1
    assert "inbox" not in found


def test_without_an_extra_each_command_answers_and_the_inbox_says_what_it_needs(base: Path, tmp_path: Path) -> None:
    pabal = str(base / "bin/pabal")
    commands = re.findall(
        r"^  (\w+) ", _run(pabal, "--help", directory=tmp_path).partition("Commands:")[2], re.MULTILINE
    )
    for command in commands:
        _run(pabal, command, "--help", directory=tmp_path)

    refused = subprocess.run([pabal, "up"], cwd=tmp_path, env=BARE, capture_output=True, text=True, timeout=60)

    assert {"up", "worker", "doctor"} <= set(commands)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("run: pip install 'pabal[inbox]'")


@contextlib.asynccontextmanager
async def _up(
    environment: Path, folder: Path, *options: str
) -> AsyncIterator[tuple[Mapping[str, str], aiohttp.ClientSession]]:
    """`pabal up` until the context ends: what it printed, by the word before it, and a client with its key."""
    ports = ["--port", "0", "--inbox-port", "0", "--smtp-port", "0"]
    process = await asyncio.create_subprocess_exec(
        str(environment / "bin/pabal"), "up", *ports, *options, cwd=folder, env=BARE, stdout=PIPE, stderr=STDOUT
    )
    try:
        assert process.stdout is not None
        said = (await process.stdout.readuntil(b"Ctrl-C ends it")).decode()
        found = dict(re.findall(r"^ +(API|inbox|key) +(\S+)", said, re.MULTILINE))
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {found['key']}"}) as http:
            yield found, http
    finally:
        process.terminate()
        await process.communicate()


async def _send(api: str, http: aiohttp.ClientSession, *, to: Mapping[str, str]) -> None:
    """Ask for one notification, and wait until it is sent."""
    content = {"title": "Order 17 shipped", "body": "It arrives tomorrow."}
    body = {"to": [to], "class": "standard", "content": content}
    async with http.post(f"{api}/v1/notifications", json=body) as answer:
        assert answer.status == 202
        delivery = (await answer.json())["deliveries"][0]["id"]

    async def is_sent() -> bool:
        async with http.get(f"{api}/v1/deliveries/{delivery}?wait=4") as answer:
            return answer.status == 200 and (await answer.json())["status"] == "sent"

    await eventually_told(is_sent)


def _run(*command: str, directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, env=BARE, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

"""The wheel alone is Pabal: every file is in it, and installed by pip without a clone it starts and answers.

The environment is new and holds nothing but the wheel. What Pabal requires is found where this one has it (a `.pth`
file; ours is not seen through it, as it is installed editable), so that no registry is asked. That the locks can be
installed, and from scratch, is for test_tomorrow.py and test_containers.py.
"""

import asyncio
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path

import aiohttp
import pytest

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
    """A new environment, with the wheel installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")
    # Not `--no-deps`: pip has to find that all the wheel requires is there.
    _run(str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-index", str(wheel), directory=folder)
    return folder


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    source = ROOT / "src"
    ours = {str(path.relative_to(source)) for path in source.glob("pabal/**/*") if path.is_file()}

    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("pabal/")}

    assert inside == {name for name in ours if "__pycache__" not in name}


def test_what_runs_is_the_wheels(environment: Path, tmp_path: Path) -> None:
    place = _run(str(environment / "bin/python"), "-c", "import pabal; print(pabal.__file__)", directory=tmp_path)

    assert place.startswith(str(environment))


async def test_it_starts_takes_a_notification_and_shows_the_mail(environment: Path, tmp_path: Path) -> None:
    ports = ["--port", "0", "--inbox-port", "0", "--smtp-port", "0"]
    process = await asyncio.create_subprocess_exec(
        str(environment / "bin/pabal"), "up", *ports, cwd=tmp_path, env=BARE, stdout=PIPE, stderr=STDOUT
    )
    try:
        assert process.stdout is not None
        said = (await process.stdout.readuntil(b"Ctrl-C ends it")).decode()
        found = dict(re.findall(r"^ +(API|inbox|key) +(\S+)", said, re.MULTILINE))
        headers = {"Authorization": f"Bearer {found['key']}"}
        content = {"title": "Order 17 shipped", "body": "It arrives tomorrow."}
        body = {"to": [{"channel": "email", "address": "ana@example.com"}], "class": "standard", "content": content}

        async with aiohttp.ClientSession(headers=headers) as http:
            async with http.post(f"{found['API']}/v1/notifications", json=body) as answer:
                assert answer.status == 202
                delivery = (await answer.json())["deliveries"][0]["id"]

            async def is_sent() -> bool:
                async with http.get(f"{found['API']}/v1/deliveries/{delivery}?wait=4") as answer:
                    return answer.status == 200 and (await answer.json())["status"] == "sent"

            await eventually_told(is_sent)
            for page in (found["inbox"], f"{found['API']}/docs", f"{found['API']}/openapi.json"):
                async with http.get(page) as answer:
                    assert answer.status == 200, page
    finally:
        process.terminate()
        await process.communicate()


def _run(*command: str, directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, env=BARE, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

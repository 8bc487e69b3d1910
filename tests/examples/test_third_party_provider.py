"""A provider of somebody else's: installed as its own package, found by its entry point, held to the contract."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "pabal-provider-logfile"

USE_IT = """
import asyncio, sys
from pabal.channels.port import Rendered
from pabal.clock import SystemClock
from pabal.providers.port import ProviderContext
from pabal.providers.registry import create_provider

async def main():
    provider = create_provider("logfile", options={"path": sys.argv[1]}, context=ProviderContext(clock=SystemClock()))
    print(await provider.send(Rendered(body="{}"), to="https://example.com/", tenant="acme", idempotency_key="key-1"))
    await provider.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment in which the package is installed; ours stays as it is."""
    target = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    _run([*pip, "--no-deps", "--no-build-isolation", "--target", str(target), str(EXAMPLE)], environment=os.environ)
    return {**os.environ, "PYTHONPATH": str(target)}


def _run(command: list[str], *, environment: Mapping[str, str], directory: Path = ROOT) -> str:
    done = subprocess.run(command, env=environment, cwd=directory, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(90)
def test_the_registry_finds_an_installed_package_and_it_sends(installed: Mapping[str, str], tmp_path: Path) -> None:
    path = tmp_path / "webhooks.jsonl"

    printed = _run([sys.executable, "-c", USE_IT, str(path)], environment=installed, directory=tmp_path)

    assert printed.startswith("Accepted(")
    assert '"key":"key-1"' in path.read_text()


@pytest.mark.timeout(90)
def test_it_passes_the_public_contract(installed: Mapping[str, str]) -> None:
    pytest_run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]

    printed = _run([*pytest_run], environment=installed, directory=EXAMPLE)

    assert " passed" in printed

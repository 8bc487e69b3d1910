"""A run that is cut short leaves nothing behind: no process, no folder."""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest
from bench.lab import ROOT
from chaos.disk import refusal_apart

from tests.chaos.lacking import skip_for_lack_of
from tests.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

APART = """
from chaos.apart import conduct_apart, run_to_its_end
from chaos.run import QUICK
from chaos.scenarios import SCENARIOS
[disk_full] = [each for each in SCENARIOS if each.name == "disk-full"]
run_to_its_end(conduct_apart(disk_full, log="embedded", size=QUICK))
"""


async def cut_short(command: list[str], *, by: signal.Signals, folder: Path) -> None:
    """Start a run, and once its worker is there, end it; then look for what is left of its process group."""
    environment = {**os.environ, "TMPDIR": str(folder)}
    running = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, env=environment, start_new_session=True
    )
    try:
        await eventually(lambda: list(folder.glob("*/*-worker-1.log")), within_seconds=30)

        running.send_signal(by)

        assert await asyncio.wait_for(running.wait(), 30) != 0
        with pytest.raises(ProcessLookupError):
            os.killpg(running.pid, 0)
        assert left_in(folder) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        await running.wait()


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("pabal-chaos-*"))


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
async def test_asked_to_end_it_ends_every_role_it_started(tmp_path: Path, by: signal.Signals) -> None:
    await cut_short(["-m", "chaos", "worker-in-a-burst", "--log", "embedded"], by=by, folder=tmp_path)


async def test_so_does_a_run_in_namespaces_of_its_own(tmp_path: Path) -> None:
    if reason := refusal_apart():
        skip_for_lack_of("small disk in namespaces", reason)

    await cut_short(["-c", APART], by=signal.SIGTERM, folder=tmp_path)

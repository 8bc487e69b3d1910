"""A run where it may be made: in this process, or in namespaces in which one who is not root may mount a disk.

`python -m chaos.apart NAME LOG SIZE KEEP` is the process in the namespaces; it prints the row as JSON.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, get_args

import msgspec
from bench.lab import ROOT

from chaos import disk, run
from chaos.account import Log, Row
from chaos.run import Scenario, Size
from chaos.scenarios import SCENARIOS


async def conduct(scenario: Scenario, *, log: Log, size: Size, keep: bool = False) -> Row:
    """Run a scenario on a log. Whatever goes wrong stands in the row's problems."""
    if not scenario.setting.has_small_disk or disk.refusal_here() is None:
        return await run.conduct(scenario, log=log, size=size, keep=keep)
    if reason := disk.missing():
        return Row(failure=scenario.title, log=log, quick=size.is_quick, problems=(f"it could not be run: {reason}",))
    return await conduct_apart(scenario, log=log, size=size, keep=keep)


async def conduct_apart(scenario: Scenario, *, log: Log, size: Size, keep: bool = False) -> Row:
    """The same in a process of its own, which is root in its namespaces and nowhere else."""
    arguments = [scenario.name, log, msgspec.json.encode(size).decode(), "keep" if keep else "clear"]
    command = [*disk.NAMESPACES, sys.executable, "-m", "chaos.apart", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=ROOT)
    try:
        printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # And not killed: it has roles to end.
            await process.wait()
    if process.returncode != 0:
        problem = f"the run apart ended with {process.returncode}"
        return Row(failure=scenario.title, log=log, quick=size.is_quick, problems=(problem,))
    return msgspec.json.decode(printed, type=Row)


def run_to_its_end(work: Coroutine[Any, Any, Row]) -> Row:
    """`asyncio.run`; SIGTERM ends it as Ctrl-C does, in order: no role, disk or folder outlives it."""

    async def main() -> Row:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await work

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def main(arguments: list[str]) -> None:
    """Make one run and print its row."""
    name, log, size, keep = arguments
    [scenario] = [each for each in SCENARIOS if each.name == name]
    [on] = [each for each in get_args(Log) if each == log]
    made = run_to_its_end(
        run.conduct(scenario, log=on, size=msgspec.json.decode(size, type=Size), keep=keep == "keep"),
    )
    os.write(sys.stdout.fileno(), msgspec.json.encode(made))


if __name__ == "__main__":
    main(sys.argv[1:])

"""docs/ten-minutes.md, run as it stands: each command in its terminal, each answer compared with what the page shows.

A block `sh terminal-2` is typed into one shell that stays; in the other terminals a program runs until Ctrl-C. A block
`text` shows what the block before it prints, `…` stands for anything. Only the ports differ from the page.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.flow.processes import free_port

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "ten-minutes.md"
PORTS = {"8080": "--port", "8025": "--inbox-port", "1025": "--smtp-port"}
SIMULATOR_PORTS = {"9080": "--port", "9025": "--smtp-port", "9081": "--control-port"}
WITHIN_SECONDS = 60.0
"""For one block; the longest waits for a dead letter, ten seconds."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Step(NamedTuple):
    """One block of commands, and what the page shows of their output ("": nothing)."""

    terminal: int
    commands: str
    shown: str


def steps_of(page: str) -> Iterator[Step]:
    """The page's blocks in their order; every block is one or the other."""
    blocks = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", page, re.MULTILINE)
    for index, (info, text) in enumerate(blocks):
        if match := re.fullmatch(r"sh terminal-([123])", info):
            following = blocks[index + 1] if index + 1 < len(blocks) else ("", "")
            yield Step(int(match[1]), text, following[1] if following[0] == "text" else "")
        else:
            assert (info, blocks[index - 1][0][:11]) == ("text", "sh terminal"), f"a block that is not run:\n{text}"


def as_pattern(shown: str) -> re.Pattern[str]:
    """What the page shows, as a search: blanks at the ends of lines do not count."""
    lines = "\n".join(line.rstrip() for line in shown.splitlines())
    return re.compile(".*?".join(re.escape(part.strip("\n")) for part in lines.split("…")), re.DOTALL)


class Terminals:
    """The three terminals of the page, in a folder that looks like a clone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {port: str(free_port()) for port in (*PORTS, *SIMULATOR_PORTS)}
        for name in ("Makefile", "pyproject.toml", "requirements"):
            (folder / name).symlink_to(ROOT / name)
        # Installed already: this is newer than what the Makefile would compare it with.
        (folder / ".venv").mkdir()
        (folder / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
        (folder / ".venv" / ".runtime").touch()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PABAL_", "MAKE", "OTEL_"))}
        self._environment = {**kept, "COLUMNS": "200"}
        self._programs: dict[int, Process] = {}
        self._shell: Process | None = None

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, folder: Path) -> AsyncIterator["Terminals"]:
        """Terminals that are closed at the end, and nothing stays running in them."""
        terminals = cls(folder)
        try:
            yield terminals
        finally:
            for process in [*terminals._programs.values(), *filter(None, [terminals._shell])]:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def on_free_ports(self, text: str) -> str:
        """The page's words with this run's ports."""
        for port, own in self._ports.items():
            text = text.replace(f":{port}", f":{own}")
        options = " ".join(f"{option} {self._ports[port]}" for port, option in PORTS.items())
        text = text.replace('make up ARGS="', f'make up ARGS="{options} ')
        options = " ".join(f"{option} {self._ports[port]}" for port, option in SIMULATOR_PORTS.items())
        return text.replace("pabal simulator", f"pabal simulator {options}")

    async def take(self, step: Step) -> None:
        """Type the commands, and see what the page shows."""
        commands, pattern = self.on_free_ports(step.commands), as_pattern(self.on_free_ports(step.shown))
        if step.terminal == 2:
            printed = await self._type(commands)
            assert pattern.search(printed), f"$ {commands}{printed}\n-- the page shows --\n{step.shown}"
            return
        await self._end(step.terminal)
        program = self._programs[step.terminal] = await self._start("bash", "-c", commands, stdin=DEVNULL)
        await self._read(program, lambda printed: pattern.search(printed) is not None, what=step.shown)

    async def end(self) -> None:
        """Ctrl-C in every terminal where a program runs: each ends well."""
        for number in tuple(self._programs):
            await self._end(number)

    async def _start(self, *arguments: str, stdin: int) -> Process:
        return await asyncio.create_subprocess_exec(
            *arguments,
            cwd=self._folder,
            env=self._environment,
            stdin=stdin,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )

    async def _end(self, number: int) -> None:
        program = self._programs.pop(number, None)
        if program is not None:
            os.killpg(program.pid, signal.SIGINT)
            async with asyncio.timeout(WITHIN_SECONDS):
                printed, _ = await program.communicate()
            assert "Traceback" not in printed.decode()

    async def _type(self, commands: str) -> str:
        """What the shell prints; the last of the commands must succeed."""
        if self._shell is None:
            self._shell = await self._start("bash", "--noprofile", "--norc", stdin=PIPE)
        assert self._shell.stdin is not None
        self._shell.stdin.write(f'{commands}\necho "<<done $?>>"\n'.encode())
        printed = await self._read(self._shell, lambda text: "<<done " in text, what="an end")
        assert printed.endswith("<<done 0>>\n"), printed
        return "\n".join(line.rstrip() for line in printed.splitlines())

    async def _read(self, process: Process, enough: Callable[[str], bool], *, what: str) -> str:
        assert process.stdout is not None
        printed = ""
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                while not enough(printed):
                    line = await process.stdout.readline()
                    assert line, f"it ended, having printed:\n{printed}"
                    printed += line.decode()
        except TimeoutError:
            pytest.fail(f"not within {WITHIN_SECONDS} s:\n{what}\n-- but --\n{printed}")
        return printed


async def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    steps = list(steps_of(PAGE.read_text(encoding="utf-8")))

    async with Terminals.opened(tmp_path) as terminals:
        for step in steps:
            await terminals.take(step)
        await terminals.end()

    assert {step.terminal for step in steps} == {1, 2, 3}
    assert sum(bool(step.shown) for step in steps) >= 10


def test_the_readme_leads_there() -> None:
    assert "(docs/ten-minutes.md)" in (ROOT / "README.md").read_text(encoding="utf-8").split("## The same on Kafka")[0]

"""`python -m attack.watched FILE up …`: a pabal command whose event loop is watched from inside.

The watch notes in FILE the longest time in which the loop did not come round: on the wall, which other programs on the
machine lengthen, and in CPU time of the loop's own thread, which they do not.
"""

import asyncio
import mmap
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import patch

import msgspec

from pabal import runtime
from pabal.cli.main import main

_TICK_SECONDS = 0.005
_LAYOUT = struct.Struct("dd")


class Stall(msgspec.Struct, frozen=True, kw_only=True):
    """The longest stall of a loop, in seconds on the wall and of its thread's CPU time."""

    wall_seconds: float
    cpu_seconds: float


class StallFile:
    """The longest stall so far, shared by the watched process and the one that looks."""

    def __init__(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size < _LAYOUT.size:
            path.write_bytes(bytes(_LAYOUT.size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _LAYOUT.size)

    def read(self) -> Stall:
        """The longest since `forget`."""
        wall, cpu = _LAYOUT.unpack_from(self._map)
        return Stall(wall_seconds=wall, cpu_seconds=cpu)

    def forget(self) -> None:
        """Begin anew."""
        _LAYOUT.pack_into(self._map, 0, 0.0, 0.0)

    def note(self, *, wall: float, cpu: float) -> None:
        """One turn of the loop took that long."""
        longest = self.read()
        if wall > longest.wall_seconds or cpu > longest.cpu_seconds:
            _LAYOUT.pack_into(self._map, 0, max(wall, longest.wall_seconds), max(cpu, longest.cpu_seconds))


async def watch(file: StallFile) -> None:
    """Note how late the loop comes round, until cancelled."""
    while True:
        wall, cpu = time.monotonic(), time.thread_time()
        await asyncio.sleep(_TICK_SECONDS)
        file.note(wall=time.monotonic() - wall - _TICK_SECONDS, cpu=time.thread_time() - cpu)


def _run_watched(path: Path) -> Callable[[Callable[[asyncio.Event], Awaitable[None]]], None]:
    def run(role: Callable[[asyncio.Event], Awaitable[None]]) -> None:
        async def with_watch(stopping: asyncio.Event) -> None:
            watching = asyncio.create_task(watch(StallFile(path)))
            try:
                await role(stopping)
            finally:
                watching.cancel()

        runtime.run(with_watch)

    return run


if __name__ == "__main__":
    with patch("pabal.cli.options.run", _run_watched(Path(sys.argv.pop(1)))):
        main()

"""A wall clock that steps for whole processes, while the machine's stays: `wall_clock.c`, preloaded.

libfaketime would be the usual tool. Its release of Debian 12 (0.9.10) breaks Python's `time.sleep` when it is to leave
the monotonic clock alone (its issue 426), and it does not know the waits that librdkafka makes, so that these end at
once or an hour later for as long as the clock is off.
"""

import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from chaos.failed import RunFailed

_SOURCE = Path(__file__).with_suffix(".c")
_NAME = "CHAOS_WALL_CLOCK"


class WallClock:
    """The wall clock of the processes that are started with its `environment`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where its files are put. Raises RunFailed where they cannot be made; the message says why."""
        if reason := missing():
            raise RunFailed(reason)
        self._file = folder / "wall-clock"
        self._file.write_bytes(struct.pack("=q", 0))
        self._library = folder / "wall-clock.so"
        command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", str(self._library), str(_SOURCE), "-ldl"]
        built = subprocess.run(command, capture_output=True, text=True)
        if built.returncode != 0:
            raise RunFailed(f"{_SOURCE.name} was not built: {built.stderr}")

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process has to be started with."""
        return {"LD_PRELOAD": str(self._library), _NAME: str(self._file)}

    def step(self, offset_seconds: int) -> None:
        """Set it so far from the machine's, at once for every process."""
        with self._file.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), struct.pack("=q", offset_seconds), 0)


def missing() -> str | None:
    """Why no process's clock can be stepped here, or None."""
    if shutil.which("cc") is None:
        return "no C compiler, with which the wall clock of a process is stepped (Debian: apt install gcc libc6-dev)"
    return None

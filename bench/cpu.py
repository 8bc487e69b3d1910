"""CPU time and memory of processes, children included."""

import time
from collections.abc import Iterable, Mapping

import msgspec
import psutil


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """CPU-seconds (user + system) by process name since some start, and the wall time that passed."""

    cpu_seconds: dict[str, float]
    wall_seconds: float

    @property
    def total_cpu_seconds(self) -> float:
        """Of all processes together."""
        return sum(self.cpu_seconds.values())

    def per_thousand(self, count: int, *names: str) -> float:
        """CPU-seconds per 1,000 of `count`, of the named processes (none named: all)."""
        used = sum(used for name, used in self.cpu_seconds.items() if not names or name in names)
        return used / count * 1000


class Meter:
    """Counts from its making on. A process that ends meanwhile must be a child of one that does not."""

    def __init__(self, processes: Mapping[str, Iterable[int]]) -> None:
        self._processes = {name: [psutil.Process(pid) for pid in pids] for name, pids in processes.items()}
        self._started = time.monotonic()
        self._before = self._read()

    def usage(self) -> Usage:
        """What was used since."""
        now = self._read()
        return Usage(
            cpu_seconds={name: now[name] - self._before[name] for name in now},
            wall_seconds=time.monotonic() - self._started,
        )

    def _read(self) -> dict[str, float]:
        return {name: sum(_cpu_seconds(process) for process in each) for name, each in self._processes.items()}


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    own = times.user + times.system
    ended_children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    living = 0.0
    for child in process.children():
        try:
            living += _cpu_seconds(child)
        except psutil.NoSuchProcess:
            continue  # it has just ended; its time is in its parent's next reading
    return own + ended_children + living


def memory_mb(pid: int) -> float:
    """Resident memory of a process and its children, in MB (10⁶ bytes)."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True))) / 1e6

"""The processes of an installation, from what each tells of itself. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pabal.groups import ROLE_NAMES, RoleName
from pabal.monitor.samples import Owner, Place
from pabal.status.records import ProcessStatus
from pabal.status.reporter import REPORT_EVERY_SECONDS
from pabal.telemetry.meter import Snapshot

SILENT_SECONDS: Final = 3 * REPORT_EVERY_SECONDS
"""A process that has told nothing for three periods is silent."""

FORGET_SECONDS: Final = 86_400.0
"""A process that was not heard of for a day is forgotten, as its records are (the retention of `pabal.status`)."""

MOST_PROCESSES: Final = 2_000
"""Beyond this many the longest silent are forgotten: instances come from the log, and the memory is ours."""


class Process(msgspec.Struct, frozen=True, kw_only=True):
    """A process: its last status, when that came (on the boot clock), and the last figures that it told."""

    status: ProcessStatus
    heard_at: float
    figures: Snapshot = Snapshot()

    def silent_for(self, now: float) -> float:
        """Seconds since its last status."""
        return max(now - self.heard_at, 0.0)

    def is_running(self, now: float) -> bool:
        """Whether it told lately that it runs."""
        return self.status.state == "running" and self.silent_for(now) < SILENT_SECONDS


class MissingRole(msgspec.Struct, frozen=True, kw_only=True):
    """A role of which fewer processes report than are expected. `last`: the process of it that was heard of last."""

    role: RoleName
    expected: int
    running: int
    last: Process | None


class Fleet:
    """Takes statuses in, in the order of the log."""

    def __init__(self) -> None:
        self._processes: dict[str, Process] = {}

    def note(self, status: ProcessStatus, *, now: float, age_seconds: float = 0.0) -> None:
        """Take in a status that was appended `age_seconds` ago. `now` is on the boot clock."""
        before = self._processes.pop(status.instance, None)
        figures = status.figures
        if figures is None:
            is_same = before is not None and before.status.started_at == status.started_at
            figures = before.figures if before is not None and is_same else Snapshot()
        self._processes[status.instance] = Process(status=status, heard_at=now - age_seconds, figures=figures)
        while len(self._processes) > MOST_PROCESSES:
            del self._processes[next(iter(self._processes))]

    def forget_old(self, now: float) -> None:
        """Forget the processes that were not heard of for a day."""
        self._processes = {
            name: each for name, each in self._processes.items() if each.silent_for(now) < FORGET_SECONDS
        }

    def processes(self) -> Sequence[Process]:
        """Every process that is known, by instance."""
        return [self._processes[name] for name in sorted(self._processes)]

    def owners(self, now: float) -> Mapping[Place, Owner]:
        """What the running processes tell of the partitions that they own."""
        owners = {}
        for process in self._processes.values():
            if not process.is_running(now):
                continue
            for group in process.status.groups:
                for topic, partition, ended, highest in map(msgspec.structs.astuple, group.partitions):
                    owners[Place(group.group, topic, partition)] = Owner(
                        is_polling=group.is_polling, held=group.held, ended=ended, highest_ended=highest
                    )
        return owners

    def expected(self, expected: Mapping[RoleName, int]) -> Mapping[RoleName, int]:
        """How many processes of each role should run: as `expected` says; else one of each role that was seen."""
        seen = {role for process in self._processes.values() for role in process.status.roles}
        return {role: expected.get(role, int(role in seen)) for role in ROLE_NAMES}

    def missing(self, expected: Mapping[RoleName, int], now: float) -> Sequence[MissingRole]:
        """The roles of which fewer processes run than are expected.

        A process that stopped in order may be away as long as a silent one: a restart misses nothing.
        """
        running: Counter[RoleName] = Counter()
        last: dict[RoleName, Process] = {}
        for process in sorted(self._processes.values(), key=lambda each: each.heard_at):
            for role in process.status.roles:
                last[role] = process
                running[role] += process.silent_for(now) < SILENT_SECONDS
        return [
            MissingRole(role=role, expected=wanted, running=running[role], last=last.get(role))
            for role, wanted in self.expected(expected).items()
            if running[role] < wanted
        ]

"""Tells the status of this process: every ten seconds, at once when something changes, and when it stops."""

import asyncio
import logging
import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import msgspec

from pabal import __version__
from pabal.broker.port import Producer
from pabal.clock import Clock
from pabal.errors import LogError
from pabal.groups import RoleName
from pabal.ops.follower import OpsFollower
from pabal.status.records import GroupStatus, ProcessStatus, status_record
from pabal.telemetry.meter import Meter, Snapshot
from pabal.telemetry.table import METRICS

logger = logging.getLogger(__name__)

REPORT_EVERY_SECONDS: Final = 10.0
"""How often a process tells its status when nothing changes."""

WHOLE_EVERY_SECONDS: Final = 60.0
"""How often a status has its figures although they did not change: a monitor that takes over reads minutes, no more."""

LOOK_EVERY_SECONDS: Final = 1.0
"""How often the reporter looks whether something has changed."""

APPEND_SECONDS: Final = 3.0
"""The deadline of an append. A status that is late is worth little; the next one says more."""

Groups = Callable[[], Iterable[GroupStatus]]
"""Tells how the groups of a role stand."""


class Reporter:
    """The status of one process. Its roles enter as they start, and say how their groups stand when asked.

    A log that is away costs nothing but the status: the process goes on counting, and its `/metrics` go on.
    """

    def __init__(self, *, producer: Producer, meter: Meter, ops: OpsFollower, clock: Clock, instance: str) -> None:
        """`instance`: the name of this process among those that run."""
        self.instance = instance
        self._producer = producer
        self._meter = meter
        self._ops = ops
        self._clock = clock
        self._started_at = clock.now()
        self._roles: dict[RoleName, Groups] = {}
        self._ailments: list[Callable[[], Sequence[str]]] = []
        self._told: ProcessStatus | None = None
        self._told_at = -math.inf
        self._told_figures: Snapshot | None = None
        self._whole_at = -math.inf
        self._is_away = False

    def enter(
        self, role: RoleName, *, groups: Groups = tuple, ailments: Callable[[], Sequence[str]] | None = None
    ) -> None:
        """A role of this process runs. `ailments`: what of it has died or stands still (`Broker.ailments`)."""
        self._roles[role] = groups
        if ailments is not None:
            self._ailments.append(ailments)

    def ailments(self) -> Sequence[str]:
        """What of this process's roles has died or stands still, in words; empty: nothing."""
        return [each for ask in self._ailments for each in ask()]

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            pause = LOOK_EVERY_SECONDS
            try:
                await self.look()
            except Exception:  # The boundary: nothing that is sent depends on a status.
                logger.exception("a defect: the status of this process could not be told")
                pause = REPORT_EVERY_SECONDS
            await asyncio.sleep(pause)

    async def look(self) -> None:
        """Tell, if it is time or something has changed. Before a role has entered there is nothing to tell."""
        if not self._roles:
            return
        status = self._now()
        is_due = self._clock.boot_seconds() - self._told_at >= REPORT_EVERY_SECONDS
        if is_due or self._told is None or _asked_about(status) != _asked_about(self._told):
            await self._append(status, figures=self._figures())

    async def say_stopped(self) -> None:
        """Tell that this process stops in order. A log that is away is not waited for."""
        if self._told is not None:
            await self._append(msgspec.structs.replace(self._now(), state="stopped"), figures=self._figures())

    async def _append(self, status: ProcessStatus, *, figures: Snapshot) -> None:
        # Most figures of an idle process do not change: the fleet keeps those that were told before.
        is_new = figures != self._told_figures or self._clock.boot_seconds() - self._whole_at >= WHOLE_EVERY_SECONDS
        record = status_record(msgspec.structs.replace(status, figures=figures if is_new else None))
        try:
            await self._producer.append([record])
        except LogError as error:
            log = logger.debug if self._is_away else logger.warning
            log("cannot tell the status of this process: %s", error)
            self._is_away = True
        else:
            self._is_away = False
            self._told_figures = figures
            if is_new:
                self._whole_at = self._clock.boot_seconds()
        self._told, self._told_at = status, self._clock.boot_seconds()

    def _now(self) -> ProcessStatus:
        return ProcessStatus(
            instance=self.instance,
            roles=tuple(self._roles),
            version=__version__,
            state="running",
            at=self._clock.now(),
            started_at=self._started_at,
            groups=tuple(group for groups in self._roles.values() for group in groups()),
            open=tuple(
                "/".join(labels) for labels, value in self._meter.read_gauge("pabal_provider_open").items() if value
            ),
            ops_offset=self._ops.applied_offset,
        )

    def _figures(self) -> Snapshot:
        """What the meter counted, without zeros and without what the monitor finds on the log."""
        snapshot = self._meter.snapshot()
        return Snapshot(
            numbers=tuple(
                each
                for each in snapshot.numbers
                if each.value and math.isfinite(each.value) and METRICS[each.name].counted_in != ("monitor",)
            ),
            histograms=snapshot.histograms,
        )


def _asked_about(status: ProcessStatus) -> object:
    """What an operator would ask about, of all that a status tells."""
    groups: Collection[object] = [
        (each.group, each.is_polling, each.held, [(own.topic, own.partition) for own in each.partitions])
        for each in status.groups
    ]
    return (status.roles, groups, status.open, status.ops_offset)

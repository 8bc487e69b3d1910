"""The background task of one process's hold on an embedded log: leases, dead members, cleaning."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pabal.broker.sqlite import groups
from pabal.broker.sqlite.cleaning import Runner, claim_chore, clean
from pabal.broker.sqlite.doorbell import Doorbell
from pabal.clock import Clock
from pabal.errors import LogError

CLEAN_EVERY_SECONDS = 60.0

STILL_SECONDS = 60.0
"""So long may a member not be polled, in a process whose log works: every role polls at least every few seconds."""

_logger = logging.getLogger(__name__)


class Leaseholder(Protocol):
    """What the keeper asks of a membership in a group."""

    def lease(self) -> tuple[int, float] | None:
        """Its member id, and for how many seconds from now it lives; None if it is no member or gave up."""
        ...

    def renewed(self, lease_ends: float) -> None:
        """Its lease goes on until then, on the boot-time clock."""
        ...

    def fence(self) -> None:
        """It is a member no more."""
        ...

    def unpolled_seconds(self) -> float:
        """How long no poll has come, or a poll has gone on beyond its time; 0 before the first."""
        ...

    @property
    def group(self) -> str:
        """The group's name."""
        ...


class Keeper:
    """Renews the leases of this process's members, evicts members whose lease ended (here or elsewhere), and has the
    log cleaned now and then. `look` is called at every turn, in case a ring of the doorbell was lost."""

    def __init__(
        self,
        runner: Runner,
        doorbell: Doorbell,
        *,
        clock: Clock,
        session_seconds: float,
        look: Callable[[], None],
    ) -> None:
        self.leaseholders: set[Leaseholder] = set()
        """The memberships of this process."""
        self._runner = runner
        self._doorbell = doorbell
        self._clock = clock
        self._session_seconds = session_seconds
        self._look = look
        self.task = asyncio.create_task(self._keep(), name="pabal-log-keeper")

    def unpolled_groups(self) -> list[str]:
        """The groups whose member in this process is not polled any more."""
        return [each.group for each in self.leaseholders if each.unpolled_seconds() > STILL_SECONDS]

    async def _keep(self) -> None:
        clean_at = self._clock.boot_seconds() + CLEAN_EVERY_SECONDS
        tick = self._session_seconds / 3
        while True:
            pause = tick
            try:
                pause = min(tick, await self._beat())
                # A ring may be lost: not every process need see the same directory.
                self._doorbell.mend()
                self._look()
                if self._clock.boot_seconds() >= clean_at:
                    clean_at = self._clock.boot_seconds() + CLEAN_EVERY_SECONDS
                    await self._clean_in_turn()
            except LogError as error:
                _logger.warning("leases were not renewed, or nothing was cleaned: %s", error)
            except Exception:
                # A defect. A keeper that ended would cost every member of this process its partitions.
                _logger.exception("leases were not renewed, or nothing was cleaned")
            await asyncio.sleep(pause)

    async def _beat(self) -> float:
        """Renew leases; how soon to look whether another's has ended."""
        leases = {lease[0]: (lease[1], each) for each in self.leaseholders if (lease := each.lease())}
        if not leases:
            return self._session_seconds
        now = self._clock.boot_seconds()
        seconds = {member: seconds for member, (seconds, _) in leases.items()}
        heartbeat = await self._runner.write(partial(groups.beat, leases=seconds, process=self._doorbell.name))
        for member, (remaining, leaseholder) in leases.items():
            if member in heartbeat.fenced:
                leaseholder.fence()
            else:
                leaseholder.renewed(now + remaining)
        return self._session_seconds if heartbeat.next_end_seconds is None else heartbeat.next_end_seconds

    async def _clean_in_turn(self) -> None:
        """Clean, unless another process has just done it."""
        if await self._runner.write(partial(claim_chore, name="clean", every_seconds=CLEAN_EVERY_SECONDS)):
            await clean(self._runner, clock=self._clock, is_due_only=True)

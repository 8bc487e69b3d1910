"""Asks a channel's guard again while something waits for it: circuits reopen and rates go on by time alone."""

import asyncio
from collections.abc import Callable, Collection

from pabal.clock import Clock
from pabal.guard import Guard
from pabal.worker.intake import Intake
from pabal.worker.waiting import WaitingRoom

LOOK_EVERY_SECONDS = 0.05
"""How often the guard is asked again while something waits for it."""


class Lookout:
    """Looks every few hundredths of a second while there is a reason to, and holds the intakes back while every
    provider refuses."""

    def __init__(
        self,
        *,
        guard: Guard,
        waiting: WaitingRoom,
        start: Callable[[], None],
        has_free_slot: Callable[[], bool],
        clock: Clock,
    ) -> None:
        """`start` fills the call slots with what may go."""
        self._guard = guard
        self._waiting = waiting
        self._start = start
        self._has_free_slot = has_free_slot
        self._clock = clock
        self._intakes: Collection[Intake] = ()
        self._look_at: float | None = None

    def attend(self, intakes: Collection[Intake]) -> None:
        """These read the channel's partitions."""
        self._intakes = intakes

    def look_soon(self) -> None:
        """Look in a moment, once."""
        if self._look_at is None and not self._waiting.is_stopped:
            loop = asyncio.get_running_loop()
            self._look_at = loop.time() + LOOK_EVERY_SECONDS
            loop.call_at(self._look_at, self._look)

    def _look(self) -> None:
        assert self._look_at is not None
        was_late = asyncio.get_running_loop().time() - self._look_at > LOOK_EVERY_SECONDS
        self._look_at = None
        # A late look means that this process was busy or stopped: calls may have ended that it has not seen yet.
        held_back = None if was_late else sum(intake.held_back for intake in self._intakes)
        self._waiting.look(held_back=held_back)
        self._start()
        is_shut = self._guard.is_shut()
        is_held = is_shut and not self._lacks_probe()
        for intake in self._intakes:
            intake.hold("guard") if is_held else intake.let_go("guard")
        if is_shut or self._waiting.awaits_guard:
            self.look_soon()

    def _lacks_probe(self) -> bool:
        """Whether nothing is at hand that could find out whether a shut provider is back. Then some must be read."""
        # What stands in a queue was refused just now, and is no probe.
        return (
            self._has_free_slot()
            and not self._waiting.is_refused
            and self._guard.lets_probe(self._clock.boot_seconds())
        )

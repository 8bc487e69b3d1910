"""What a recorder does beside recording: it forgets what is old, and looks for unaccounted deliveries."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from pabal.clock import Clock
from pabal.errors import StoreUnavailable
from pabal.store.port import Store

logger = logging.getLogger(__name__)

PRUNE_EVERY_SECONDS: Final = 600.0
LOOK_EVERY_SECONDS: Final = 60.0
REMIND_AFTER_SECONDS: Final = 3600.0
"""An alarm that stands is raised again after this long, an alarm that changes at once."""

_MOST_COUNTED = 10_000


class Upkeep:
    """The upkeep of one store. `unaccounted` is how many deliveries were unaccounted at the last look.
    `dead_letters_open` is how many deliveries of each channel were open dead letters then; None before the first look.
    """

    def __init__(self, store: Store, *, retention: timedelta, clock: Clock) -> None:
        """`retention` is how long a delivery that ended is remembered."""
        self.unaccounted = 0
        self.dead_letters_open: Mapping[str, int] | None = None
        self._store = store
        self._retention = retention
        self._clock = clock
        self._alarmed_at = float("-inf")

    async def prune(self) -> None:
        """Forget what is old, now and then, for ever."""
        while True:
            try:
                pruned = await self._store.prune(before=self._clock.now() - self._retention)
            except StoreUnavailable as error:
                logger.warning("cannot forget what is old yet: %s", error)
            else:
                if pruned:
                    logger.info("forgot %d deliveries that ended long ago", pruned)
            await asyncio.sleep(PRUNE_EVERY_SECONDS)

    async def look(self, *, is_current: Callable[[], bool]) -> None:
        """Look for unaccounted deliveries, now and then, for ever; not while the store is behind the log: then it does
        not say yet how they ended."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            if is_current():
                await self.look_for_unaccounted()
                await self.count_dead_letters()

    async def count_dead_letters(self) -> None:
        """Count the open dead letters: those that were neither redriven nor discarded."""
        try:
            self.dead_letters_open = await self._store.dead_letters_open()
        except StoreUnavailable as error:
            logger.warning("cannot count dead letters yet: %s", error)

    async def look_for_unaccounted(self) -> None:
        """Count the unaccounted deliveries, and raise an alarm if there is one."""
        try:
            found = await self._store.unaccounted(now=self._clock.now(), limit=_MOST_COUNTED)
        except StoreUnavailable as error:
            logger.warning("cannot look for unaccounted deliveries yet: %s", error)
            return
        now = self._clock.boot_seconds()
        is_new = len(found) != self.unaccounted
        self.unaccounted = len(found)
        if found and (is_new or now - self._alarmed_at >= REMIND_AFTER_SECONDS):
            self._alarmed_at = now
            logger.error(
                "%d deliveries are unaccounted: their time is over and no record says how they ended. The oldest is "
                "%s (%s, expired %s). See docs/store.md, Unaccounted",
                len(found),
                found[0].id,
                found[0].channel,
                found[0].expires_at or "at an unknown time",
            )

"""Clears `pabal.ops` of old recoveries: the workers that wrote them may be gone."""

import asyncio
import contextlib
import logging
from datetime import timedelta
from typing import Final

from pabal.broker.port import Producer
from pabal.clock import Clock
from pabal.errors import LogError
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.notification import OPS_TOPIC
from pabal.ops.recoveries import Recoveries, relapse_record

logger = logging.getLogger(__name__)

CLEAR_EVERY_SECONDS: Final = 1.0
"""How often old recoveries are looked for; to find none costs nothing."""


class RecoveryClearing:
    """Takes back the recoveries that a fold knows of, once no delivery waits for them any more."""

    def __init__(self, recoveries: Recoveries, *, producer: Producer, clock: Clock) -> None:
        self._recoveries = recoveries
        self._producer = producer
        self._clock = clock

    async def run(self, stopping: asyncio.Event) -> None:
        """Clear until told to stop."""
        while not stopping.is_set():
            try:
                await self.clear()
            except LogError as error:
                logger.warning("cannot clear %s of old recoveries yet: %s", OPS_TOPIC, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), CLEAR_EVERY_SECONDS)

    async def clear(self) -> None:
        """Take back what is older than the longest park. Raises LogError."""
        old = self._recoveries.older_than(self._clock.now() - timedelta(seconds=LONGEST_PARK_SECONDS))
        if old:
            await self._producer.append([relapse_record(key) for key in old])
            self._recoveries.forget(old)

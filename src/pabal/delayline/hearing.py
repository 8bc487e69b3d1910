"""What the delay line hears of callees that are back: it follows `pabal.ops`, beside its own loop."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from pabal.broker.port import Producer, Reader
from pabal.clock import Clock
from pabal.errors import DecodeError, LogError
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.notification import OPS_TOPIC
from pabal.ops import LOOK_EVERY_SECONDS, OpsTail
from pabal.recoveries import Recovery, is_about_recovery, read_recovery, relapse_record
from pabal.unreadable import Unreadable

logger = logging.getLogger(__name__)


class Hearing:
    """Reads what workers say of callees that are back, and tells it on. What cannot be heard is no harm.

    Clears the topic of what is so old that nobody waits for it, whoever said it: workers come and go.
    """

    def __init__(
        self,
        *,
        reader: Reader,
        producer: Producer,
        clock: Clock,
        tell: Callable[[Mapping[bytes, Recovery | None]], None],
    ) -> None:
        """`tell` is given the recoveries by key, None where one was taken back (`DelayLine.hear`)."""
        self.unreadable = Unreadable("recoveries")
        self._ops = OpsTail(reader)
        self._producer = producer
        self._clock = clock
        self._tell = tell
        self._known: dict[bytes, datetime] = {}

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until told to stop."""
        try:
            while not stopping.is_set():
                try:
                    await self.hear()
                    await self.clear()
                except LogError as error:
                    logger.warning("cannot follow %s: %s", OPS_TOPIC, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_EVERY_SECONDS)
        finally:
            await self._producer.close()

    async def hear(self) -> None:
        """Tell on what was said since the last time. Raises LogError."""
        heard: dict[bytes, Recovery | None] = {}
        try:
            async for record in self._ops.read_on():
                if record.key is None or not is_about_recovery(record):
                    continue
                try:
                    recovery = read_recovery(record)
                except DecodeError as error:
                    self.unreadable.note(record, error)
                    continue
                if recovery is not None and record.key in heard and heard[record.key] is None:
                    self._tell(heard)  # That it had failed in between must not get lost: its steps begin anew.
                    heard = {}
                heard[record.key] = recovery
                self._remember(record.key, recovery)
        finally:
            if heard:  # Also when the log went away in the middle: it is not read again.
                self._tell(heard)

    async def clear(self) -> None:
        """Take back what is too old for anybody to wait for it. Raises LogError."""
        oldest = self._clock.now() - timedelta(seconds=LONGEST_PARK_SECONDS)
        old = [key for key, at in self._known.items() if at < oldest]
        if old:
            await self._producer.append([relapse_record(key) for key in old])
            for key in old:
                self._known.pop(key, None)

    def _remember(self, key: bytes, recovery: Recovery | None) -> None:
        if recovery is None:
            self._known.pop(key, None)
        else:
            self._known[key] = recovery.at

"""What the delay line hears of callees that are back: it follows `pabal.ops`, beside its own loop."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping

from pabal.broker.port import Reader
from pabal.errors import DecodeError, LogError
from pabal.notification import OPS_TOPIC
from pabal.ops import LOOK_EVERY_SECONDS, OpsTail
from pabal.recoveries import Recovery, is_about_recovery, read_recovery

logger = logging.getLogger(__name__)


class Hearing:
    """Reads what workers say of callees that are back, and tells it on. What cannot be heard is no harm."""

    def __init__(self, *, reader: Reader, tell: Callable[[Mapping[bytes, Recovery | None]], None]) -> None:
        """`tell` is given the recoveries by key, None where one was taken back (`DelayLine.hear`)."""
        self._ops = OpsTail(reader)
        self._tell = tell

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until told to stop."""
        while not stopping.is_set():
            try:
                await self.hear()
            except LogError as error:
                logger.warning("cannot read %s: %s", OPS_TOPIC, error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), LOOK_EVERY_SECONDS)

    async def hear(self) -> None:
        """Tell on what was said since the last time. Raises LogError."""
        heard: dict[bytes, Recovery | None] = {}
        async for record in self._ops.read_on():
            if record.key is None or not is_about_recovery(record):
                continue
            try:
                heard[record.key] = read_recovery(record)
            except DecodeError as error:
                logger.warning("%s@%d: %s", OPS_TOPIC, record.offset, error)
        if heard:
            self._tell(heard)

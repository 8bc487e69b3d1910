"""What a worker says of callees that answer again, so that the delay line releases early what was parked for them."""

import asyncio
import logging

from pabal.broker.port import NewRecord, Producer
from pabal.clock import Clock
from pabal.errors import LogError
from pabal.guard import LONGEST_PARK_SECONDS, Callee
from pabal.ops.recoveries import Recovery, recovery_key, recovery_record, relapse_record

logger = logging.getLogger(__name__)


class RecoveryNotices:
    """Says in `pabal.ops` when a callee of one worker answers again, and takes it back when the callee fails again."""

    def __init__(self, *, producer: Producer, clock: Clock) -> None:
        self._producer = producer
        self._clock = clock
        self._unsaid: dict[bytes, NewRecord] = {}
        self._said: dict[bytes, float] = {}
        self._is_news = asyncio.Event()

    def on_change(self, channel: str, callee: Callee) -> None:
        """The circuit of a callee has changed. This is said if a delivery was parked for it here."""
        key = recovery_key(channel, callee.name)
        if callee.state == "closed" and callee.has_parked:
            self._said[key] = self._clock.boot_seconds()
            self._say(key, recovery_record(Recovery(channel=channel, callee=callee.name, at=self._clock.now())))
        elif callee.state == "open" and self._said.pop(key, None) is not None:
            self._say(key, relapse_record(key))

    async def run(self) -> None:
        """Say what is news, all that there is at once, until cancelled.

        What cannot be said is left unsaid: parked deliveries come back when they are due.
        """
        while True:
            await self._is_news.wait()
            self._is_news.clear()
            self._forget_old()
            records, self._unsaid = [*self._unsaid.values()], {}
            try:
                await self._producer.append(records)
            except LogError as error:
                logger.warning("what was parked for %d callees comes back as it is due: %s", len(records), error)

    def _say(self, key: bytes, record: NewRecord) -> None:
        self._unsaid[key] = record
        self._is_news.set()

    def _forget_old(self) -> None:
        """Forget recoveries that no delivery waits for any more; the delay line clears the topic of them."""
        oldest = self._clock.boot_seconds() - LONGEST_PARK_SECONDS
        self._said = {key: at for key, at in self._said.items() if at >= oldest}

"""What a command sees of an installation without being its monitor: the statuses, and the samples kept with them."""

import asyncio
from datetime import timedelta
from typing import Final

from pabal.broker.port import Admin, Reader
from pabal.clock import Clock
from pabal.errors import UnknownTopic
from pabal.monitor.sample_log import WHOLE_EVERY_SECONDS
from pabal.monitor.sampling import Sampler
from pabal.monitor.watching import Watching
from pabal.monitor.windows import SAMPLE_EVERY_SECONDS
from pabal.notification import STATUS_TOPIC
from pabal.tail import HistoryTail

LOOK_BACK: Final = timedelta(hours=1)
"""How much of `pabal.status` is read: a role that was there within the hour is expected."""

RECENT: Final = timedelta(minutes=2)
"""How much is read for what processes hold now: their figures are told again within a minute."""

_KEPT_SECONDS: Final = WHOLE_EVERY_SECONDS + 2 * SAMPLE_EVERY_SECONDS
"""A monitor keeps a sample at least so often. A window that ends before that is the window of one that is gone."""

_BETWEEN_SECONDS: Final = 0.2
"""Between two samples where no monitor keeps any: enough to see whether anything moves, short enough to wait for."""


class Onlooker:
    """Reads `pabal.status` on, at each look."""

    def __init__(self, *, reader: Reader, admin: Admin, clock: Clock, look_back: timedelta = LOOK_BACK) -> None:
        """`look_back`: how much of what was told before is read at the first look."""
        self.watching = Watching(clock=clock)
        self._clock = clock
        self._tail = HistoryTail(STATUS_TOPIC, reader=reader, admin=admin, start=clock.now() - look_back)
        self._samples_itself = False

    async def look(self) -> Watching:
        """What is known now. A log without the topic (another system's) tells nothing. Raises LogError."""
        try:
            async for record in self._tail.read_on():
                self.watching.note_record(record, is_replayed=not self._samples_itself)
        except UnknownTopic:
            pass
        return self.watching

    async def look_and_sample(self, sampler: Sampler) -> Watching:
        """Likewise, with a sample of this moment. The first one follows the window that a monitor has kept; without a
        monitor two samples are taken, so that something can be said of movement. Raises LogError."""
        watching = await self.look()
        if not self._samples_itself:
            self._samples_itself = True
            kept_until = watching.windows.sampled_at
            if kept_until is None or self._clock.boot_seconds() - kept_until > _KEPT_SECONDS:
                watching.forget_samples()
                watching.note_sample(await sampler.take(watching.owners()))
                await asyncio.sleep(_BETWEEN_SECONDS)
        watching.note_sample(await sampler.take(watching.owners()))
        return watching

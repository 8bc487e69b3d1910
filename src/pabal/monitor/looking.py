"""What a command sees of an installation without being its monitor: the statuses, and the samples kept with them."""

from datetime import timedelta
from typing import Final

from pabal.broker.port import Admin, Reader
from pabal.clock import Clock
from pabal.errors import UnknownTopic
from pabal.monitor.watching import Watching
from pabal.notification import STATUS_TOPIC
from pabal.tail import HistoryTail

LOOK_BACK: Final = timedelta(hours=1)
"""How much of `pabal.status` is read: a role that was there within the hour is expected."""

RECENT: Final = timedelta(minutes=2)
"""How much is read for what processes hold now: their figures are told again within a minute."""


class Onlooker:
    """Reads `pabal.status` on, at each look."""

    def __init__(self, *, reader: Reader, admin: Admin, clock: Clock, look_back: timedelta = LOOK_BACK) -> None:
        """`look_back`: how much of what was told before is read at the first look."""
        self.watching = Watching(clock=clock)
        self._tail = HistoryTail(STATUS_TOPIC, reader=reader, admin=admin, start=clock.now() - look_back)

    async def look(self) -> Watching:
        """What is known now. A log without the topic (another system's) tells nothing. Raises LogError."""
        try:
            async for record in self._tail.read_on():
                self.watching.note_record(record, is_replayed=True)
        except UnknownTopic:
            pass
        return self.watching

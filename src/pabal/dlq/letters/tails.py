"""Opens the readers that dead letters and redrives follow topics with, and says from when they read."""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pabal.broker.port import Admin, Reader
from pabal.tail import HistoryTail, Tail

CLOCK_SKEW: Final = timedelta(hours=1)
"""How much earlier than a letter its mark may seem to be, when hosts' clocks differ."""

_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
"""No record is older: records are stamped in seconds since 1970."""


class Tails(msgspec.Struct, frozen=True, kw_only=True):
    """Opens tails on one log."""

    reader: Reader
    admin: Admin

    def of(self, topic: str) -> Tail:
        """A reader of a compacted topic that goes on where it stopped."""
        return Tail(topic, reader=self.reader)

    def history(self, topic: str, *, start: datetime | None) -> HistoryTail:
        """A reader of any other topic, from an instant on (None: from the first record kept)."""
        return HistoryTail(topic, reader=self.reader, admin=self.admin, start=start)


def read_from(since: datetime | None) -> datetime | None:
    """Where reading begins: records are stamped by one clock, what they say of themselves by another.

    None: with the first record, also for a time before all records, which may lie at the calendar's very start.
    """
    return None if since is None or since < _FIRST else since - CLOCK_SKEW

"""Follows `pabal.ops` for a whole process: one read a second, handed to every fold."""

import asyncio
import contextlib
import logging
from typing import Final

from pabal.broker.port import Reader, Record
from pabal.errors import LogError
from pabal.notification import OPS_TOPIC
from pabal.ops.fold import Fold
from pabal.runtime import insist
from pabal.tail import Tail

logger = logging.getLogger(__name__)

LOOK_EVERY_SECONDS: Final = 1.0
"""How often the topic is read."""


class _Attending:
    """A fold, and the offset up to which it has taken the topic in."""

    __slots__ = ("fold", "next_offset", "unread")

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self.next_offset = 0
        self.unread: list[Record] = []


class OpsFollower:
    """Hands the records of `pabal.ops` to folds, in log order, by the prefix of their keys.

    One for a process, shared by its roles. Belongs to one event loop; any number of tasks may ask.
    """

    def __init__(self, reader: Reader) -> None:
        self._tail = Tail(OPS_TOPIC, reader=reader)
        self._attending: list[_Attending] = []
        self._reading = asyncio.Lock()
        self._running = asyncio.Lock()

    @property
    def applied_offset(self) -> int:
        """Every fold has taken in all records before this offset."""
        return min((each.next_offset for each in self._attending), default=self._tail.next_offset or 0)

    def attend(self, fold: Fold) -> None:
        """Hand records to this fold from the next look on. A fold that comes late is handed all that stands there."""
        self._attending.append(_Attending(fold))

    async def run(self, stopping: asyncio.Event) -> None:
        """Follow until told to stop. Each role of a process runs this: one reads, the others wait to relieve it."""
        async with self._running:
            while not stopping.is_set():
                try:
                    await self.look()
                except LogError as error:
                    logger.warning("cannot follow %s: %s", OPS_TOPIC, error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), LOOK_EVERY_SECONDS)

    async def catch_up(self) -> None:
        """Return once the folds have taken in all that stands in the topic now. A log that is away is waited for.

        To be awaited before a role acts on what its folds say. Raises what no waiting mends (`runtime.insist`).
        """
        await insist(self.look)
        while self._tail.is_whole_next:
            await insist(self.look)

    async def look(self) -> None:
        """Hand on what was appended since the last look. Raises LogError; records read before that are handed on."""
        async with self._reading:
            if (self._tail.next_offset or 0) > self.applied_offset:
                self._tail.begin_anew()  # A fold came late: the others are not handed again what they have.
            try:
                async for record in self._tail.read_on():
                    self._sort(record)
            finally:
                self._hand_on()
            if self._tail.is_whole_next:
                # Where the log was cut off, nothing says which words are gone: every fold takes in all that is left.
                for each in self._attending:
                    each.next_offset = 0

    def _sort(self, record: Record) -> None:
        key = record.key or b""
        for each in self._attending:
            if record.offset >= each.next_offset and key.startswith(each.fold.prefix):
                each.unread.append(record)

    def _hand_on(self) -> None:
        read_up_to = self._tail.next_offset or 0
        for each in self._attending:
            each.next_offset = max(each.next_offset, read_up_to)
            if each.unread:
                records, each.unread = each.unread, []
                each.fold.take(records)

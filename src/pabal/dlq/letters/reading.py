"""Reads dead letters from their topics, by offset, with what was done to them.

No group reads the dead topics, and nothing but retention removes a letter. A look reads a topic whole (a month's
letters at most), and the facts about its letters in `pabal.audit` from the same time on.
"""

import contextlib
import heapq
from collections.abc import AsyncGenerator, Collection, Mapping
from datetime import UTC, datetime

import msgspec

from pabal.audit import read_audit
from pabal.broker.port import TopicPartition
from pabal.dlq.letters.letter import Letter, LetterId, parse_letter_id, read_letter
from pabal.dlq.letters.marks import Marks, Standing
from pabal.dlq.letters.selection import Selection, matches
from pabal.dlq.letters.tails import Tails, read_from
from pabal.errors import ConfigError, DecodeError, NoSuchLetter
from pabal.notification import AUDIT_TOPIC, UNKNOWN_CHANNEL, dead_topic
from pabal.tail import HistoryTail


class Filed(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it stands: corrected, and what was done to it."""

    letter: Letter
    standing: Standing


class Letters:
    """The dead letters of an installation. Any number of tasks may ask; each look reads the log anew."""

    def __init__(self, tails: Tails, *, channels: Collection[str]) -> None:
        """`channels` are the channels that are switched on here."""
        self.channels = channels
        self._tails = tails
        self._reader = tails.reader
        self._admin = tails.admin

    def topics(self, selection: Selection) -> Mapping[str, str]:
        """The dead topic of each channel that is meant, by channel. Raises ConfigError: there is no such channel."""
        known = (*self.channels, UNKNOWN_CHANNEL)
        wanted = {parse_letter_id(text).channel for text in selection.letters} or set(known)
        for channel in (*selection.channels, *wanted):
            if channel not in known:
                raise ConfigError(f"there is no channel {channel!r} here; there are: {', '.join(known)}")
        return {
            channel: dead_topic(channel)
            for channel in known
            if channel in wanted and (not selection.channels or channel in selection.channels)
        }

    async def ends(self, selection: Selection) -> dict[str, int]:
        """The present end of each dead topic's partitions, as `channel/partition`."""
        return {
            f"{channel}/{partition.partition}": marks.high
            for channel, topic in self.topics(selection).items()
            for partition, marks in (await self._admin.watermarks(topic)).items()
        }

    async def marks(self, *, since: datetime) -> Marks:
        """What was done to letters that were given up since an instant."""
        marks = Marks()
        await take_marks(self._tails.history(AUDIT_TOPIC, start=read_from(since)), marks)
        return marks

    async def scan(
        self, selection: Selection, *, ends: Mapping[str, int] | None = None
    ) -> AsyncGenerator[Letter, None]:
        """Every letter that is meant, oldest first within a partition, as it was given up. `ends`: stop there."""
        for channel, topic in self.topics(selection).items():
            for partition in sorted(await self._admin.watermarks(topic)):
                stop = None if ends is None else ends.get(f"{channel}/{partition.partition}", 0)
                async for records in self._reader.read(partition, start=read_from(selection.since), stop=stop):
                    for record in records:
                        if matches(selection, letter := read_letter(record)):
                            yield letter

    async def oldest(self, selection: Selection) -> datetime | None:
        """When the first letter that may be meant was appended; None when there is none."""
        times = []
        for topic in self.topics(selection).values():
            for partition in await self._admin.watermarks(topic):
                async with contextlib.aclosing(
                    self._reader.read(partition, start=read_from(selection.since))
                ) as batches:  # type: ignore[type-var]
                    async for records in batches:
                        times.append(records[0].timestamp)
                        break
        return datetime.fromtimestamp(min(times), UTC) if times else None

    async def filed(
        self, selection: Selection, *, ends: Mapping[str, int] | None = None, marks: Marks | None = None
    ) -> AsyncGenerator[Filed, None]:
        """Every letter that is meant, with what was done to it. Copies of a letter are passed over."""
        if marks is None:
            oldest = await self.oldest(selection)
            if oldest is None:
                return
            marks = await self.marks(since=oldest)
        seen: set[str] = set()
        async for letter in self.scan(selection, ends=ends):
            if letter.matter not in seen:
                seen.add(letter.matter)
                yield Filed(letter=marks.corrected(letter), standing=marks.standing(letter))

    async def newest(self, selection: Selection, *, states: Collection[str], limit: int) -> tuple[list[Filed], int]:
        """The newest letters in one of these states (none named: any), newest first; and how many there are in all."""
        heap: list[tuple[datetime, LetterId, Filed]] = []
        total = 0
        async with contextlib.aclosing(self.filed(selection)) as letters:
            async for filed in letters:
                if states and filed.standing.state not in states:
                    continue
                total += 1
                entry = (filed.letter.at, filed.letter.id, filed)
                if len(heap) < limit:
                    heapq.heappush(heap, entry)
                else:
                    heapq.heappushpop(heap, entry)
        return [filed for _, _, filed in sorted(heap, reverse=True)], total

    async def find(self, letter_id: LetterId) -> Filed:
        """One letter. Raises NoSuchLetter; ConfigError for a channel that does not exist."""
        selection = Selection(letters=(str(letter_id),))
        topic = self.topics(selection)[letter_id.channel]
        partition = TopicPartition(topic, letter_id.partition)
        marks = (await self._admin.watermarks(topic)).get(partition)
        if marks is None or not marks.low <= letter_id.offset < marks.high:
            raise NoSuchLetter(_absent(letter_id, low=marks.low if marks else 0, high=marks.high if marks else 0))
        batches = self._reader.read(partition, start=letter_id.offset, stop=letter_id.offset + 1)
        letter = next((read_letter(record) for batch in [batch async for batch in batches] for record in batch), None)
        if letter is None:
            raise NoSuchLetter(_absent(letter_id, low=marks.low, high=marks.high))
        done = await self.marks(since=datetime.fromtimestamp(letter.record.timestamp, UTC))
        return Filed(letter=done.corrected(letter), standing=done.standing(letter))


async def take_marks(tail: HistoryTail, marks: Marks) -> None:
    """Take in what was said about letters since the last look."""
    async for record in tail.read_on():
        try:
            marks.take(read_audit(record))
        except DecodeError as error:
            marks.unreadable.note(record, error)  # Of a later version, perhaps: then about other things.


def _absent(letter_id: LetterId, *, low: int, high: int) -> str:
    if low == high:
        return f"there is no dead letter {letter_id}: nothing is kept there"
    return f"there is no dead letter {letter_id}: {letter_id.channel}/{letter_id.partition} keeps {low} to {high - 1}"

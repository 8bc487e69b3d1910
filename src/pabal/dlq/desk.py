"""Dead letters at hand: read by offset from their topics, with what was done to them; corrected, discarded.

No group reads the dead topics and nothing is ever removed from them but by retention. A look reads a topic whole
(a month's letters at most) and the facts about them in `pabal.audit` from the same time on.
"""

import contextlib
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from pabal.audit import audit_record, read_audit
from pabal.broker.port import Admin, NewRecord, Producer, Reader, TopicPartition
from pabal.channels.port import Channel
from pabal.clock import Clock
from pabal.codec import event_record, read_event
from pabal.dlq.letter import UNCERTAIN, Letter, LetterId, parse_letter_id, read_letter
from pabal.dlq.marks import DISCARDED, EDITED, Edit, Mark, Marks, Standing, marking_fact
from pabal.dlq.selection import Selection, matches
from pabal.errors import ConfigError, DecodeError, InvalidAddress, LetterRefused, NoSuchLetter
from pabal.notification import (
    AUDIT_TOPIC,
    EVENTS_TOPIC,
    UNKNOWN_CHANNEL,
    DeliveryEvent,
    EventKind,
    dead_topic,
    event_id,
)
from pabal.store.port import Store, TimelineEntry
from pabal.tail import HistoryTail, Tail

CLOCK_SKEW: Final = timedelta(hours=1)
"""How much earlier than a letter its mark may seem to be, when hosts' clocks differ."""


_FIRST: Final = datetime(1970, 1, 2, tzinfo=UTC)
"""No record is older: they are stamped in seconds since 1970."""

_MOST_AT_ONCE: Final = 200


class Filed(msgspec.Struct, frozen=True, kw_only=True):
    """A letter as it stands: corrected, and what was done to it."""

    letter: Letter
    standing: Standing


class DeadLetters:
    """See the module. Any number of tasks may ask; each look reads the log anew."""

    def __init__(
        self,
        *,
        reader: Reader,
        admin: Admin,
        producer: Producer,
        channels: Mapping[str, Channel],
        providers: Mapping[str, Collection[str]],
        clock: Clock,
        store: Store | None = None,
    ) -> None:
        """`channels` are those that are switched on here; `providers` names who may carry each of them."""
        self.reader = reader
        self.admin = admin
        self.producer = producer
        self.channels = channels
        self.clock = clock
        self._providers = providers
        self._store = store

    def topics(self, selection: Selection) -> Mapping[str, str]:
        """The dead topic of each channel that is meant, by channel. Raises ConfigError for one that does not exist."""
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
            for partition, marks in (await self.admin.watermarks(topic)).items()
        }

    async def marks(self, *, since: datetime) -> Marks:
        """What was done to letters that were given up since an instant."""
        marks = Marks()
        tail = self.history_tail(AUDIT_TOPIC, start=read_from(since))
        await take_marks(tail, marks)
        return marks

    def tail(self, topic: str) -> Tail:
        """A reader of a compacted topic that goes on where it stopped."""
        return Tail(topic, reader=self.reader)

    def history_tail(self, topic: str, *, start: datetime | None) -> HistoryTail:
        """A reader of any other topic, from an instant on, that goes on where it stopped."""
        return HistoryTail(topic, reader=self.reader, admin=self.admin, start=start)

    async def scan(
        self, selection: Selection, *, ends: Mapping[str, int] | None = None
    ) -> AsyncGenerator[Letter, None]:
        """Every letter that is meant, oldest first within a partition, as it was given up. `ends`: stop there."""
        for channel, topic in self.topics(selection).items():
            for partition in sorted(await self.admin.watermarks(topic)):
                stop = None if ends is None else ends.get(f"{channel}/{partition.partition}", 0)
                async for records in self.reader.read(partition, start=read_from(selection.since), stop=stop):
                    for record in records:
                        if matches(selection, letter := read_letter(record)):
                            yield letter

    async def oldest(self, selection: Selection) -> datetime | None:
        """When the first letter that may be meant was appended; None when there is none."""
        times = []
        for topic in self.topics(selection).values():
            for partition in await self.admin.watermarks(topic):
                async with contextlib.aclosing(
                    self.reader.read(partition, start=read_from(selection.since))
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
        marks = (await self.admin.watermarks(topic)).get(partition)
        if marks is None or not marks.low <= letter_id.offset < marks.high:
            raise NoSuchLetter(_absent(letter_id, low=marks.low if marks else 0, high=marks.high if marks else 0))
        batches = self.reader.read(partition, start=letter_id.offset, stop=letter_id.offset + 1)
        letter = next((read_letter(record) for batch in [batch async for batch in batches] for record in batch), None)
        if letter is None:
            raise NoSuchLetter(_absent(letter_id, low=marks.low, high=marks.high))
        done = await self.marks(since=datetime.fromtimestamp(letter.record.timestamp, UTC))
        return Filed(letter=done.corrected(letter), standing=done.standing(letter))

    async def history(self, letter: Letter) -> Sequence[TimelineEntry]:
        """What happened to the letter's delivery, oldest first: from the store, else what `pabal.events` still holds.

        Raises StoreUnavailable.
        """
        delivery = letter.delivery
        if delivery is None:
            return ()
        if self._store is not None:
            view = await self._store.delivery(delivery.id, tenant=delivery.tenant)
            if view is not None and view.timeline:
                return view.timeline
        return [_entry(event) for event in await self._events(letter)]

    async def _events(self, letter: Letter) -> list[DeliveryEvent]:
        """The events of the letter's delivery that the log still holds, oldest first."""
        if letter.delivery is None:
            return []
        key = letter.delivery.id.hex.encode()
        events = {}
        async for record in self.history_tail(EVENTS_TOPIC, start=read_from(letter.delivery.accepted_at)).read_on():
            if record.key == key:
                with contextlib.suppress(DecodeError):  # A receipt, or a record of a later version: no event to show.
                    event = read_event(record)
                    events[event.id] = event
        return sorted(events.values(), key=lambda event: (event.at, event.attempt))

    async def edit(
        self, letter_id: LetterId, *, address: str | None, provider: str | None, by: str, reason: str
    ) -> Filed:
        """Correct an open letter: a new address, or the provider to use. What is sent then has a new key.

        Raises:
            NoSuchLetter: nothing stands there.
            LetterRefused: not open, not readable, nothing to change; or an attempt may have been sent, so that a new
                key might send it twice.
            ConfigError: the provider does not carry the channel here.
            InvalidAddress: the channel cannot carry that address.
        """
        filed = await self.find(letter_id)
        letter, delivery = _open(filed, to="edit"), filed.letter.delivery
        if delivery is None:
            raise LetterRefused(f"{letter_id} cannot be edited: {letter.undecodable}")
        if delivery.channel not in self.channels:
            raise LetterRefused(f"{letter_id} cannot be edited: the channel {delivery.channel!r} is switched off here")
        await self._check_nothing_unknown(letter)
        channel = self.channels[delivery.channel]
        canonical = _canonical(channel, address) if address is not None else None
        if provider is not None and provider not in (able := self._providers.get(delivery.channel, ())):
            raise ConfigError(
                f"no provider {provider!r} carries {delivery.channel} here; there are: {', '.join(sorted(able))}"
            )
        if canonical in (None, delivery.address) and provider in (None, delivery.provider):
            raise LetterRefused(f"{letter_id} has that address and provider already; nothing to change")
        follows_address = delivery.order_key is not None and delivery.order_key == channel.order_key(delivery.address)
        edit = Edit(
            matter=letter.matter,
            edit=delivery.edit if letter.is_edited else delivery.edit + 1,
            address=canonical,
            order_key=channel.order_key(canonical) if canonical and follows_address else None,
            provider=provider,
        )
        at = self.clock.now()
        fact = marking_fact(letter, action=EDITED, by=by, at=at, reason=reason, detail=edit, occasion=at.isoformat())
        await self.producer.append([audit_record(fact)])
        return await self.find(letter_id)

    async def discard_all(
        self, selection: Selection, *, ends: Mapping[str, int], by: str, reason: str
    ) -> AsyncIterator[int]:
        """Close every open letter that is meant, up to these ends. Yields how many it were so far, step by step."""
        discarded, records = 0, []
        async with contextlib.aclosing(self.filed(selection, ends=ends)) as letters:
            async for filed in letters:
                if filed.standing.state == "open":
                    records += discard_records(filed.letter, by=by, at=self.clock.now(), reason=reason)
                    discarded += 1
                if len(records) >= _MOST_AT_ONCE:
                    await self.producer.append(records)
                    records = []
                    yield discarded
        if records:
            await self.producer.append(records)
        yield discarded

    async def discard(self, letter_id: LetterId, *, by: str, reason: str) -> Filed:
        """Close an open letter for good, unsent. Raises NoSuchLetter; LetterRefused when it is closed already."""
        letter = _open(await self.find(letter_id), to="discard")
        records = discard_records(letter, by=by, at=self.clock.now(), reason=reason)
        await self.producer.append(records)
        return await self.find(letter_id)

    async def _check_nothing_unknown(self, letter: Letter) -> None:
        # The log as well as the store, which may be behind; the store as well as the log, which forgets sooner.
        kinds = {entry.kind for entry in await self.history(letter)} | {e.kind for e in await self._events(letter)}
        if "sent" in kinds:
            raise LetterRefused(f"{letter.id} was sent meanwhile: its acceptance came late. Nothing is left to correct")
        # Bound to a provider by no edit: that one may have taken it (`worker/deliver.py`, `_pinned`).
        delivery = letter.delivery
        is_bound = delivery is not None and delivery.edit == 0 and delivery.provider is not None
        if letter.error_class == UNCERTAIN or "unknown" in kinds or is_bound:
            raise LetterRefused(
                f"{letter.id} cannot be edited: an attempt ended without an answer and may have been sent. Under "
                "a new key the far side could not tell; redrive it as it is (--include-uncertain), or discard it"
            )


def read_from(since: datetime | None) -> datetime | None:
    """Where reading begins: records are stamped by one clock, what they say of themselves by another.

    None: with the first record, also for a time before all records, which may lie at the calendar's very start.
    """
    return None if since is None or since < _FIRST else since - CLOCK_SKEW


async def take_marks(tail: HistoryTail, marks: Marks) -> None:
    """Take in what was said about letters since the last look."""
    async for record in tail.read_on():
        try:
            marks.take(read_audit(record))
        except DecodeError as error:
            marks.unreadable.note(record, error)  # Of a later version, perhaps: then about other things.


def discard_records(letter: Letter, *, by: str, at: datetime, reason: str) -> list[NewRecord]:
    """The records that discard a letter: the fact, and what is told of its delivery if there is one."""
    delivery = letter.delivery
    mark = Mark(matter=letter.matter, delivery_id=delivery.id if delivery else None)
    fact = marking_fact(letter, action=DISCARDED, by=by, at=at, reason=reason, detail=mark, occasion=letter.matter)
    records = [audit_record(fact)]
    if delivery is not None:
        event = told(letter, kind="discarded", at=at, detail=f"{by}: {reason}")
        records.append(event_record(event))
    return records


def told(letter: Letter, *, kind: EventKind, at: datetime, detail: str) -> DeliveryEvent:
    """What is told of a letter's delivery when a person decides on it: of the attempt that was given up."""
    delivery = letter.delivery
    assert delivery is not None
    attempt = delivery.attempt
    return DeliveryEvent(
        id=event_id(delivery.id, attempt=attempt, kind=kind),
        kind=kind,
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address=delivery.address,
        class_=delivery.class_,
        attempt=attempt,
        at=at,
        detail=detail,
        traceparent=delivery.traceparent,
    )


def _entry(event: DeliveryEvent) -> TimelineEntry:
    return TimelineEntry(
        kind=event.kind,
        at=event.at,
        attempt=event.attempt,
        provider=event.provider,
        provider_id=event.provider_id,
        latency_seconds=event.latency_seconds,
        detail=event.detail,
        response=event.response,
        due=event.due,
    )


def _open(filed: Filed, *, to: str) -> Letter:
    fact = filed.standing.fact
    if filed.standing.state != "open" and fact is not None:
        raise LetterRefused(
            f"{filed.letter.id} was {filed.standing.state} by {fact.by} at {fact.at:%Y-%m-%d %H:%M:%S}; "
            f"there is nothing left to {to}"
        )
    return filed.letter


def _canonical(channel: Channel, address: str) -> str:
    try:
        return channel.canonical(address)
    except InvalidAddress as error:
        raise InvalidAddress(f"{address!r} is no address for {channel.name}: {error}") from None


def _absent(letter_id: LetterId, *, low: int, high: int) -> str:
    if low == high:
        return f"there is no dead letter {letter_id}: nothing is kept there"
    return f"there is no dead letter {letter_id}: {letter_id.channel}/{letter_id.partition} keeps {low} to {high - 1}"

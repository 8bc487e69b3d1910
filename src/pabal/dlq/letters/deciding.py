"""What a person decides about a dead letter: to correct it, or to close it unsent."""

import contextlib
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime
from typing import Final

from pabal.audit import audit_record
from pabal.broker.port import NewRecord, Producer
from pabal.channels.port import Channel
from pabal.clock import Clock
from pabal.codec import event_record
from pabal.dlq.letters.history import Histories
from pabal.dlq.letters.letter import UNCERTAIN, Letter, LetterId
from pabal.dlq.letters.marks import DISCARDED, EDITED, Edit, Mark, marking_fact
from pabal.dlq.letters.reading import Filed, Letters
from pabal.dlq.letters.selection import Selection
from pabal.errors import ConfigError, InvalidAddress, LetterRefused
from pabal.notification import DeliveryEvent, EventKind, event_about

_MOST_AT_ONCE: Final = 200


class Decisions:
    """Writes down what a person decides: a fact in `pabal.audit`, and an event of the letter's delivery."""

    def __init__(
        self,
        letters: Letters,
        histories: Histories,
        *,
        producer: Producer,
        channels: Mapping[str, Channel],
        providers: Mapping[str, Collection[str]],
        clock: Clock,
    ) -> None:
        """`channels` are the channels that are switched on here; `providers` names what may carry each of them."""
        self._letters = letters
        self._histories = histories
        self._producer = producer
        self._channels = channels
        self._providers = providers
        self._clock = clock

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
        filed = await self._letters.find(letter_id)
        letter, delivery = _open(filed, to="edit"), filed.letter.delivery
        if delivery is None:
            raise LetterRefused(f"{letter_id} cannot be edited: {letter.undecodable}")
        if delivery.channel not in self._channels:
            raise LetterRefused(f"{letter_id} cannot be edited: the channel {delivery.channel!r} is switched off here")
        await self._check_nothing_unknown(letter)
        channel = self._channels[delivery.channel]
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
        at = self._clock.now()
        fact = marking_fact(letter, action=EDITED, by=by, at=at, reason=reason, detail=edit, occasion=at.isoformat())
        await self._producer.append([audit_record(fact)])
        return await self._letters.find(letter_id)

    async def discard_all(
        self, selection: Selection, *, ends: Mapping[str, int], by: str, reason: str
    ) -> AsyncIterator[int]:
        """Close every open letter that is meant, up to these ends. Yields how many are closed so far, step by step."""
        discarded, records = 0, []
        async with contextlib.aclosing(self._letters.filed(selection, ends=ends)) as letters:
            async for filed in letters:
                if filed.standing.state == "open":
                    records += discard_records(filed.letter, by=by, at=self._clock.now(), reason=reason)
                    discarded += 1
                if len(records) >= _MOST_AT_ONCE:
                    await self._producer.append(records)
                    records = []
                    yield discarded
        if records:
            await self._producer.append(records)
        yield discarded

    async def discard(self, letter_id: LetterId, *, by: str, reason: str) -> Filed:
        """Close an open letter for good, unsent. Raises NoSuchLetter; LetterRefused when it is closed already."""
        letter = _open(await self._letters.find(letter_id), to="discard")
        records = discard_records(letter, by=by, at=self._clock.now(), reason=reason)
        await self._producer.append(records)
        return await self._letters.find(letter_id)

    async def _check_nothing_unknown(self, letter: Letter) -> None:
        # The log as well as the store, which may be behind; the store as well as the log, which forgets sooner.
        kinds = {entry.kind for entry in await self._histories.of(letter)} | {
            e.kind for e in await self._histories.events(letter)
        }
        if "sent" in kinds:
            raise LetterRefused(f"{letter.id} was sent meanwhile: its acceptance came late. Nothing is left to correct")
        # Bound to a provider, and not by an edit: that provider may have taken it (`worker/deliver.py`, `_pinned`).
        delivery = letter.delivery
        is_bound = delivery is not None and delivery.edit == 0 and delivery.provider is not None
        if letter.error_class == UNCERTAIN or "unknown" in kinds or is_bound:
            raise LetterRefused(
                f"{letter.id} cannot be edited: an attempt ended without an answer and may have been sent. Under "
                "a new key the far side could not tell; redrive it as it is (--include-uncertain), or discard it"
            )


def discard_records(letter: Letter, *, by: str, at: datetime, reason: str) -> list[NewRecord]:
    """The records that discard a letter: the fact, and what is told of its delivery if there is one."""
    delivery = letter.delivery
    mark = Mark(matter=letter.matter, delivery_id=delivery.id if delivery else None)
    fact = marking_fact(letter, action=DISCARDED, by=by, at=at, reason=reason, detail=mark, occasion=letter.matter)
    records = [audit_record(fact)]
    if delivery is not None:
        event = event_of_decision(letter, kind="discarded", at=at, detail=f"{by}: {reason}")
        records.append(event_record(event))
    return records


def event_of_decision(letter: Letter, *, kind: EventKind, at: datetime, detail: str) -> DeliveryEvent:
    """What is told of a letter's delivery when a person decides on it: of the attempt that was given up."""
    delivery = letter.delivery
    assert delivery is not None
    return event_about(delivery, kind, attempt=delivery.attempt, at=at, detail=detail, traceparent=delivery.traceparent)


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

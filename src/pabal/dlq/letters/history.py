"""What happened to the delivery of a dead letter, for a person who decides on it."""

import contextlib
from collections.abc import Sequence

from pabal.codec import read_event
from pabal.dlq.letters.letter import Letter
from pabal.dlq.letters.tails import Tails, read_from
from pabal.errors import DecodeError
from pabal.notification import EVENTS_TOPIC, DeliveryEvent
from pabal.store.port import Store, TimelineEntry


class Histories:
    """Reads histories from the store, and from the log. `store` tells histories longer than the log holds them."""

    def __init__(self, tails: Tails, *, store: Store | None) -> None:
        self._tails = tails
        self._store = store

    async def of(self, letter: Letter) -> Sequence[TimelineEntry]:
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
        return [_entry(event) for event in await self.events(letter)]

    async def events(self, letter: Letter) -> list[DeliveryEvent]:
        """The events of the letter's delivery that the log still holds, oldest first."""
        if letter.delivery is None:
            return []
        key = letter.delivery.id.hex.encode()
        events = {}
        async for record in self._tails.history(EVENTS_TOPIC, start=read_from(letter.delivery.accepted_at)).read_on():
            if record.key == key:
                with contextlib.suppress(DecodeError):  # A receipt, or a record of a later version: no event to show.
                    event = read_event(record)
                    events[event.id] = event
        return sorted(events.values(), key=lambda event: (event.at, event.attempt))


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

"""What letters are judged against, read from the log and kept up to date: marks, suppressions, what was sent."""

from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from pabal.audit import AuditFact, read_audit
from pabal.broker.port import Record
from pabal.clock import Clock
from pabal.codec import RECEIPT_SCHEMA, SCHEMA_HEADER, read_event, read_receipt
from pabal.dlq.letters.marks import Marks
from pabal.dlq.letters.reading import Letters
from pabal.dlq.letters.selection import Selection
from pabal.dlq.letters.tails import Tails, read_from
from pabal.dlq.redrive.plan import World
from pabal.errors import DecodeError
from pabal.notification import AUDIT_TOPIC, EVENTS_TOPIC, SUPPRESSIONS_TOPIC, DeliveryEvent
from pabal.unreadable import Unreadable


class Surroundings:
    """Made by `read`; `refresh` takes in what was appended since."""

    def __init__(self, tails: Tails, *, channels: Collection[str], clock: Clock, since: datetime) -> None:
        self.marks = Marks()
        self.unreadable = Unreadable("answers to a redrive")
        self._channels = channels
        self._clock = clock
        self._candidates: set[bytes] = set()
        self._suppressed: set[bytes] = set()
        self._sent: set[str] = set()
        self._audit = tails.history(AUDIT_TOPIC, start=read_from(since))
        self._events = tails.history(EVENTS_TOPIC, start=read_from(since))
        self._suppressions = tails.of(SUPPRESSIONS_TOPIC)

    @classmethod
    async def read(
        cls,
        letters: Letters,
        selection: Selection,
        *,
        tails: Tails,
        clock: Clock,
        ends: Mapping[str, int],
        on_fact: Callable[[AuditFact], None] | None = None,
        on_event: Callable[[DeliveryEvent], bool] | None = None,
    ) -> "Surroundings":
        """Read all that concerns the letters that are meant. See `refresh` for what it calls back."""
        since = await letters.oldest(selection) or clock.now()
        surroundings = cls(tails, channels=letters.channels, clock=clock, since=since)
        async for letter in letters.scan(selection, ends=ends):
            if letter.delivery is not None:
                surroundings._candidates.add(letter.delivery.id.hex.encode())
        await surroundings.refresh(on_fact=on_fact, on_event=on_event)
        return surroundings

    async def refresh(
        self,
        *,
        on_fact: Callable[[AuditFact], None] | None = None,
        on_event: Callable[[DeliveryEvent], bool] | None = None,
    ) -> bool:
        """Take in what is new. `on_fact` hears every audit fact, then `on_event` every event of the letters'
        deliveries; returns whether `on_event` said yes to any."""
        async for record in self._audit.read_on():
            try:
                fact = read_audit(record)
            except DecodeError as error:
                self.marks.unreadable.note(record, error)  # Of a later version, perhaps: then about other things.
                continue
            self.marks.take(fact)
            if on_fact is not None:
                on_fact(fact)
        async for record in self._suppressions.read_on():
            if record.key is not None:
                (self._suppressed.discard if record.value is None else self._suppressed.add)(record.key)
        changed = False
        async for record in self._events.read_on():
            if record.key in self._candidates:
                changed |= self._hear(record, on_event)
        return changed

    def world(self) -> World:
        """What letters are judged against now."""
        return World(
            now=self._clock.now(),
            channels=self._channels,
            suppressed=self._suppressed,
            sent=self._sent,
        )

    def _hear(self, record: Record, on_event: Callable[[DeliveryEvent], bool] | None) -> bool:
        try:
            if record.header(SCHEMA_HEADER) == RECEIPT_SCHEMA:
                # Whatever a provider reports of a delivery, it took it.
                if (delivery := read_receipt(record).delivery_id) is not None:
                    self._sent.add(delivery.hex)
                return False
            event = read_event(record)
        except DecodeError as error:
            self.unreadable.note(record, error)
            return False
        if event.kind == "sent":
            self._sent.add(event.delivery_id.hex)
        return on_event(event) if on_event is not None else False

"""What the log tells at the end: every event, and every dead letter."""

from collections.abc import AsyncIterator
from uuid import UUID

from chaos.account import FINAL_WITHOUT_A_SEND, Told
from pabal.broker.port import Broker, Record, TopicPartition
from pabal.codec import read_delivery, read_event
from pabal.errors import DecodeError
from pabal.notification import EVENTS_TOPIC
from pabal.store.port import DeliveryFilter, Store

TENANTS = ("shop", "neighbour")
_PAGE = 500


class Witness:
    """Reads on from where it was, as often as asked, through a broker of its own."""

    def __init__(self, broker: Broker) -> None:
        self.told: dict[str, Told] = {}
        """Per delivery id."""
        self.unreadable = 0
        """Dead letters that name no delivery."""
        self._broker = broker
        self._next: dict[TopicPartition, int] = {}

    async def look(self) -> None:
        """Take in what is new. Raises LogError while the log does not answer; it may be asked again."""
        admin = self._broker.admin()
        try:
            topics = [name for name in await admin.topics() if name == EVENTS_TOPIC or name.startswith("pabal.dead.")]
            partitions = [partition for name in topics for partition in await admin.watermarks(name)]
        finally:
            await admin.close()
        for partition in partitions:
            async for record in self._new(partition):
                if partition.topic == EVENTS_TOPIC:
                    self._take_event(record)
                else:
                    self._take_dead_letter(record)
                self._next[partition] = record.offset + 1

    async def _new(self, partition: TopicPartition) -> AsyncIterator[Record]:
        reader = self._broker.reader()
        try:
            async for batch in reader.read(partition, start=self._next.get(partition)):
                for record in batch:
                    yield record
        finally:
            await reader.close()

    def _take_event(self, record: Record) -> None:
        if not (record.header("schema") or b"").startswith(b"delivery-event/"):
            return  # a receipt
        try:
            event = read_event(record)
        except DecodeError:
            return  # written by a scenario
        told = self._of(event.delivery_id)
        told.kinds.add(event.kind)
        told.told_at.append(event.at.timestamp())
        told.attempt = max(told.attempt, event.attempt)
        if event.kind in FINAL_WITHOUT_A_SEND:
            self._explain(told, record)

    def _take_dead_letter(self, record: Record) -> None:
        try:
            delivery = read_delivery(record)
        except DecodeError:
            self.unreadable += 1
            return
        told = self._of(delivery.id)
        told.dead.append((record.header("x-error-class") or b"").decode())
        told.attempt = max(told.attempt, delivery.attempt)
        self._explain(told, record)

    def _of(self, delivery: UUID) -> Told:
        return self.told.setdefault(str(delivery), Told())

    def _explain(self, told: Told, record: Record) -> None:
        if told.explained_ns is None:
            told.explained_ns = int(record.timestamp * 1e9)


async def recorded_statuses(store: Store) -> dict[str, str]:
    """Per delivery id what the store says of it. Raises StoreUnavailable."""
    statuses: dict[str, str] = {}
    for tenant in TENANTS:
        cursor = None
        while True:
            page = await store.deliveries(DeliveryFilter(), tenant=tenant, limit=_PAGE, cursor=cursor)
            statuses |= {str(view.id): view.status for view in page.deliveries}
            cursor = page.next_cursor
            if cursor is None:
                break
    return statuses

"""What the laws of the store work with: databases of one's own, and facts to fold."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import pytest

from pabal.clock import ManualClock
from pabal.notification import (
    Address,
    Delivery,
    DeliveryEvent,
    EventKind,
    Receipt,
    ReceiptKind,
    dead_topic,
    delivery_id,
    event_id,
    receipt_id,
)
from pabal.store.port import DeadLettered, DeliveryFilter, DeliveryView, Store

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
TENANT: Final = "shop"


class StoreDatabase(ABC):
    """One empty database, for one law, on which any number of stores can be opened."""

    @abstractmethod
    async def connect(self, clock: ManualClock) -> Store:
        """A new store on it, ready to be used. The laws close it."""


class StoreHarness(ABC):
    """Makes what a law needs."""

    @abstractmethod
    def database(self) -> AbstractAsyncContextManager[StoreDatabase]:
        """A new, empty database, gone after the law."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The present, as every store of the law sees it."""
        return ManualClock(NOW)

    @pytest.fixture
    async def stores(self, clock: ManualClock) -> AsyncIterator[tuple[Store, Store]]:
        """Two stores on one database."""
        async with self.database() as database, contextlib.AsyncExitStack() as closing:
            one, other = await database.connect(clock), await database.connect(clock)
            closing.push_async_callback(one.close)
            closing.push_async_callback(other.close)
            yield one, other

    @pytest.fixture
    def store(self, stores: tuple[Store, Store]) -> Store:
        """A store."""
        return stores[0]

    @pytest.fixture
    async def apart(self, clock: ManualClock) -> AsyncIterator[Store]:
        """A store on a database that is not `store`'s."""
        async with self.database() as database:
            store = await database.connect(clock)
            yield store
            await store.close()


def at(seconds: float) -> datetime:
    """An instant of the laws."""
    return NOW + timedelta(seconds=seconds)


def a_delivery(
    *, of: UUID | None = None, to: str = "https://example.com/", seconds: float = 0, **changes: Any
) -> Delivery:
    """A delivery that was accepted `seconds` after NOW, for an hour."""
    notification = of or uuid4()
    channel = changes.pop("channel", "webhook")
    delivery = Delivery(
        id=delivery_id(notification, Address(channel=channel, address=to)),
        notification_id=notification,
        tenant=TENANT,
        channel=channel,
        address=to,
        class_="standard",
        accepted_at=at(seconds),
        expires_at=at(seconds + 3600),
    )
    return msgspec.structs.replace(delivery, **changes)


def an_event(
    delivery: Delivery, kind: EventKind, *, seconds: float = 1, attempt: int = 1, **more: Any
) -> DeliveryEvent:
    """Something that happened to it."""
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
        at=at(seconds),
        provider=more.pop("provider", "far"),
        **more,
    )


def a_receipt(kind: ReceiptKind, *, seconds: float = 2, event: str = "e-1", **more: Any) -> Receipt:
    """What the provider reported later."""
    return Receipt(id=receipt_id(provider="far", event=event), provider="far", kind=kind, at=at(seconds), **more)


def a_dead_letter(delivery: Delivery | None, *, offset: int = 0, seconds: float = 3) -> DeadLettered:
    """A record of a dead topic."""
    return DeadLettered(
        topic=dead_topic("webhook"),
        partition=0,
        offset=offset,
        at=at(seconds),
        error_class="exhausted",
        message="503",
        delivery=delivery,
    )


async def view_of(store: Store, delivery: Delivery) -> DeliveryView:
    """The delivery as its tenant sees it; it must be recorded."""
    view = await store.delivery(delivery.id, tenant=delivery.tenant)
    assert view is not None
    return view


async def status_of(store: Store, delivery: Delivery) -> str:
    """Where it stands."""
    return (await view_of(store, delivery)).status


async def listed(store: Store, *, limit: int = 100, **wanted: Any) -> Sequence[UUID]:
    """The ids of a list, page by page."""
    ids: list[UUID] = []
    cursor = None
    while True:
        page = await store.deliveries(DeliveryFilter(**wanted), tenant=TENANT, limit=limit, cursor=cursor)
        assert len(page.deliveries) <= limit
        ids += [view.id for view in page.deliveries]
        cursor = page.next_cursor
        if cursor is None:
            return ids

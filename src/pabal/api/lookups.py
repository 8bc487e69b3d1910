"""What happened to a notification: its deliveries, one delivery's timeline, and lists. All from the store."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec

from pabal.api.asgi import Answer
from pabal.api.endpoint import Call, refuse_parameter
from pabal.api.keys import Keyring
from pabal.api.messages import NotificationView
from pabal.api.projection import MAX_WAIT_SECONDS, Projection
from pabal.channels.port import Channel
from pabal.errors import InvalidAddress, InvalidCursor
from pabal.notification import NotificationClass
from pabal.store.port import DeliveryFilter, DeliveryStatus, DeliveryView

MAX_PAGE: Final = 200

Wait = Annotated[
    float,
    msgspec.Meta(
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for the recorder, if nothing of that id is recorded yet.",
    ),
]


class Waiting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a look-up by id."""

    wait: Wait = 0.0


class ListQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"class_": "class"}):
    """The query of a list; every parameter narrows it."""

    recipient: Annotated[str, msgspec.Meta(max_length=2048, description="The address, in any spelling.")] | None = None
    status: Annotated[DeliveryStatus, msgspec.Meta(description="Where the delivery stands.")] | None = None
    channel: Annotated[str, msgspec.Meta(max_length=64, description="Such as `email`.")] | None = None
    class_: Annotated[NotificationClass, msgspec.Meta(description="How urgent.")] | None = None
    tag: Annotated[str, msgspec.Meta(max_length=64, description="One of the notification's tags.")] | None = None
    since: (
        Annotated[
            datetime, msgspec.Meta(tz=True, description="Accepted at or after this time (RFC 3339, with a zone).")
        ]
        | None
    ) = None
    cursor: Annotated[str, msgspec.Meta(max_length=512, description="`next_cursor` of the page before.")] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description="Deliveries per page.")] = 50


class Lookups:
    """`GET /v1/notifications/{id}`, `/v1/deliveries/{id}` and `/v1/deliveries`."""

    def __init__(self, *, keyring: Keyring, projection: Projection, channels: Mapping[str, Channel]) -> None:
        self._keyring = keyring
        self._projection = projection
        self._channels = channels

    async def notification(self, call: Call) -> Answer:
        """A notification's deliveries as they stand."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="read").tenant
        notification, wait_seconds = call.id(), call.query(Waiting).wait
        store = self._projection.store
        views = await self._projection.find(
            lambda: store.notification(notification, tenant=tenant),
            what="notification",
            tenant=tenant,
            wait_seconds=wait_seconds,
        )
        return Answer(status=200, body=NotificationView(id=notification, deliveries=tuple(views)))

    async def delivery(self, call: Call) -> Answer:
        """One delivery with its timeline."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="read").tenant
        delivery, wait_seconds = call.id(), call.query(Waiting).wait
        return Answer(status=200, body=await self.find_delivery(delivery, tenant=tenant, wait_seconds=wait_seconds))

    async def deliveries(self, call: Call) -> Answer:
        """A page of deliveries, newest first."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="read").tenant
        query = call.query(ListQuery)
        wanted = DeliveryFilter(
            recipient=None if query.recipient is None else self._canonical(query.recipient, channel=query.channel),
            status=query.status,
            channel=query.channel,
            class_=query.class_,
            tag=query.tag,
            since=query.since,
        )
        try:
            page = await self._projection.store.deliveries(
                wanted, tenant=tenant, limit=query.limit, cursor=query.cursor
            )
        except InvalidCursor as error:
            raise refuse_parameter(
                "cursor", f"{error}; give the `next_cursor` of a page with the same filters"
            ) from None
        return Answer(status=200, body=page)

    async def find_delivery(self, delivery: UUID, *, tenant: str, wait_seconds: float) -> DeliveryView:
        """The delivery, waited for. Raises Refused as `Projection.find`."""
        store = self._projection.store
        found = await self._projection.find(
            lambda: store.delivery(delivery, tenant=tenant), what="delivery", tenant=tenant, wait_seconds=wait_seconds
        )
        assert found is not None
        return found

    def _canonical(self, address: str, *, channel: str | None) -> str:
        """The spelling under which deliveries are recorded; what no channel can carry is left as it is."""
        named = self._channels.get(channel) if channel is not None else None
        for candidate in (named,) if named else self._channels.values():
            try:
                return candidate.canonical(address)
            except InvalidAddress:
                continue
        return address

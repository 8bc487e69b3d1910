"""What happened to a notification: its deliveries, the timeline of a delivery, and lists. The store answers."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec

from pabal.api.asgi import ApiResponse
from pabal.api.codes import Code
from pabal.api.lagging_store import MAX_WAIT_SECONDS, LaggingStore
from pabal.api.messages import NotificationView
from pabal.api.operation import UUID_TEXT, Operation, Part, Success
from pabal.api.problems import refuse_parameter
from pabal.api.request import ApiRequest
from pabal.channels.port import Channel
from pabal.errors import InvalidAddress, InvalidCursor
from pabal.notification import NotificationClass
from pabal.store.port import DeliveryFilter, DeliveryPage, DeliveryStatus, DeliveryView

MAX_PAGE: Final = 200

_STORE_CODES: Final[tuple[Code, ...]] = ("no_store", "store_unavailable")

FIND_CODES: Final[tuple[Code, ...]] = (*_STORE_CODES, "not_found", "not_recorded_yet", "log_unavailable")
"""Why nothing of an id is found."""

FIND_ABOUT: Final = """What is recorded may be a moment behind the log. An id that is not recorded answers 404: with
the code `not_recorded_yet` and the lag while the recorder is behind, with `not_found` when it is not. `wait` waits."""
"""What the description says of a look-up by id."""

WaitSeconds = Annotated[
    float,
    msgspec.Meta(
        ge=0,
        le=MAX_WAIT_SECONDS,
        description="Seconds to wait for the recorder, if nothing of that id is recorded yet.",
    ),
]


class Waiting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a look-up by id."""

    wait: WaitSeconds = 0.0


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

    def __init__(self, *, store: LaggingStore, channels: Mapping[str, Channel]) -> None:
        self._lagging = store
        self._channels = channels

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        named = f"The channels here: {', '.join(f'`{channel}`' for channel in sorted(self._channels))}."
        return (
            Operation(
                method="GET",
                path="/v1/notifications/{id:uuid}",
                scope="read",
                respond=self.notification,
                parts={"id": Part(description="The notification's id.", schema=UUID_TEXT)},
                query=Waiting,
                answers={200: Success("As it stands.", NotificationView)},
                codes=FIND_CODES,
                name="getNotification",
                summary="Look up a notification's deliveries",
                about=f"Look up a notification's deliveries. {FIND_ABOUT} Needs the scope `read`.",
            ),
            Operation(
                method="GET",
                path="/v1/deliveries",
                scope="read",
                respond=self.deliveries,
                query=ListQuery,
                answers={200: Success("A page.", DeliveryPage)},
                codes=_STORE_CODES,
                name="listDeliveries",
                summary="List deliveries",
                about=f"Deliveries, newest first, without their timelines. Needs the scope `read`. {named}",
            ),
            Operation(
                method="GET",
                path="/v1/deliveries/{id:uuid}",
                scope="read",
                respond=self.delivery,
                parts={"id": Part(description="The delivery's id.", schema=UUID_TEXT)},
                query=Waiting,
                answers={200: Success("As it stands.", DeliveryView)},
                codes=FIND_CODES,
                name="getDelivery",
                summary="Look up a delivery and all that happened to it",
                about=f"Look up a delivery and all that happened to it. {FIND_ABOUT} Needs the scope `read`.",
            ),
        )

    async def notification(self, request: ApiRequest[Waiting, None]) -> ApiResponse:
        """A notification's deliveries as they stand."""
        notification, wait_seconds = request.id(), request.query().wait
        views = await self.find_notification(notification, tenant=request.caller.tenant, wait_seconds=wait_seconds)
        return ApiResponse(status=200, body=NotificationView(id=notification, deliveries=tuple(views)))

    async def delivery(self, request: ApiRequest[Waiting, None]) -> ApiResponse:
        """One delivery with its timeline."""
        delivery, wait_seconds = request.id(), request.query().wait
        found = await self.find_delivery(delivery, tenant=request.caller.tenant, wait_seconds=wait_seconds)
        return ApiResponse(status=200, body=found)

    async def deliveries(self, request: ApiRequest[ListQuery, None]) -> ApiResponse:
        """A page of deliveries, newest first."""
        query = request.query()
        wanted = DeliveryFilter(
            recipient=None if query.recipient is None else self._canonical(query.recipient, channel=query.channel),
            status=query.status,
            channel=query.channel,
            class_=query.class_,
            tag=query.tag,
            since=query.since,
        )
        try:
            page = await self._lagging.store.deliveries(
                wanted, tenant=request.caller.tenant, limit=query.limit, cursor=query.cursor
            )
        except InvalidCursor as error:
            raise refuse_parameter(
                "cursor", f"{error}; give the `next_cursor` of a page with the same filters"
            ) from None
        return ApiResponse(status=200, body=page)

    async def find_notification(
        self, notification: UUID, *, tenant: str, wait_seconds: float
    ) -> Sequence[DeliveryView]:
        """The notification's deliveries, waited for. Raises RequestRefused as `LaggingStore.find`."""
        store = self._lagging.store
        return await self._lagging.find(
            lambda: store.notification(notification, tenant=tenant),
            what="notification",
            tenant=tenant,
            wait_seconds=wait_seconds,
        )

    async def find_delivery(self, delivery: UUID, *, tenant: str, wait_seconds: float) -> DeliveryView:
        """The delivery, waited for. Raises RequestRefused as `LaggingStore.find`."""
        store = self._lagging.store
        found = await self._lagging.find(
            lambda: store.delivery(delivery, tenant=tenant), what="delivery", tenant=tenant, wait_seconds=wait_seconds
        )
        assert found is not None
        return found

    def _canonical(self, address: str, *, channel: str | None) -> str:
        """The spelling under which deliveries are recorded. An address that no channel can carry stays as it is."""
        named = self._channels.get(channel) if channel is not None else None
        for candidate in (named,) if named else self._channels.values():
            try:
                return candidate.canonical(address)
            except InvalidAddress:
                continue
        return address

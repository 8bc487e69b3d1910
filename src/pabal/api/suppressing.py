"""`/v1/suppressions`: list the addresses of a tenant that nothing is sent to, add an address, lift an address."""

import base64
import binascii
import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import ApiResponse
from pabal.api.bodies import JsonBody
from pabal.api.codes import LOG_CODES
from pabal.api.messages import SuppressionPage, SuppressionView
from pabal.api.operation import WORD, Operation, Part, Success
from pabal.api.problems import RequestRefused, refuse_field, refuse_parameter
from pabal.api.request import ApiRequest
from pabal.channels.port import Channel
from pabal.channels.suppression import suppression_key
from pabal.clock import Clock
from pabal.codec import lifting_record, suppression_record
from pabal.errors import InvalidAddress
from pabal.notification import Suppression, SuppressionReason
from pabal.suppressions import SuppressionList

MAX_PAGE: Final = 500
MAX_BODY_BYTES: Final = 16 * 1024

_EXAMPLE: Final = {"channel": "email", "address": "ana@example.com"}


class SuppressionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that nothing is to be sent to any more."""

    channel: Annotated[str, msgspec.Meta(description="A channel this installation has.")]
    address: Annotated[str, msgspec.Meta(min_length=1, max_length=2048, description="In any spelling.")]
    reason: Annotated[SuppressionReason, msgspec.Meta(description="Why.")] = "manual"
    detail: Annotated[
        Annotated[str, msgspec.Meta(max_length=1000)] | None, msgspec.Meta(description="A note for later readers.")
    ] = None


class SuppressionsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a list."""

    cursor: Annotated[str, msgspec.Meta(max_length=4096, description="`next_cursor` of the page before.")] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description="Suppressions per page.")] = 100


class Suppressing:
    """The three requests. A change stands in the log when the request is answered, and holds about a second later."""

    def __init__(
        self,
        *,
        suppressions: SuppressionList,
        acceptance: Acceptance,
        channels: Mapping[str, Channel],
        clock: Clock,
    ) -> None:
        self._suppressions = suppressions
        self._acceptance = acceptance
        self._channels = channels
        self._clock = clock

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        return (
            Operation(
                method="GET",
                path="/v1/suppressions",
                scope="read",
                respond=self.list,
                query=SuppressionsQuery,
                answers={200: Success("A page.", SuppressionPage)},
                codes=LOG_CODES,
                name="listSuppressions",
                summary="List suppressed addresses",
                about="Addresses that nothing is sent to, and why. By channel and address. Needs the scope `read`.",
            ),
            Operation(
                method="POST",
                path="/v1/suppressions",
                scope="send",
                respond=self.suppress,
                body=JsonBody(SuppressionRequest, limit=MAX_BODY_BYTES, example=_EXAMPLE),
                answers={201: Success("It is suppressed.", SuppressionView)},
                codes=("unknown_channel", "invalid_address", "record_refused", *LOG_CODES),
                name="suppress",
                summary="Suppress an address",
                about="Send nothing to an address from about a second on. Again is the same. Needs the scope `send`.",
            ),
            Operation(
                method="DELETE",
                path="/v1/suppressions/{channel}/{address:path}",
                scope="admin",
                respond=self.lift,
                parts={
                    "channel": Part(description="Such as `email`.", schema=WORD),
                    "address": Part(description="In any spelling.", schema=WORD),
                },
                answers={200: Success("What was lifted.", SuppressionView)},
                codes=("not_found", *LOG_CODES),
                name="liftSuppression",
                summary="Lift a suppression",
                about="Send to an address again, from about a second on. Percent-encode the address. Needs the scope "
                "`admin`: mail goes again to someone who may have complained.",
            ),
        )

    async def list(self, request: ApiRequest[SuppressionsQuery, None]) -> ApiResponse:
        """A page of the tenant's suppressions, by channel and address."""
        tenant, query = request.caller.tenant, request.query()
        after = None if query.cursor is None else _read_cursor(query.cursor, tenant=tenant)
        # One more than asked tells whether there is a next page.
        found = await self._suppressions.page(tenant=tenant, after=after, limit=query.limit + 1)
        page = found[: query.limit]
        body = SuppressionPage(
            suppressions=tuple(map(_view, page)),
            next_cursor=_cursor(page[-1]) if len(found) > query.limit else None,
        )
        return ApiResponse(status=200, body=body)

    async def suppress(self, request: ApiRequest[None, SuppressionRequest]) -> ApiResponse:
        """Suppress an address from now on. Asked again, it changes nothing."""
        asked = await request.body()
        suppression = Suppression(
            tenant=request.caller.tenant,
            channel=asked.channel,
            address=self._canonical(asked),
            reason=asked.reason,
            since=self._clock.now(),
            detail=asked.detail,
        )
        await self._acceptance.append([suppression_record(suppression)])
        return ApiResponse(status=201, body=_view(suppression))

    async def lift(self, request: ApiRequest[None, None]) -> ApiResponse:
        """End a suppression. Needs `admin`: mail goes again to someone who may have complained."""
        tenant, channel, address = request.caller.tenant, request.part("channel"), request.part("address")
        if (known := self._channels.get(channel)) is not None:
            # Otherwise looked for as it is: it may stem from a time when the channel took it.
            with contextlib.suppress(InvalidAddress):
                address = known.canonical(address)
        key = suppression_key(tenant=tenant, channel=channel, address=address)
        suppression = await self._suppressions.find(key)
        if suppression is None:
            raise RequestRefused("not_found", "this address is not suppressed")
        await self._acceptance.append([lifting_record(key)])
        return ApiResponse(status=200, body=_view(suppression))

    def _canonical(self, asked: SuppressionRequest) -> str:
        channel = self._channels.get(asked.channel)
        if channel is None:
            message = f"there is no such channel here; there are: {', '.join(sorted(self._channels))}"
            raise refuse_field("unknown_channel", path="$.channel", message=message)
        try:
            return channel.canonical(asked.address)
        except InvalidAddress as error:
            raise refuse_field("invalid_address", path="$.address", message=str(error)) from None


def _view(suppression: Suppression) -> SuppressionView:
    return SuppressionView(
        channel=suppression.channel,
        address=suppression.address,
        reason=suppression.reason,
        since=suppression.since,
        detail=suppression.detail,
    )


def _cursor(suppression: Suppression) -> str:
    """Names the place in the list, without the tenant."""
    place = suppression_key(tenant="", channel=suppression.channel, address=suppression.address)[1:]
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _read_cursor(cursor: str, *, tenant: str) -> bytes:
    try:
        place = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise refuse_parameter("cursor", "is none that this list gave out") from None
    return tenant.encode() + b"/" + place

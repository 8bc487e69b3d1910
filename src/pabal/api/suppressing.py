"""`/v1/suppressions`: which addresses of a tenant are not written to, and why; add one, lift one."""

import base64
import binascii
import contextlib
from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import Answer
from pabal.api.endpoint import Call, refuse_parameter
from pabal.api.keys import Keyring
from pabal.api.messages import SuppressionPage, SuppressionView
from pabal.api.problems import Refused, refuse_field
from pabal.channels.port import Channel
from pabal.clock import Clock
from pabal.codec import lifting_record, suppression_record
from pabal.errors import InvalidAddress
from pabal.notification import Suppression, SuppressionReason, suppression_key
from pabal.suppressions import SuppressionList

MAX_PAGE: Final = 500
MAX_BODY_BYTES: Final = 16 * 1024


class SuppressionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address that is not to be written to any more."""

    channel: Annotated[str, msgspec.Meta(description="A channel this installation has.")]
    address: Annotated[str, msgspec.Meta(min_length=1, max_length=2048, description="In any spelling.")]
    reason: Annotated[SuppressionReason, msgspec.Meta(description="Why.")] = "manual"
    detail: Annotated[
        Annotated[str, msgspec.Meta(max_length=1000)] | None, msgspec.Meta(description="For those who ask later.")
    ] = None


class SuppressionsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a list."""

    cursor: Annotated[str, msgspec.Meta(max_length=4096, description="`next_cursor` of the page before.")] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_PAGE, description="Suppressions per page.")] = 100


class Suppressing:
    """The three requests. What is written is in the log when they answer, and in the gate about a second later."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        suppressions: SuppressionList,
        acceptance: Acceptance,
        channels: Mapping[str, Channel],
        clock: Clock,
    ) -> None:
        self._keyring = keyring
        self._suppressions = suppressions
        self._acceptance = acceptance
        self._channels = channels
        self._clock = clock
        self._decoder = msgspec.json.Decoder(SuppressionRequest)

    async def collection(self, call: Call) -> Answer:
        """GET lists, POST adds."""
        return await (self.suppress(call) if call.method == "POST" else self.list(call))

    async def list(self, call: Call) -> Answer:
        """A page of the tenant's suppressions, by channel and address."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="read").tenant
        query = call.query(SuppressionsQuery)
        after = None if query.cursor is None else _read_cursor(query.cursor, tenant=tenant)
        # One more than asked tells whether there is a next page.
        found = await self._suppressions.page(tenant=tenant, after=after, limit=query.limit + 1)
        page = found[: query.limit]
        body = SuppressionPage(
            suppressions=tuple(map(_view, page)),
            next_cursor=_cursor(page[-1]) if len(found) > query.limit else None,
        )
        return Answer(status=200, body=body)

    async def suppress(self, call: Call) -> Answer:
        """Suppress an address from now on; again is the same."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="send").tenant
        request = await call.json(self._decoder, limit=MAX_BODY_BYTES)
        suppression = Suppression(
            tenant=tenant,
            channel=request.channel,
            address=self._canonical(request),
            reason=request.reason,
            since=self._clock.now(),
            detail=request.detail,
        )
        await self._acceptance.append([suppression_record(suppression)])
        return Answer(status=201, body=_view(suppression))

    async def lift(self, call: Call) -> Answer:
        """End a suppression. Needs `admin`: mail goes again to someone who may have complained."""
        tenant = self._keyring.caller(call.head.get(b"authorization"), scope="admin").tenant
        channel, address = call.part("channel"), call.part("address")
        if (known := self._channels.get(channel)) is not None:
            # Otherwise looked for as it is: it may stem from a time when the channel took it.
            with contextlib.suppress(InvalidAddress):
                address = known.canonical(address)
        key = suppression_key(tenant=tenant, channel=channel, address=address)
        suppression = await self._suppressions.find(key)
        if suppression is None:
            raise Refused("not_found", "this address is not suppressed")
        await self._acceptance.append([lifting_record(key)])
        return Answer(status=200, body=_view(suppression))

    def _canonical(self, request: SuppressionRequest) -> str:
        channel = self._channels.get(request.channel)
        if channel is None:
            message = f"there is no such channel here; there are: {', '.join(sorted(self._channels))}"
            raise refuse_field("unknown_channel", path="$.channel", message=message)
        try:
            return channel.canonical(request.address)
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

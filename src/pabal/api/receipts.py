"""`POST /v1/receipts/{provider}`: what a provider reports later goes into the log.

The request has no API key: the provider signs it.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import ApiResponse
from pabal.api.bodies import RawBody
from pabal.api.codes import LOG_CODES
from pabal.api.lazy_ledger import LazyLedger
from pabal.api.messages import TakenReceipts
from pabal.api.operation import WORD, Operation, Part, Success
from pabal.api.problems import RequestRefused
from pabal.api.request import ApiRequest
from pabal.clock import Clock
from pabal.codec import receipt_record
from pabal.errors import ReceiptRefused, StoreUnavailable, UnreadableReceipt
from pabal.notification import Receipt, ReceiptKind
from pabal.outcome import Accepted
from pabal.providers.port import CallbackRequest, TakesReceipts
from pabal.store.port import Store

MAX_CALLBACK_BYTES: Final = 1024 * 1024
"""SendGrid posts up to 1,000 events at once, less than a kilobyte each."""

MAX_RAW_BYTES: Final = 16 * 1024
"""How much of a callback is kept with each of its receipts."""

MOST_AHEAD: Final = timedelta(days=1)
"""How far a provider's clock may be ahead of ours. A mistaken time zone alone makes up to 14 hours."""

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)

_ARRIVED: Final[frozenset[ReceiptKind]] = frozenset(
    {"delivered", "bounced", "complained", "unsubscribed", "opened", "clicked"}
)
"""Receipts of these kinds prove that the far side has the message. A provider may also reject, or put off, a message
that it never took."""

_EXAMPLE: Final = {
    "receipts": [
        {
            "event": "relay-4711",
            "kind": "bounced",
            "permanent": True,
            "at": "2026-03-01T12:00:00Z",
            "message_id": "<ed19d4a3-93a3-5c3a-9e05-0c9ad0a36a7d@example.com>",
            "detail": "550 5.1.1 no such user",
        }
    ]
}

_ABOUT: Final = """Where a provider reports what became of what it took. No API key: the provider's signature
is checked (for `smtp` as the manual's page on providers says). A 202 means that the receipts stand in the log; the same
callback again changes nothing. The addresses of hard bounces, complaints and unsubscribes are suppressed."""

_CHALLENGE: Final = (b"www-authenticate", b'Signature realm="receipts"')


logger = logging.getLogger(__name__)


class TakingReceipts:
    """Takes callbacks. A 202 means that all receipts stand in the log; the same callback again changes nothing."""

    def __init__(
        self,
        *,
        receivers: Mapping[str, TakesReceipts],
        acceptance: Acceptance,
        ledger: LazyLedger,
        store: Store | None,
        clock: Clock,
    ) -> None:
        """`receivers` are keyed by the name that the configuration gives the provider. `store` knows which channel a
        delivery is on (None: the channel is not checked)."""
        self._receivers = receivers
        self._store = store
        self._clock = clock
        self._acceptance = acceptance
        self._ledger = ledger

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        take = Operation(
            method="POST",
            path="/v1/receipts/{provider}",
            scope=None,
            respond=self.take,
            parts={"provider": Part(description="As the configuration names it.", schema=WORD)},
            body=RawBody(limit=MAX_CALLBACK_BYTES, example=_EXAMPLE),
            answers={202: Success("They stand in the log.", TakenReceipts)},
            codes=(
                "receipt_refused",
                "unreadable_receipt",
                "not_found",
                "record_refused",
                "ledger_unavailable",
                *LOG_CODES,
            ),
            name="takeReceipts",
            summary="Take a provider's callback",
            about=_ABOUT,
        )
        return (take,)

    async def take(self, request: ApiRequest[None, bytes]) -> ApiResponse:
        """Check, normalise, append."""
        name = request.part("provider")
        receiver = self._receivers.get(name)
        if receiver is None:
            raise RequestRefused("not_found", f"there is no provider {name[:64]!r} here that takes receipts")
        body = await request.body()
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in request.head.items()}
        try:
            receipts = receiver.receipts(CallbackRequest(headers=headers, body=body))
        except ReceiptRefused as error:
            raise RequestRefused("receipt_refused", str(error), headers=[_CHALLENGE]) from None
        except UnreadableReceipt as error:
            raise RequestRefused("unreadable_receipt", str(error)) from None
        now, whole = self._clock.now(), _readable(body)
        taken = await self._carried(
            [
                _storable(_dated(receipt, index=index, now=now), whole=whole, channel=receiver.channel)
                for index, receipt in enumerate(receipts)
            ]
        )
        if taken:
            await self._acceptance.append([receipt_record(receipt) for receipt in taken])
            await self._acknowledge(taken)
        return ApiResponse(status=202, body=TakenReceipts(receipts=len(taken)))

    async def _carried(self, receipts: Sequence[Receipt]) -> Sequence[Receipt]:
        """The receipts that do not name a delivery on another channel, as far as the store knows the deliveries."""
        if self._store is None or all(receipt.delivery_id is None for receipt in receipts):
            return receipts
        try:
            known = await self._store.reported(receipts)
        except StoreUnavailable as error:
            logger.warning("receipts are taken without a look at their deliveries: the store: %s", error)
            return receipts
        foreign = {receipt.id for receipt, delivery in known if delivery.channel not in ("", receipt.channel)}
        if foreign:
            logger.warning("receipts left out: %d speak of deliveries on another channel", len(foreign))
        return [receipt for receipt in receipts if receipt.id not in foreign]

    async def _acknowledge(self, receipts: Sequence[Receipt]) -> None:
        """Tell the ledger that the far side has these deliveries, so that they are not sent again."""
        arrived = [receipt for receipt in receipts if receipt.delivery_id is not None and receipt.kind in _ARRIVED]
        if not arrived:
            return
        try:
            ledger = await self._ledger.get()
        except RequestRefused:
            # `LazyLedger` has logged it. The receipts stand in the log, and that is what the provider was promised.
            return
        outcomes = [Accepted(provider_id=receipt.provider_id) for receipt in arrived]
        await asyncio.gather(
            *(
                ledger.acknowledge(receipt.delivery_id, outcome)
                for receipt, outcome in zip(arrived, outcomes, strict=True)
                if receipt.delivery_id is not None
            )
        )


def _dated(receipt: Receipt, *, index: int, now: datetime) -> Receipt:
    """The receipt with a possible time: a time that is a little ahead counts as now.

    Raises RequestRefused: unreadable_receipt.
    """
    if receipt.at > now + MOST_AHEAD:
        raise RequestRefused(
            "unreadable_receipt", f"receipt {index}: its time, {receipt.at.isoformat()}, is yet to come"
        )
    if receipt.at < EARLIEST:
        raise RequestRefused(
            "unreadable_receipt", f"receipt {index}: its time, {receipt.at.isoformat()}, is before 1970"
        )
    return msgspec.structs.replace(receipt, at=min(receipt.at, now))


def _storable(receipt: Receipt, *, whole: str, channel: str) -> Receipt:
    """The receipt with the text that it was read from, so that any store can keep it."""
    raw = whole if receipt.raw is None else _readable(receipt.raw.encode(errors="replace"))
    detail = None if receipt.detail is None else receipt.detail.replace("\0", "\ufffd")
    provider_id = None if receipt.provider_id is None else receipt.provider_id.replace("\0", "\ufffd")
    return msgspec.structs.replace(receipt, raw=raw, detail=detail, provider_id=provider_id, channel=channel)


def _readable(body: bytes) -> str:
    """The body as text: cut, in UTF-8, and without NUL, which PostgreSQL refuses."""
    cut = body[:MAX_RAW_BYTES].decode(errors="replace").replace("\0", "\ufffd")
    return cut.encode()[:MAX_RAW_BYTES].decode(errors="ignore")

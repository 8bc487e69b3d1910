"""`POST /v1/receipts/{provider}`: what a provider reports later, into the log. No API key: the provider's signature."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from pabal.api.acceptance import Acceptance
from pabal.api.asgi import Answer
from pabal.api.endpoint import Call
from pabal.api.ledger import LedgerAtNeed
from pabal.api.messages import TakenReceipts
from pabal.api.problems import Refused
from pabal.codec import receipt_record
from pabal.errors import ReceiptRefused, UnreadableReceipt
from pabal.notification import Receipt, ReceiptKind
from pabal.outcome import Accepted
from pabal.providers.port import CallbackRequest, TakesReceipts

MAX_CALLBACK_BYTES: Final = 1024 * 1024
"""SendGrid posts up to 1,000 events at once, less than a kilobyte each."""

MAX_RAW_BYTES: Final = 16 * 1024
"""How much of a callback is kept with each of its receipts."""

_ARRIVED: Final[frozenset[ReceiptKind]] = frozenset(
    {"delivered", "bounced", "complained", "unsubscribed", "opened", "clicked"}
)
"""What can only be said of something that was taken. A provider may reject, or put off, what it never took."""

_CHALLENGE: Final = (b"www-authenticate", b'Signature realm="receipts"')


class TakingReceipts:
    """See the module. A 202 means that all of them stand in the log; the same callback again changes nothing."""

    def __init__(self, *, receivers: Mapping[str, TakesReceipts], acceptance: Acceptance, ledger: LedgerAtNeed) -> None:
        """`receivers`: by the name that the configuration gives the provider."""
        self._receivers = receivers
        self._acceptance = acceptance
        self._ledger = ledger

    async def take(self, call: Call) -> Answer:
        """Check, normalise, append."""
        name = call.part("provider")
        receiver = self._receivers.get(name)
        if receiver is None:
            raise Refused("not_found", f"there is no provider {name[:64]!r} here that takes receipts")
        body = await call.body(limit=MAX_CALLBACK_BYTES)
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in call.head.items()}
        try:
            receipts = receiver.receipts(CallbackRequest(headers=headers, body=body))
        except ReceiptRefused as error:
            raise Refused("receipt_refused", str(error), headers=[_CHALLENGE]) from None
        except UnreadableReceipt as error:
            raise Refused("unreadable_receipt", str(error)) from None
        if receipts:
            whole = _readable(body)
            await self._acceptance.append([receipt_record(_storable(receipt, whole=whole)) for receipt in receipts])
            await self._acknowledge(receipts)
        return Answer(status=202, body=TakenReceipts(receipts=len(receipts)))

    async def _acknowledge(self, receipts: Sequence[Receipt]) -> None:
        """What the far side has under our own key is not called again, whatever became of our call."""
        arrived = [receipt for receipt in receipts if receipt.delivery_id is not None and receipt.kind in _ARRIVED]
        if not arrived:
            return
        try:
            ledger = await self._ledger.get()
        except Refused:
            # Said in our log. The receipts stand in Pabal's, which is what they were sent for.
            return
        outcomes = [Accepted(provider_id=receipt.provider_id) for receipt in arrived]
        await asyncio.gather(
            *(
                ledger.acknowledge(receipt.delivery_id, outcome)
                for receipt, outcome in zip(arrived, outcomes, strict=True)
                if receipt.delivery_id is not None
            )
        )


def _storable(receipt: Receipt, *, whole: str) -> Receipt:
    """The receipt with what it was read from, as text that any store can keep."""
    raw = whole if receipt.raw is None else _readable(receipt.raw.encode(errors="replace"))
    detail = None if receipt.detail is None else receipt.detail.replace("\0", "\ufffd")
    provider_id = None if receipt.provider_id is None else receipt.provider_id.replace("\0", "\ufffd")
    return msgspec.structs.replace(receipt, raw=raw, detail=detail, provider_id=provider_id)


def _readable(body: bytes) -> str:
    """Cut, in UTF-8, and without NUL, which PostgreSQL refuses."""
    cut = body[:MAX_RAW_BYTES].decode(errors="replace").replace("\0", "\ufffd")
    return cut.encode()[:MAX_RAW_BYTES].decode(errors="ignore")

"""What became of mail after it was taken, in a generic signed format that any relay's reports can be put into. Pure.

SMTP itself has no callbacks. The reports of a relay (SES, Mailgun, a bounce mailbox) are put into this format by a few
lines that name the message and the kind; docs/providers.md shows the format.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import unquote
from uuid import UUID

import msgspec

from pabal.choices import with_choices
from pabal.errors import UnreadableReceipt
from pabal.notification import Instant, Receipt, ReceiptKind, receipt_id
from pabal.providers.port import CallbackRequest
from pabal.providers.signatures import verify

MAX_RECEIPTS = 1000
"""Of one callback."""

_OUR_KEY = re.compile(r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})(?:\.\d+)?")

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class RelayReport(msgspec.Struct, frozen=True, kw_only=True):
    """One report. `event` is the relay's own id of it: the same report, sent again, has the same id.

    The message is named by our delivery's id, by the Message-ID we gave it, or by what the relay calls it (the queue
    id in its reply); one of them is enough.
    """

    event: Text
    kind: ReceiptKind
    at: Instant
    delivery_id: UUID | None = None
    message_id: Text | None = None
    provider_id: Text | None = None
    permanent: bool = False
    detail: Annotated[str, msgspec.Meta(max_length=2000)] | None = None


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """The body. Fields that we do not know are the relay's own affair."""

    receipts: Annotated[tuple[msgspec.Raw, ...], msgspec.Meta(max_length=MAX_RECEIPTS)]


def read_receipts(
    request: CallbackRequest, *, provider: str, keys: Sequence[bytes], now: datetime
) -> Sequence[Receipt]:
    """What a callback reports. Raises as `TakesReceipts.receipts`."""
    verify(request.body, headers=request.headers, keys=keys, now=now)
    callback = _decode(request.body, Callback, where="$")
    return [
        _receipt(
            _decode(raw, RelayReport, where=f"$.receipts[{index}]"),
            raw,
            provider=provider,
            where=f"$.receipts[{index}]",
        )
        for index, raw in enumerate(callback.receipts)
    ]


def _receipt(reported: RelayReport, raw: msgspec.Raw, *, provider: str, where: str) -> Receipt:
    delivery = reported.delivery_id or _delivery_of(reported.message_id)
    if delivery is None and reported.provider_id is None:
        raise UnreadableReceipt(f"{where}: names no message: give delivery_id, our Message-ID, or provider_id")
    return Receipt(
        id=receipt_id(provider=provider, event=reported.event),
        provider=provider,
        kind=reported.kind,
        at=reported.at,
        delivery_id=delivery,
        provider_id=reported.provider_id,
        is_permanent=reported.permanent,
        detail=reported.detail,
        # Bytes in fields that we do not know have been checked by nothing yet.
        raw=bytes(raw).decode(errors="replace"),
    )


def _delivery_of(message_id: str | None) -> UUID | None:
    """The delivery whose key is the left part of a Message-ID (`message.compose` wrote it)."""
    left = unquote((message_id or "").strip().removeprefix("<").partition("@")[0])
    found = _OUR_KEY.fullmatch(left)
    return UUID(found[1]) if found else None


def _decode(text: bytes | msgspec.Raw, model: type[Any], *, where: str) -> Any:
    try:
        return msgspec.json.decode(text, type=model)
    except msgspec.ValidationError as error:
        message, separator, place = with_choices(str(error), type_=model).rpartition(" - at `$")
        raise UnreadableReceipt(
            f"{where}{place.removesuffix('`')}: {message}" if separator else f"{where}: {error}"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UnreadableReceipt(f"{where}: not JSON: {error}") from None

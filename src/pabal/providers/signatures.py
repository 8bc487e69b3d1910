"""Signatures after Standard Webhooks (https://www.standardwebhooks.com), of callbacks that come in. Pure.

The specification's own library reads the machine's clock; here the time is passed in.
"""

import base64
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from pabal.errors import ReceiptRefused

TOLERANCE_SECONDS: Final = 300
"""How far a callback's timestamp may be off (Standard Webhooks, "Verifying webhook authenticity"); ends replays."""


def sign(body: bytes, *, key: bytes, message_id: str, at: datetime) -> Mapping[str, str]:
    """The three headers of a signed message."""
    timestamp = str(int(at.timestamp()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_signature(body, key=key, message_id=message_id, timestamp=timestamp)}",
    }


def verify(body: bytes, *, headers: Mapping[str, str], keys: Sequence[bytes], now: datetime) -> None:
    """Return if one of the keys signed the body within the last five minutes. `headers` by lower-case name.

    Raises ReceiptRefused.
    """
    message_id, timestamp, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not (message_id and timestamp and given):
        raise ReceiptRefused("the headers webhook-id, webhook-timestamp and webhook-signature are needed")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise ReceiptRefused("webhook-timestamp is not a number of seconds")
    if abs(now.timestamp() - int(timestamp)) > TOLERANCE_SECONDS:
        raise ReceiptRefused(f"webhook-timestamp is more than {TOLERANCE_SECONDS} s off")
    signatures = [
        value.encode() for version, _, value in (each.partition(",") for each in given.split()) if version == "v1"
    ]
    for key in keys:
        expected = _signature(body, key=key, message_id=message_id, timestamp=timestamp).encode()
        if any(hmac.compare_digest(expected, signature) for signature in signatures):
            return
    raise ReceiptRefused("no signature fits a secret that is configured here")


def _signature(body: bytes, *, key: bytes, message_id: str, timestamp: str) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(key, signed, "sha256").digest()).decode()

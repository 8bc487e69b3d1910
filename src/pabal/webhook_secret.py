"""Secrets of Standard Webhooks: how one is written, and what is none. Pure.

Tenants sign their webhooks with them, and relays their reports. The rule is in the specification, "Signature scheme":
at least 24 bytes of chance (192 bits) and at most 64 (512 bits), in base64 behind `whsec_`.
"""

import base64
import binascii
from typing import Final

_PREFIX: Final = "whsec_"
FEWEST_BYTES: Final = 24
MOST_BYTES: Final = 64

_RIGHT: Final = (
    f"write {_PREFIX} and {FEWEST_BYTES} to {MOST_BYTES} random bytes in base64; `pabal key webhook-secret` makes one"
)


def read_secret(secret: str) -> bytes:
    """The key of a `whsec_…`. Raises ValueError, whose text says what is right and never shows the secret.

    The prefix is asked for: without it many a password is base64 too, and would sign as bytes that nobody meant.
    """
    if not secret.startswith(_PREFIX):
        raise ValueError(f"a webhook secret begins with {_PREFIX}: {_RIGHT}")
    text = secret.removeprefix(_PREFIX)
    try:
        # Receivers' libraries take it without padding too.
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {_PREFIX} is not base64: {_RIGHT}") from None
    if not FEWEST_BYTES <= len(key) <= MOST_BYTES:
        raise ValueError(f"the secret has {len(key)} bytes: {_RIGHT}")
    return key


def write_secret(key: bytes) -> str:
    """The `whsec_…` of a key."""
    return f"{_PREFIX}{base64.b64encode(key).decode()}"

"""Signatures of what comes in: as Standard Webhooks says, by the time that is passed in."""

from base64 import b64encode
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook

from pabal.errors import ReceiptRefused
from pabal.providers.signatures import TOLERANCE_SECONDS, sign, verify
from pabal.webhook_secret import read_secret

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = f"whsec_{b64encode(b'a secret that only tests know').decode()}"
KEY, OLD_KEY = read_secret(SECRET), b"the key before it"
BODY = '{"receipts": ["é"]}'.encode()


def test_what_the_specifications_own_library_signs_is_taken() -> None:
    signature = Webhook(SECRET).sign("msg_1", NOW, BODY.decode())

    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(NOW.timestamp())),
        "webhook-signature": signature,
    }

    verify(BODY, headers=headers, keys=[KEY], now=NOW)


def test_what_we_sign_the_specifications_own_library_takes() -> None:
    now = datetime.now(UTC)

    Webhook(SECRET).verify(BODY, dict(sign(BODY, key=KEY, message_id="msg_1", at=now)), json_parse=False)


def test_while_secrets_rotate_either_is_taken() -> None:
    for key in (KEY, OLD_KEY):
        verify(BODY, headers=sign(BODY, key=key, message_id="m", at=NOW), keys=[KEY, OLD_KEY], now=NOW)


def test_one_good_signature_among_others_is_enough() -> None:
    headers = dict(sign(BODY, key=KEY, message_id="m", at=NOW))
    headers["webhook-signature"] = f"v1a,xyz v1,AAAA nonsense {headers['webhook-signature']}"

    verify(BODY, headers=headers, keys=[KEY], now=NOW)


@pytest.mark.parametrize("off_seconds", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1])
def test_a_callback_from_another_time_is_refused(off_seconds: float) -> None:
    headers = sign(BODY, key=KEY, message_id="m", at=NOW + timedelta(seconds=off_seconds))

    with pytest.raises(ReceiptRefused, match="300 s off"):
        verify(BODY, headers=headers, keys=[KEY], now=NOW)


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-id", "another"),
        ("webhook-id", ""),
        ("webhook-timestamp", str(int(NOW.timestamp()) + 1)),
        ("webhook-timestamp", "soon"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,é"),
        ("webhook-signature", "v2,AAAA"),
    ],
)
def test_a_header_that_was_changed_is_refused(header: str, value: str) -> None:
    headers = {**sign(BODY, key=KEY, message_id="m", at=NOW), header: value}

    with pytest.raises(ReceiptRefused):
        verify(BODY, headers=headers, keys=[KEY], now=NOW)


def test_a_body_that_was_changed_or_signed_with_another_key_is_refused() -> None:
    headers = sign(BODY, key=KEY, message_id="m", at=NOW)

    with pytest.raises(ReceiptRefused):
        verify(BODY + b" ", headers=headers, keys=[KEY], now=NOW)
    with pytest.raises(ReceiptRefused):
        verify(BODY, headers=headers, keys=[OLD_KEY], now=NOW)
    with pytest.raises(ReceiptRefused):
        verify(BODY, headers=headers, keys=[], now=NOW)

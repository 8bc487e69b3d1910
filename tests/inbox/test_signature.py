from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks

from pabal.inbox.signature import check_signature

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
BODY = b'{"order":17}'


def signed(*, secret: str = SECRET, age_seconds: float = 0.0) -> dict[str, str]:
    at = datetime.now(UTC) - timedelta(seconds=age_seconds)
    signature = standardwebhooks.Webhook(secret).sign("msg_1", at, BODY.decode())
    return {"webhook-id": "msg_1", "webhook-timestamp": str(int(at.timestamp())), "webhook-signature": signature}


def test_a_signature_of_any_configured_secret_is_valid() -> None:
    assert check_signature(BODY, headers=signed(), secrets=[OTHER, SECRET]).verdict == "valid"


def test_a_signature_of_another_secret_is_invalid() -> None:
    assert check_signature(BODY, headers=signed(secret=OTHER), secrets=[SECRET]).verdict == "invalid"


def test_a_signature_of_another_body_is_invalid() -> None:
    assert check_signature(BODY + b" ", headers=signed(), secrets=[SECRET]).verdict == "invalid"


def test_an_old_signature_is_invalid_and_says_so() -> None:
    checked = check_signature(BODY, headers=signed(age_seconds=3600), secrets=[SECRET])

    assert (checked.verdict, checked.detail) == ("invalid", "Message timestamp too old")


def test_no_signature_is_missing() -> None:
    assert check_signature(BODY, headers={}, secrets=[SECRET]).verdict == "missing"


def test_without_a_secret_nothing_is_checked() -> None:
    assert check_signature(BODY, headers=signed(), secrets=[]).verdict == "unchecked"


@pytest.mark.parametrize("value", ["", "v1", "v1,%%%", "v1,a,b", "v2,AAAA"])
def test_a_header_that_is_no_signature_is_invalid(value: str) -> None:
    checked = check_signature(BODY, headers=signed() | {"webhook-signature": value}, secrets=[SECRET])

    assert checked.verdict == "invalid"


def test_a_body_that_is_no_text_is_invalid() -> None:
    assert check_signature(b"\xff", headers=signed(), secrets=[SECRET]).verdict == "invalid"

"""Standard Webhooks secrets: what is one, what is none, and that none is ever repeated."""

import re
from base64 import b64decode, b64encode

import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook

from pabal.cli.main import main
from pabal.webhook_secret import read_secret, write_secret

KEY = bytes(range(32))


@pytest.mark.parametrize("length", [24, 25, 26, 32, 64])
def test_24_to_64_bytes_are_read_with_and_without_padding(length: int) -> None:
    key = bytes(range(length))
    written = f"whsec_{b64encode(key).decode()}"

    assert write_secret(key) == written
    assert read_secret(written) == read_secret(written.rstrip("=")) == key
    assert Webhook(written)._whsecret == key


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "a webhook secret begins with whsec_"),
        ("mysecret", "a webhook secret begins with whsec_"),
        ("correcthorsebatterystaple1234567", "a webhook secret begins with whsec_"),  # base64 of 24 bytes as it happens
        (f"whsk_{b64encode(KEY).decode()}", "a webhook secret begins with whsec_"),  # the other kind, which we lack
        (f"WHSEC_{b64encode(KEY).decode()}", "a webhook secret begins with whsec_"),
        (f"whsec_ {b64encode(KEY).decode()}", "what follows whsec_ is not base64"),
        ("whsec_not base64 but long enough!!", "what follows whsec_ is not base64"),
        ("whsec_höchstgeheimundlanggenugdafür", "what follows whsec_ is not base64"),
        (f"whsec_{'A' * 33}", "what follows whsec_ is not base64"),  # no number of bytes has 33 characters
        ("whsec_", "the secret has 0 bytes"),
        ("whsec_bXlzZWNyZXQ=", "the secret has 8 bytes"),
        (f"whsec_{b64encode(bytes(23)).decode()}", "the secret has 23 bytes"),
        (f"whsec_{b64encode(bytes(65)).decode()}", "the secret has 65 bytes"),
    ],
)
def test_what_is_none_is_told_with_what_is_right_and_never_shown(secret: str, problem: str) -> None:
    right = "write whsec_ and 24 to 64 random bytes in base64; `pabal key webhook-secret` makes one"

    with pytest.raises(ValueError, match=f"^{re.escape(f'{problem}: {right}')}$") as raised:
        read_secret(secret)

    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_the_command_makes_another_one_each_time() -> None:
    first, second = (CliRunner().invoke(main, ["key", "webhook-secret"]).stdout for _ in range(2))

    assert len(b64decode(first.strip().removeprefix("whsec_"))) == len(read_secret(second.strip())) == 32
    assert first != second

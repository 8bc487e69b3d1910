import ssl
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from pabal.clock import ManualClock
from pabal.errors import ConfigError
from pabal.providers.port import ProviderContext
from pabal.providers.smtp import create
from pabal.providers.smtp.options import SmtpOptions
from tests.providers.smtp.certificates import Certificate

CONTEXT = ProviderContext(clock=ManualClock())
MINIMAL: dict[str, Any] = {"host": "smtp.example.com", "sender": "Shop <noreply@example.com>"}


def test_it_is_found_by_its_entry_point() -> None:
    (entry_point,) = entry_points(group="pabal.providers", name="smtp")

    assert entry_point.load() is create


def test_host_and_sender_are_enough() -> None:
    provider = create(MINIMAL, CONTEXT)

    assert provider.channel == "email"
    assert provider.timeout_seconds == 10.0
    assert provider.deduplicates_for is None


@pytest.mark.parametrize(("tls", "port"), [("none", 25), ("starttls", 587), ("tls", 465)])
def test_the_port_follows_the_kind_of_tls(tls: Any, port: int) -> None:
    assert SmtpOptions(**MINIMAL, tls=tls).server == f"smtp.example.com:{port}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"host": None}, "$.providers.smtp.host: "),
        ({"host": "smtp.example.com\r\nX"}, "$.providers.smtp.host: "),
        ({"host": "bücher.example"}, "$.providers.smtp: host: write an internationalised name in its xn-- form"),
        ({"port": 0}, "$.providers.smtp.port: "),
        ({"tls": "ssl"}, "$.providers.smtp.tls: Invalid enum value 'ssl'"),
        ({"sender": "Shop"}, "$.providers.smtp: sender: "),
        ({"username": "shop"}, "$.providers.smtp: username and password belong together"),
        ({"timeout_seconds": 0}, "$.providers.smtp.timeout_seconds: "),
        ({"local_hostname": "two words"}, "$.providers.smtp.local_hostname: "),
        ({"ca_file": "/nowhere.pem", "tls": "none"}, "$.providers.smtp: ca_file has no use"),
        ({"ca_file": "/nowhere.pem"}, "$.providers.smtp.ca_file: "),
        ({"verify": False}, "$.providers.smtp.verify: unknown setting; there are: host, "),
    ],
)
def test_a_setting_that_is_wrong_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        create(MINIMAL | options, CONTEXT)

    assert str(raised.value).startswith(message)


def test_a_ca_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")

    with pytest.raises(ConfigError, match=r"\.ca_file: cannot be used"):
        create(MINIMAL | {"ca_file": str(tmp_path / "ca.pem")}, CONTEXT)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="sender"):
        create({"host": "smtp.example.com"}, CONTEXT)


def test_a_private_ca_replaces_the_systems(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []
    original = ssl.create_default_context

    def remember(**arguments: Any) -> ssl.SSLContext:
        made.append(original(**arguments))
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", remember)

    create(MINIMAL | {"ca_file": certificate.file}, CONTEXT)

    assert [len(context.get_ca_certs()) for context in made] == [1]
    assert made[0].verify_mode is ssl.CERT_REQUIRED
    assert made[0].check_hostname


def test_the_password_shows_in_no_text() -> None:
    options = SmtpOptions(**MINIMAL, username="shop", password="s3cret")

    assert "s3cret" not in f"{options!r} {options}"

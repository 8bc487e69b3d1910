"""What a relay's signed callbacks say, and what is said of those that cannot be read."""

from base64 import b64encode
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pabal.channels.port import Rendered
from pabal.clock import ManualClock
from pabal.errors import ConfigError, ReceiptRefused, UnreadableReceipt
from pabal.notification import receipt_id
from pabal.providers.port import CallbackRequest, Provider, ProviderContext, TakesReceipts
from pabal.providers.signatures import sign
from pabal.providers.smtp import create
from pabal.providers.smtp.mailbox import Mailbox
from pabal.providers.smtp.message import compose
from pabal.webhook_secret import read_secret

CLOCK = ManualClock()
SECRET = f"whsec_{b64encode(b'a secret between us and the relay').decode()}"
DELIVERY = UUID("ed19d4a3-93a3-5c3a-9e05-0c9ad0a36a7d")
BOUNCE = {"event": "e1", "kind": "bounced", "at": "2026-03-01T12:00:00Z", "delivery_id": str(DELIVERY)}


def smtp(**options: Any) -> Provider:
    own = {"host": "mx.example.com", "sender": "shop@example.com", "receipt_secrets": [SECRET], **options}
    return create(own, ProviderContext(clock=CLOCK, name="relay"))


def receiver(**options: Any) -> TakesReceipts:
    provider = smtp(**options)
    assert isinstance(provider, TakesReceipts)
    return provider


def signed(body: object) -> CallbackRequest:
    text = body if isinstance(body, bytes) else msgspec.json.encode(body)
    headers = sign(text, key=read_secret(SECRET), message_id="m", at=CLOCK.now())
    return CallbackRequest(headers=headers, body=text)


def test_a_report_becomes_a_receipt_with_its_own_part_of_the_body() -> None:
    bounce = {**BOUNCE, "permanent": True, "detail": "550 5.1.1 no such user", "ours": [1]}

    first, second = receiver().receipts(signed({"receipts": [bounce, {**BOUNCE, "event": "e2", "kind": "opened"}]}))

    assert first.id == receipt_id(provider="relay", event="e1")
    assert (first.provider, first.kind, first.delivery_id) == ("relay", "bounced", DELIVERY)
    assert (first.is_permanent, first.detail) == (True, "550 5.1.1 no such user")
    assert msgspec.json.decode(first.raw or "") == bounce
    assert (second.kind, second.is_permanent) == ("opened", False)


@pytest.mark.parametrize("key", [str(DELIVERY), f"{DELIVERY}.3"])
def test_the_message_id_that_we_wrote_names_the_delivery_whatever_its_edit(key: str) -> None:
    rendered = Rendered(subject="s", body="b")
    to, sender = Mailbox(address="ana@example.com"), Mailbox(address="shop@example.com")
    message = compose(rendered, sender=sender, to=to, key=key, now=CLOCK.now()).decode()
    [line] = [line for line in message.splitlines() if line.startswith("Message-ID: ")]
    report = {name: BOUNCE[name] for name in ("event", "kind", "at")}

    [receipt] = receiver().receipts(signed({"receipts": [{**report, "message_id": line.removeprefix("Message-ID: ")}]}))

    assert receipt.delivery_id == DELIVERY


def test_a_message_that_is_not_ours_needs_the_relays_own_name_for_it() -> None:
    report = {name: BOUNCE[name] for name in ("event", "kind", "at")} | {"message_id": "<42@elsewhere>"}

    with pytest.raises(UnreadableReceipt, match=r"^\$\.receipts\[0\]: names no message"):
        receiver().receipts(signed({"receipts": [report]}))
    [receipt] = receiver().receipts(signed({"receipts": [{**report, "provider_id": "4WxYz"}]}))

    assert (receipt.delivery_id, receipt.provider_id) == (None, "4WxYz")


@pytest.mark.parametrize(
    ("report", "where"),
    [
        ({**BOUNCE, "kind": "exploded"}, r"\$\.receipts\[1\]\.kind: .*there are: .*bounced"),
        ({**BOUNCE, "at": "2026-03-01T12:00:00"}, r"\$\.receipts\[1\]\.at: "),
        ({**BOUNCE, "event": ""}, r"\$\.receipts\[1\]\.event: "),
        ({"kind": "bounced"}, r"\$\.receipts\[1\]: .*event"),
        ("text", r"\$\.receipts\[1\]: "),
    ],
)
def test_what_does_not_fit_is_named_by_its_place(report: object, where: str) -> None:
    with pytest.raises(UnreadableReceipt, match=f"^{where}"):
        receiver().receipts(signed({"receipts": [BOUNCE, report]}))


@settings(deadline=None)
@given(body=st.binary(max_size=60) | st.recursive(st.just(b"1"), lambda x: x.map(lambda y: b"[" + y + b"]")))
def test_whatever_is_signed_is_read_or_refused_in_words(body: bytes) -> None:
    with pytest.raises(UnreadableReceipt):
        receiver().receipts(signed(body))


def test_deep_nesting_is_refused_in_words() -> None:
    with pytest.raises(UnreadableReceipt):
        receiver().receipts(signed(b'{"receipts": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


def test_without_a_signature_or_without_a_secret_nothing_is_taken() -> None:
    body = msgspec.json.encode({"receipts": [BOUNCE]})

    with pytest.raises(ReceiptRefused, match="webhook-signature"):
        receiver().receipts(CallbackRequest(headers={}, body=body))
    with pytest.raises(ReceiptRefused, match=r"\$\.providers\.relay\.receipt_secrets"):
        receiver(receipt_secrets=[]).receipts(signed({"receipts": [BOUNCE]}))


def test_a_secret_that_is_none_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r"^\$\.providers\.smtp\.receipt_secrets\[1\]: the secret has 6 bytes: write"):
        smtp(receipt_secrets=[SECRET, "whsec_c2VjcmV0"])

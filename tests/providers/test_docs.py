"""docs/providers.md, held to the code."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import standardwebhooks

from pabal.clock import ManualClock
from pabal.notification import Receipt
from pabal.outcome import Rejected
from pabal.providers.addresses import AddressGuard
from pabal.providers.http import HttpClient
from pabal.providers.port import CallbackRequest, ProviderContext, TakesReceipts
from pabal.providers.registry import find_providers
from pabal.providers.signatures import sign
from pabal.providers.smtp import create as create_smtp
from pabal.providers.smtp.receipts import RelayReport
from pabal.providers.webhook import WebhookOptions, WebhookProvider
from pabal.webhook_secret import read_secret
from tests.providers.webhook.endpoint import Endpoint, answer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
DOCS = (Path(__file__).parents[2] / "docs" / "providers.md").read_text(encoding="utf-8")


def test_every_built_in_provider_has_a_heading() -> None:
    built_in = [name for name, points in find_providers().items() if any(p.value.startswith("pabal.") for p in points)]

    assert {"smtp", "webhook"} <= set(built_in)
    assert [name for name in built_in if f"## `{name}`" not in DOCS] == []


def test_every_setting_of_the_webhook_provider_is_shown_with_its_default() -> None:
    for field in msgspec.structs.fields(WebhookOptions):
        assert re.search(rf"^{field.name} = ", DOCS, re.MULTILINE)

    assert "timeout_seconds = 10.0" in DOCS


def test_receivers_are_told_for_how_long_to_remember() -> None:
    assert WebhookProvider.deduplicates_for is not None
    assert WebhookProvider.deduplicates_for.days == 3
    assert "for three days" in DOCS


@pytest.fixture
def receive() -> Callable[..., int]:
    """The receiver of the guide, as it stands there."""
    [code] = [block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "def receive" in block]
    namespace: dict[str, Callable[..., int]] = {}
    exec(code, namespace)
    return namespace["receive"]


def test_the_receiver_of_the_guide_takes_each_delivery_once(
    receive: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    key, now, body = str(uuid.uuid4()), datetime.now(UTC), '{"title":"Order 17 shipped"}'
    headers = {
        "webhook-id": key,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": standardwebhooks.Webhook(SECRET).sign(key, now, body),
    }

    statuses = [receive(headers, body.encode(), secret=SECRET) for _ in range(2)]
    forged = receive(headers, b'{"title":"Order 18"}', secret=SECRET)

    assert statuses == [204, 204]
    assert forged == 401
    assert capsys.readouterr().out == "new: Order 17 shipped\n"


def smtp_receipts(body: bytes, headers: Mapping[str, str], *, now: datetime) -> Sequence[Receipt]:
    clock = ManualClock(now)
    options = {"host": "mx.example.com", "sender": "shop@example.com", "receipt_secrets": [SECRET]}
    provider = create_smtp(options, ProviderContext(clock=clock, name="smtp"))
    assert isinstance(provider, TakesReceipts)
    return provider.receipts(CallbackRequest(headers=headers, body=body))


def test_the_callback_of_the_guide_is_a_hard_bounce() -> None:
    [example] = re.findall(r"^POST /v1/receipts/smtp.*?\n\n(.*?)```", DOCS, re.DOTALL | re.MULTILINE)
    now = datetime.now(UTC)

    [receipt] = smtp_receipts(
        example.encode(), sign(example.encode(), key=read_secret(SECRET), message_id="m", at=now), now=now
    )

    assert (receipt.kind, receipt.is_permanent) == ("bounced", True)
    assert str(receipt.delivery_id) == "ed19d4a3-93a3-5c3a-9e05-0c9ad0a36a7d"


def test_the_adapter_of_the_guide_makes_what_the_provider_takes() -> None:
    [code] = [block for block in re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL) if "def adapt" in block]
    namespace: dict[str, Callable[..., tuple[bytes, dict[str, str]]]] = {}
    exec(code, namespace)
    now, key = datetime.now(UTC), uuid.uuid4()
    notice = {"id": "n1", "code": "550", "time": now.isoformat(), "message-id": f"<{key}@example.com>"}

    body, headers = namespace["adapt"](notice, secret=SECRET, now=now)

    [receipt] = smtp_receipts(body, headers, now=now)
    assert (receipt.delivery_id, receipt.is_permanent) == (key, True)


async def test_the_http_api_of_the_guide_is_called_and_its_table_holds() -> None:
    [code] = [block for block in re.findall(r" {3}```python\n(.*?) {3}```", DOCS, re.DOTALL) if "MEANINGS" in block]
    namespace: dict[str, Any] = {}
    exec(re.sub(r"^ {3}", "", code, flags=re.MULTILINE), namespace)
    now = datetime.now(UTC)
    http = HttpClient(guard=AddressGuard(allow=("127.0.0.1/32",)), timeout_seconds=5.0, user_agent="test")

    async with Endpoint() as endpoint:
        endpoint.script = answer(400, body=b'{"error":"no_such_number"}')
        outcome = await namespace["hand_over"](http, endpoint.url, to="+491", text="Hi", now=now)
        await http.close()

    assert outcome == Rejected(reason="the gateway answered 400: no_such_number", response='{"error":"no_such_number"}')
    assert endpoint.requests[0].body == b'{"to":"+491","text":"Hi"}'


def test_every_field_of_a_report_is_explained() -> None:
    assert {field.name for field in msgspec.structs.fields(RelayReport) if f"`{field.name}`" not in DOCS} == set()

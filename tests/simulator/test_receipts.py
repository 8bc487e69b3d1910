"""What the simulator reports later: signed, of the mail it kept, repeated and out of order when told to."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import aiosmtplib
import msgspec
import pytest
from standardwebhooks import Webhook

from pabal.clock import SystemClock
from pabal.notification import Receipt
from pabal.providers.port import CallbackRequest, ProviderContext, TakesReceipts
from pabal.providers.smtp import create
from pabal.simulator import HttpBehaviour, PostedReceipts, ReceiptOrder, Simulator
from pabal.simulator.receipts import make_callbacks, queue_id
from pabal.simulator.received import Received

SECRET = "whsec_YSBzZWNyZXQgYmV0d2VlbiB1cyBhbmQgdGhlIHJlbGF5"


@asynccontextmanager
async def two_mails() -> AsyncIterator[Simulator]:
    """A simulator that has taken a mail to Ana and one to Bo; webhooks posted to it are callbacks that it sends."""
    async with await Simulator.start() as simulator:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=simulator.smtp_port) as client:
            for name in ("ana", "bo"):
                await client.sendmail("a@pabal.example", f"{name}@example.com", f"Message-ID: <{name}@x>\n\nHi")
        yield simulator


def order(simulator: Simulator, **more: object) -> ReceiptOrder:
    return msgspec.convert({"to": f"{simulator.url}/callback", "secret": SECRET, **more}, ReceiptOrder)


def taken(simulator: Simulator) -> list[Receipt]:
    """What our provider makes of the callbacks that were posted."""
    options = {"host": "x", "sender": "a@pabal.example", "receipt_secrets": [SECRET]}
    provider = create(options, ProviderContext(clock=SystemClock(), name="smtp"))
    assert isinstance(provider, TakesReceipts)
    return [
        receipt
        for request in simulator.requests()
        if request.path == "/callback"
        for receipt in provider.receipts(CallbackRequest(headers=request.headers, body=request.body))
    ]


async def test_it_reports_what_became_of_mail_signed_as_the_provider_wants_it() -> None:
    async with two_mails() as simulator:
        reported = await simulator.report(order(simulator, kinds=["delivered"], named_by="provider_id"))

        assert reported == PostedReceipts(posted=2, by_answer={"200": 2})
        receipts = taken(simulator)
        callback = simulator.requests()[-1]
    assert [(receipt.kind, receipt.provider_id) for receipt in receipts] == [
        ("delivered", queue_id("ana@x")),
        ("delivered", queue_id("bo@x")),
    ]
    Webhook(SECRET).verify(callback.body, dict(callback.headers), json_parse=False)


async def test_its_reply_says_what_it_calls_the_mail() -> None:
    async with (
        await Simulator.start() as simulator,
        aiosmtplib.SMTP(hostname="127.0.0.1", port=simulator.smtp_port) as client,
    ):
        _, reply = await client.sendmail("a@pabal.example", "ana@example.com", "Message-ID: <ana@x>\n\nHi")

    assert reply.endswith(f"queued as {queue_id('<ana@x>')}")


async def test_a_hard_bounce_is_permanent_and_a_soft_one_is_not() -> None:
    async with two_mails() as simulator:
        told = {"kinds": ["bounced"], "recipient": "bo@example.com", "named_by": "provider_id"}
        await simulator.report(order(simulator, **told))
        await simulator.report(order(simulator, **told, permanent=False))

        receipts = taken(simulator)
    assert [(receipt.kind, receipt.is_permanent) for receipt in receipts] == [("bounced", True), ("bounced", False)]


async def test_copies_are_the_same_receipt_and_out_of_order_is_backwards() -> None:
    async with two_mails() as simulator:
        told = {"kinds": ["delivered", "complained"], "last": 1, "copies": 2, "named_by": "provider_id"}
        await simulator.report(order(simulator, **told, out_of_order=True))

        receipts = taken(simulator)
    assert [receipt.kind for receipt in receipts] == ["complained", "complained", "delivered", "delivered"]
    assert len({receipt.id for receipt in receipts}) == 2
    assert receipts[0].at > receipts[-1].at


async def test_it_says_how_its_callbacks_were_answered() -> None:
    async with two_mails() as simulator:
        await simulator.behave(HttpBehaviour(status=401))
        refused = await simulator.report(order(simulator))
        nobody = await simulator.report(order(simulator, to="http://127.0.0.1:1/", last=1))

    assert (refused.by_answer, nobody.by_answer) == ({"401": 2}, {"Unsent": 1})


async def test_a_control_call_orders_receipts() -> None:
    async with two_mails() as simulator, aiohttp.ClientSession() as client:
        url = f"{simulator.control_url}/_control/receipts"
        told = {"to": f"{simulator.url}/callback", "secret": SECRET, "named_by": "provider_id"}
        async with client.post(url, json=told) as answer:
            assert (answer.status, await answer.json()) == (200, {"posted": 2, "by_answer": {"200": 2}})
        async with client.post(url, json={**told, "secret": "whsec_!"}) as answer:
            assert answer.status == 400
        assert len(taken(simulator)) == 2


def test_only_mail_is_reported_and_always_the_same_way() -> None:
    at_ns = int(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1e9)
    hook = Received(path="/hook", headers={}, body=b"", at_ns=at_ns)
    mail = Received(path="ana@example.com", headers={"message-id": "<ana@x>"}, body=b"", at_ns=at_ns)
    told = ReceiptOrder(to="http://x", secret=SECRET, kinds=("delivered", "opened"))

    bodies = make_callbacks([hook, mail], told)

    assert len(bodies) == 2
    assert bodies == make_callbacks([mail, hook], told)


@pytest.mark.parametrize("wrong", [{"kinds": []}, {"copies": 0}, {"kinds": ["exploded"]}, {"when": 1}])
def test_an_order_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"to": "http://x", "secret": SECRET, **wrong}, ReceiptOrder)

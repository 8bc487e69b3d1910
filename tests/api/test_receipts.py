"""`POST /v1/receipts/{provider}`: what a provider reports stands in the log, and nobody else's word does."""

from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pabal.api.receipts import MAX_CALLBACK_BYTES, MAX_RAW_BYTES
from pabal.clock import ManualClock
from pabal.codec import read_receipt
from pabal.errors import ConfigError, LedgerUnavailable, LogUnavailable, ReceiptRefused, UnreadableReceipt
from pabal.ledger.protocol import Call, Finish, Source
from pabal.notification import Receipt, ReceiptKind, receipt_id
from pabal.outcome import DeadLetter, Unknown
from pabal.providers.port import CallbackRequest, ProviderContext, TakesReceipts
from pabal.providers.signatures import sign
from pabal.providers.smtp import create
from pabal.webhook_secret import read_secret
from tests.api.lab import Lab, Reply, as_record
from tests.api.test_notifications import check_problem
from tests.api.world import World

AT = datetime(2025, 12, 1, 12, tzinfo=UTC)


class Relay:
    """A provider of a third party's: takes whatever names an event, and says what it is told to say."""

    channel = "email"

    def __init__(self, *, fails: Exception | None = None) -> None:
        self.asked: list[CallbackRequest] = []
        self._fails = fails

    def receipts(self, request: CallbackRequest) -> Sequence[Receipt]:
        self.asked.append(request)
        if self._fails is not None:
            raise self._fails
        return [
            Receipt(id=receipt_id(provider="relay", event=event), provider="relay", kind="delivered", at=AT)
            for event in request.body.decode("latin-1").split()
        ]


async def report(lab: Lab, body: bytes, *, provider: str = "relay", headers: Sequence[tuple[str, str]] = ()) -> Reply:
    return await lab.post(body, path=f"/v1/receipts/{provider}", key=None, content_type="text/plain", headers=headers)


async def test_what_a_provider_reports_stands_in_the_log() -> None:
    relay = Relay()
    lab = Lab(receivers={"relay": relay})

    reply = await report(lab, b"one two", headers=[("X-Relay", "Yes")])

    assert (reply.status, reply.json) == (202, {"receipts": 2})
    receipts = [read_receipt(as_record(record)) for record in lab.log.records]
    assert [receipt.id for receipt in receipts] == [receipt_id(provider="relay", event=each) for each in ("one", "two")]
    assert [receipt.raw for receipt in receipts] == ["one two", "one two"]
    assert relay.asked[0].headers["x-relay"] == "Yes"


async def test_a_callback_that_reports_nothing_of_interest_is_taken_and_nothing_appended() -> None:
    lab = Lab(receivers={"relay": Relay()})

    assert (await report(lab, b"")).json == {"receipts": 0}
    assert lab.log.appends == []


async def test_the_raw_callback_is_kept_cut_and_as_text() -> None:
    lab = Lab(receivers={"relay": Relay()})

    await report(lab, b"event\0\xff" + b"x" * MAX_RAW_BYTES)

    raw = read_receipt(as_record(lab.log.records[0])).raw or ""
    assert raw.startswith("event\ufffd\ufffd")
    assert MAX_RAW_BYTES - 3 <= len(raw.encode()) <= MAX_RAW_BYTES


@pytest.mark.parametrize("provider", ["nobody", "webhook", "a%2Fb", "ä"])
async def test_a_provider_that_takes_no_receipts_is_not_found(provider: str) -> None:
    check_problem(await report(Lab(receivers={"relay": Relay()}), b"one", provider=provider), "not_found")


async def test_what_does_not_prove_its_origin_is_refused() -> None:
    lab = Lab(receivers={"relay": Relay(fails=ReceiptRefused("no signature fits"))})

    reply = await report(lab, b"one")

    assert check_problem(reply, "receipt_refused")["detail"] == "no signature fits"
    assert "www-authenticate" in reply.headers
    assert lab.log.appends == []


async def test_what_cannot_be_read_is_refused_with_the_place() -> None:
    lab = Lab(receivers={"relay": Relay(fails=UnreadableReceipt("$.receipts[0].at: expected a time"))})

    assert "$.receipts[0].at" in check_problem(await report(lab, b"one"), "unreadable_receipt")["detail"]


async def test_a_defect_of_the_providers_is_a_problem_and_not_a_silent_loss(caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(receivers={"relay": Relay(fails=ZeroDivisionError())})

    check_problem(await report(lab, b"one"), "internal_error")
    assert "ZeroDivisionError" in caplog.text


async def test_while_the_log_is_away_the_provider_is_told_to_come_again() -> None:
    lab = Lab(receivers={"relay": Relay()})
    lab.log.fails = LogUnavailable("no leader")

    reply = await report(lab, b"one")

    check_problem(reply, "log_unavailable")
    assert reply.headers["retry-after"] == "2"


async def test_a_callback_beyond_all_reason_is_refused_unread() -> None:
    relay = Relay()

    check_problem(await report(Lab(receivers={"relay": relay}), b"x" * (MAX_CALLBACK_BYTES + 1)), "body_too_large")

    assert relay.asked == []


async def test_the_smtp_providers_signed_format_is_taken_over_http() -> None:
    secret = f"whsec_{b64encode(b'a secret between us and the relay').decode()}"
    options = {"host": "mx.example.com", "sender": "shop@example.com", "receipt_secrets": [secret]}
    smtp = create(options, ProviderContext(clock=ManualClock(), name="smtp"))
    assert isinstance(smtp, TakesReceipts)
    lab = Lab(receivers={"smtp": smtp}, ledger=ConfigError("another ledger"))
    bounce: dict[str, Any] = {"event": "e1", "kind": "bounced", "at": AT, "permanent": True, "delivery_id": UUID(int=7)}
    body = msgspec.json.encode({"receipts": [bounce]})
    signed = sign(body, key=read_secret(secret), message_id="m", at=lab.clock.now())

    taken = await report(lab, body, provider="smtp", headers=list(signed.items()))
    forged = await report(lab, body + b" ", provider="smtp", headers=list(signed.items()))

    assert (taken.status, forged.status) == (202, 401)
    [receipt] = [read_receipt(as_record(record)) for record in lab.log.records]
    assert (receipt.delivery_id, receipt.is_permanent) == (UUID(int=7), True)


class Echo:
    """A provider that reports under our own key."""

    channel = "email"

    def __init__(self, kind: ReceiptKind, *, delivery: UUID) -> None:
        self._kind = kind
        self._delivery = delivery

    def receipts(self, request: CallbackRequest) -> Sequence[Receipt]:
        event = receipt_id(provider="relay", event=request.body.decode())
        return [Receipt(id=event, provider="relay", kind=self._kind, at=AT, delivery_id=self._delivery)]


@pytest.mark.parametrize(("kind", "is_called_again"), [("delivered", False), ("bounced", False), ("deferred", True)])
async def test_what_the_far_side_has_under_our_key_is_not_called_again(
    world: World, kind: ReceiptKind, is_called_again: bool
) -> None:
    lost = world.delivery("lost")
    claim = await world.claim(lost)
    dead = DeadLetter(error_class="uncertain", message="it may have been sent")
    end = Finish(attempt=1, owner=claim.owner, token=claim.token, outcome=Unknown(reason="?"), verdict=dead)
    await world.ledger.finish(lost.id, end)
    lab = Lab(receivers={"relay": Echo(kind, delivery=lost.id)}, ledger=world.ledger)

    reply = await report(lab, b"one")

    assert reply.status == 202
    redriven = msgspec.structs.replace(claim, source=Source(2, 0), token=world.ledger.new_token())
    assert isinstance(await world.ledger.claim(lost.id, redriven), Call) == is_called_again


async def test_an_api_without_the_ledger_takes_receipts_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(receivers={"relay": Echo("delivered", delivery=UUID(int=1))}, ledger=ConfigError("another ledger"))

    assert (await report(lab, b"one")).json == {"receipts": 1}

    assert len(lab.log.records) == 1
    assert "another ledger" in caplog.text


async def test_while_the_ledger_is_away_the_provider_is_told_to_come_again() -> None:
    lab = Lab(receivers={"relay": Echo("delivered", delivery=UUID(int=1))}, ledger=LedgerUnavailable("away"))

    check_problem(await report(lab, b"one"), "ledger_unavailable")


async def signed_report(lab: Lab, *reports: bytes) -> Reply:
    body = b'{"receipts": [' + b", ".join(reports) + b"]}"
    signed = sign(body, key=read_secret(SECRET), message_id="m", at=lab.clock.now())
    return await report(lab, body, provider="smtp", headers=list(signed.items()))


SECRET = f"whsec_{b64encode(b'a secret of the relay, for tests').decode()}"


def mail_relay() -> TakesReceipts:
    options = {"host": "mx.example.com", "sender": "shop@example.com", "receipt_secrets": [SECRET]}
    smtp = create(options, ProviderContext(clock=ManualClock(), name="smtp"))
    assert isinstance(smtp, TakesReceipts)
    return smtp


async def test_bytes_that_are_no_text_in_a_field_that_nobody_looks_at_do_not_matter() -> None:
    lab = Lab(receivers={"smtp": mail_relay()})

    reply = await signed_report(
        lab, b'{"event": "e", "kind": "opened", "at": "2025-12-01T00:00:00Z", "provider_id": "1", "agent": "\xff\xfe"}'
    )

    assert reply.status == 202
    assert '"agent": "\ufffd\ufffd"' in (read_receipt(as_record(lab.log.records[0])).raw or "")


@pytest.mark.parametrize(
    "at",
    [
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.999999-14:00",
        "9999-12-31T23:59:59.9999999Z",
        "2026-01-02T00:00:01Z",
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
    ],
)
async def test_a_receipt_of_a_time_that_cannot_be_is_refused(at: str) -> None:
    lab = Lab(receivers={"smtp": mail_relay()})

    reply = await signed_report(lab, b'{"event": "e", "kind": "opened", "provider_id": "1", "at": "%s"}' % at.encode())

    check_problem(reply, "unreadable_receipt")
    assert lab.log.appends == []


@pytest.mark.parametrize(
    ("at", "taken_as"),
    [
        ("2026-01-01T23:59:59Z", "2026-01-01T00:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
    ],
)
async def test_a_receipt_of_a_clock_that_is_ahead_counts_as_now(at: str, taken_as: str) -> None:
    lab = Lab(receivers={"smtp": mail_relay()})

    reply = await signed_report(lab, b'{"event": "e", "kind": "opened", "provider_id": "1", "at": "%s"}' % at.encode())

    assert reply.status == 202
    assert read_receipt(as_record(lab.log.records[0])).at == datetime.fromisoformat(taken_as)


async def test_a_receipt_changes_nothing_of_a_delivery_on_a_channel_that_its_provider_does_not_carry(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    hook = msgspec.structs.replace(world.delivery("hook"), channel="webhook", address="https://example.com/hook")
    mail = world.delivery("mail")
    await world.record(hook, mail)
    claim = await world.claim(hook)
    lost = Finish(
        attempt=1,
        owner=claim.owner,
        token=claim.token,
        outcome=Unknown(reason="?"),
        verdict=DeadLetter(error_class="uncertain", message="it may have been sent"),
    )
    await world.ledger.finish(hook.id, lost)
    relay = Several(hook.id, mail.id)
    lab = Lab(receivers={"relay": relay}, ledger=world.ledger, store=world.store)

    reply = await report(lab, b"")

    assert reply.json == {"receipts": 1}
    [receipt] = [read_receipt(as_record(record)) for record in lab.log.records]
    assert (receipt.delivery_id, receipt.channel) == (mail.id, "email")
    assert "1 speak of deliveries on another channel" in caplog.text
    redriven = msgspec.structs.replace(claim, source=Source(2, 0), token=world.ledger.new_token())
    assert isinstance(await world.ledger.claim(hook.id, redriven), Call)


class Several:
    """A mail provider that reports hard bounces of whatever it is told."""

    channel = "email"

    def __init__(self, *deliveries: UUID) -> None:
        self._deliveries = deliveries

    def receipts(self, request: CallbackRequest) -> Sequence[Receipt]:
        return [
            Receipt(
                id=receipt_id(provider="relay", event=each.hex),
                provider="relay",
                kind="bounced",
                is_permanent=True,
                at=AT,
                delivery_id=each,
            )
            for each in self._deliveries
        ]

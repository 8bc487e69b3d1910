"""What became of a notification, as its caller asks: looked up, taken back, bounced, suppressed. On both logs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from pabal.codec import delivery_record, read_event, suppression_record
from pabal.compose.parts import open_parts
from pabal.compose.topics import create_topics
from pabal.compose.worker import run_worker
from pabal.notification import EVENTS_TOPIC, Content, Delivery, Suppression
from pabal.simulator import ReceiptOrder, Simulator, SmtpBehaviour
from tests.flow.installation import SECRETS, Installation, settings_for, utc_now
from tests.waiting import eventually, eventually_told

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


@pytest.fixture
async def pabal(log_url: str) -> AsyncIterator[Installation]:
    async with Installation.running(log_url) as installation:
        yield installation


@pytest.fixture
def somebody() -> str:
    """Nobody's address but this test's: on Kafka, suppressions outlive it."""
    return f"{uuid4().hex}@example.com"


async def mail(pabal: Installation, address: str, **more: Any) -> str:
    """Ask for a mail; the delivery's id."""
    asked = {"to": [{"channel": "email", "address": address}], "content": {"title": "Hi", "body": "x"}, **more}
    [delivery] = (await pabal.ask(asked))["deliveries"]
    return str(delivery["id"])


def receipts(pabal: Installation, **more: object) -> ReceiptOrder:
    to = f"{pabal.address}/v1/receipts/smtp"
    return msgspec.convert({"to": to, "secret": SECRETS[0], **more}, ReceiptOrder)


async def suppressed(pabal: Installation) -> dict[str, str]:
    page = await pabal.call("GET", "/v1/suppressions?limit=500")
    return {each["address"]: each["reason"] for each in page["suppressions"]}


async def test_a_mail_that_bounces_is_told_and_its_address_is_not_written_to_again(
    pabal: Installation, somebody: str
) -> None:
    first = await mail(pabal, somebody)
    sent = await pabal.until_status(first, "sent")
    assert [entry["kind"] for entry in sent["timeline"]] == ["sent"]

    order = receipts(pabal, kinds=["delivered", "bounced"], copies=2, out_of_order=True, recipient=somebody)
    assert (await pabal.simulator.report(order)).by_answer == {"202": 4}

    async def is_told() -> bool:
        view = await pabal.call("GET", f"/v1/deliveries/{first}")
        kinds = sorted(entry["kind"] for entry in view["timeline"])
        return (view["status"], kinds) == ("bounced", ["bounced", "delivered", "sent"])

    await until(is_told)

    async def is_listed() -> bool:
        return (await suppressed(pabal)).get(somebody) == "bounced"

    async def is_refused() -> bool:
        return bool((await settled(pabal, await mail(pabal, somebody)))["status"] == "suppressed")

    async def is_taken_again() -> bool:
        return not await is_refused()

    await until(is_listed)
    await until(is_refused)
    await pabal.call("DELETE", f"/v1/suppressions/email/{somebody}")
    await until(is_taken_again)


until = partial(eventually_told, within_seconds=15.0)
"""What is written is in the gate a moment later."""


async def settled(pabal: Installation, delivery: str) -> Any:
    """A delivery once it is told how it ended."""
    view: Any = None

    async def has_ended() -> bool:
        nonlocal view
        view = await pabal.call("GET", f"/v1/deliveries/{delivery}?wait=4")
        return bool(view["status"] != "accepted")

    await until(has_ended)
    return view


async def test_a_receipt_by_the_relays_own_id_may_come_before_the_send_is_told(
    pabal: Installation, somebody: str
) -> None:
    await pabal.simulator.behave(SmtpBehaviour(stage="message", latency_seconds=1.0))
    delivery = await mail(pabal, somebody)
    await eventually(lambda: any(each.path == somebody for each in pabal.simulator.requests()))

    order = receipts(pabal, kinds=["complained"], named_by="provider_id", recipient=somebody)
    assert (await pabal.simulator.report(order)).by_answer == {"202": 1}

    told = await pabal.until_status(delivery, "complained")
    assert {entry["kind"] for entry in told["timeline"]} == {"sent", "complained"}


async def test_a_scheduled_mail_is_looked_up_and_taken_back_before_it_is_due(
    pabal: Installation, somebody: str
) -> None:
    send_at = utc_now() + timedelta(seconds=2)
    tag = f"tag-{somebody}"[:64]
    delivery = await mail(pabal, somebody, send_at=send_at.isoformat(), tags=[tag])

    scheduled = await pabal.until_status(delivery, "scheduled")
    found = await pabal.call("GET", f"/v1/deliveries?tag={tag}")
    answer = await pabal.call("POST", f"/v1/deliveries/{delivery}/cancel")

    assert scheduled["next_due"].startswith(send_at.isoformat()[:19])
    assert [each["id"] for each in found["deliveries"]] == [delivery]
    assert (scheduled["send_at"], scheduled["tags"]) == (scheduled["next_due"], [tag])
    assert scheduled["accepted_at"] < scheduled["send_at"] < scheduled["expires_at"]
    assert answer == {"id": delivery, "answer": "cancelled"}
    await pabal.until_status(delivery, "cancelled")

    async def has_met_it() -> bool:
        """The worker meets it when it is due, and says the same as the API did."""
        return [event.kind for event in await pabal.events(delivery)].count("cancelled") == 2

    await until(has_met_it)
    assert len({event.id for event in await pabal.events(delivery)}) == 2
    assert all(each.path != somebody for each in pabal.simulator.requests())


async def test_a_call_under_way_ends_as_it_ends_though_it_was_taken_back(pabal: Installation, somebody: str) -> None:
    await pabal.simulator.behave(SmtpBehaviour(stage="message", latency_seconds=1.0))
    delivery = await mail(pabal, somebody)
    await eventually(lambda: any(each.path == somebody for each in pabal.simulator.requests()))

    answer = await pabal.call("POST", f"/v1/deliveries/{delivery}/cancel?wait=4")

    # The API has the ledger open beside the worker, and must not end the worker's claim by that.
    assert answer["answer"] == "in_flight"
    view = await pabal.until_status(delivery, "sent")
    assert [entry["kind"] for entry in view["timeline"]] == ["sent"]
    assert pabal.simulator.counts().repeated == 0


async def test_a_notification_is_listed_by_its_tag_and_too_late_to_be_taken_back(
    pabal: Installation, somebody: str
) -> None:
    tag = uuid4().hex
    delivery = await mail(pabal, somebody, tags=[tag])
    view = await pabal.until_status(delivery, "sent")

    async def listed() -> list[str]:
        page = await pabal.call("GET", f"/v1/deliveries?tag={tag}")
        return [each["id"] for each in page["deliveries"]]

    # Tags come with the delivery's own record, which may be read after its event.
    found = await eventually_told(listed)
    answer = await pabal.call("POST", f"/v1/notifications/{view['notification_id']}/cancel")

    assert found == [delivery]
    assert [each["answer"] for each in answer["deliveries"]] == ["too_late"]


async def test_a_worker_on_a_new_ledger_knows_who_is_suppressed_before_it_sends_anything(tmp_path: Path) -> None:
    now = utc_now()
    gone = Suppression(tenant="shop", channel="email", address="gone@example.com", reason="complained", since=now)
    waiting = Delivery(
        id=uuid4(),
        notification_id=uuid4(),
        tenant="shop",
        channel="email",
        address="gone@example.com",
        class_="critical",
        accepted_at=now,
        expires_at=now + timedelta(hours=1),
        content=Content(title="Hi", body="x"),
    )
    stopping = asyncio.Event()

    async with (
        await Simulator.start() as simulator,
        open_parts(settings_for(simulator), log_url=f"sqlite:{tmp_path / 'log.db'}", data=tmp_path) as parts,
    ):
        await create_topics(parts, partitions=2, replication=None)
        await parts.broker.producer().append([delivery_record(waiting), suppression_record(gone)])
        working = asyncio.create_task(run_worker(parts, stopping, name="test"))

        async def is_told() -> bool:
            admin, reader = parts.broker.admin(), parts.broker.reader()
            partitions = await admin.watermarks(EVENTS_TOPIC)
            records = [record for each in partitions async for some in reader.read(each) for record in some]
            return [read_event(record).kind for record in records] == ["suppressed"]

        try:
            await until(is_told)
        finally:
            stopping.set()
            await working

        assert simulator.requests() == []

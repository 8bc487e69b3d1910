"""One notification, all the way, on both logs."""

from collections.abc import AsyncIterator
from datetime import timedelta
from email import message_from_bytes
from email.policy import default as mail_policy
from pathlib import Path

import msgspec
import pytest
from standardwebhooks import Webhook

from pabal.broker.port import NewRecord
from pabal.simulator import HttpBehaviour
from tests.flow.installation import SECRETS, Installation, utc_now
from tests.waiting import eventually

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


async def test_one_request_becomes_a_signed_webhook_and_a_mail(pabal: Installation) -> None:
    answer = await pabal.ask(
        {
            "to": [
                {"channel": "webhook", "address": f"{pabal.simulator.url}/shop"},
                {"channel": "email", "address": "ana@example.com"},
            ],
            "class": "standard",
            "content": {"title": "Order 17 shipped", "body": "It arrives tomorrow.", "data": {"order": 17}},
        }
    )
    by_channel = {delivery["channel"]: delivery["id"] for delivery in answer["deliveries"]}
    for delivery in by_channel.values():
        await pabal.until_told(delivery, "sent")

    received = {request.path: request for request in pabal.simulator.requests()}
    hook, mail = received["/shop"], received["ana@example.com"]
    for secret in SECRETS:
        assert Webhook(secret).verify(hook.body, dict(hook.headers))
    assert hook.headers["webhook-id"] == by_channel["webhook"]
    posted = msgspec.json.decode(hook.body)
    assert (posted["title"], posted["data"]) == ("Order 17 shipped", {"order": 17})

    message = message_from_bytes(mail.body, policy=mail_policy)
    assert message["subject"] == "Order 17 shipped"
    assert by_channel["email"] in message["message-id"]
    assert message["auto-submitted"] == "auto-generated"
    assert pabal.simulator.counts().repeated == 0


async def test_asking_twice_with_one_key_sends_once(pabal: Installation) -> None:
    first = await pabal.ask_webhook(key="order-17")
    second = await pabal.ask_webhook(key="order-17")

    await pabal.until_told(first["id"], "sent")
    other = await pabal.ask_webhook(key="order-18")
    await pabal.until_told(other["id"], "sent")

    assert first["id"] == second["id"]
    assert pabal.simulator.counts().by_key[first["id"]] == 1


async def test_a_refused_call_goes_down_the_delay_line_and_is_sent_later(pabal: Installation) -> None:
    await pabal.simulator.behave(HttpBehaviour(status=503))
    delivery = await pabal.ask_webhook()
    deferred = (await pabal.until_told(delivery["id"], "deferred"))[0]

    await pabal.simulator.behave()
    events = await pabal.until_told(delivery["id"], "sent")

    sent = events[-1]
    assert (deferred.attempt, sent.attempt) == (1, 2)
    assert deferred.due is not None
    assert sent.at >= deferred.due
    assert pabal.simulator.counts().by_key[delivery["id"]] == 2


async def test_a_recipient_that_is_gone_is_final(pabal: Installation) -> None:
    await pabal.simulator.behave(HttpBehaviour(status=410))

    delivery = await pabal.ask_webhook()
    events = await pabal.until_told(delivery["id"], "rejected")

    assert [event.kind for event in events] == ["rejected"]


async def test_a_scheduled_delivery_is_not_sent_early(pabal: Installation) -> None:
    send_at = utc_now() + timedelta(seconds=1.5)

    delivery = await pabal.ask_webhook(send_at=send_at.isoformat())
    await pabal.until_told(delivery["id"], "sent")

    [arrived_ns] = pabal.simulator.arrivals()[delivery["id"]]
    assert arrived_ns / 1e9 >= send_at.timestamp()


async def test_bytes_that_cannot_be_read_go_to_the_dead_topic_and_hold_nothing_up(pabal: Installation) -> None:
    topic = "pabal.deliveries.webhook.critical"
    garbage = [(b"\xff\xfe", (("schema", b"delivery/1"),)), (b"{}", (("schema", b"delivery/9"),)), (None, ())]
    for number, (value, headers) in enumerate(garbage):
        key = f"{utc_now().timestamp()}-{number}".encode()
        await pabal.append(NewRecord(topic=topic, key=key, value=value, headers=headers))

    delivery = await pabal.ask_webhook()
    await pabal.until_told(delivery["id"], "sent")

    dead: list[bytes | None] = []

    async def read() -> bool:
        dead[:] = [record.value for record in await pabal.records("pabal.dead.webhook")]
        return len(dead) >= len(garbage)

    while not await read():
        await eventually(lambda: True)
    assert {value for value, _ in garbage} <= set(dead)


async def test_deliveries_of_one_order_key_arrive_in_order(pabal: Installation) -> None:
    deliveries = [await pabal.ask_webhook(order_key="order-17", content={"body": str(n)}) for n in range(20)]
    await pabal.until_told(deliveries[-1]["id"], "sent")

    arrivals = pabal.simulator.arrivals()
    times = [arrivals[delivery["id"]][0] for delivery in deliveries]
    assert times == sorted(times)


async def test_a_slow_answer_is_unknown_and_called_again_with_the_same_key(pabal: Installation) -> None:
    await pabal.simulator.behave(HttpBehaviour(answer="hang"))
    delivery = await pabal.ask_webhook()
    await pabal.until_told(delivery["id"], "unknown")

    await pabal.simulator.behave()
    await pabal.until_told(delivery["id"], "sent")

    assert pabal.simulator.counts().by_key[delivery["id"]] == 2


async def test_a_small_window_holds_nothing_back_for_good(tmp_path: Path) -> None:
    """Partitions that were paused because they crowded the window go on, also when no other record arrives."""
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", worker={"window": 4}) as pabal:
        deliveries = [await pabal.ask_webhook() for _ in range(60)]

        for delivery in deliveries:
            await pabal.until_told(delivery["id"], "sent")

        assert pabal.simulator.counts().repeated == 0

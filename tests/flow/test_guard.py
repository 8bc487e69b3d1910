"""The guard in a whole installation: what is refused alone, what is refused whole, and what a person must release."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pabal.broker.port import NewRecord
from pabal.codec import EVENT_SCHEMA, SCHEMA_HEADER, read_event
from pabal.notification import EVENTS_TOPIC, DeliveryEvent
from pabal.ops.brake_release import read_brakes, release_brake
from pabal.ops.brakes import BrakeState
from pabal.simulator import HttpBehaviour, SmtpBehaviour
from tests.flow.installation import KEY, OTHER_KEY, Installation
from tests.waiting import eventually_told

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def log_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "kafka":
        return f"kafka://{request.getfixturevalue('kafka_bootstrap')}"
    return f"sqlite:{tmp_path / 'log.db'}"


class Told:
    """What was told so far, read again until it says what is waited for."""

    def __init__(self, pabal: Installation) -> None:
        self._pabal = pabal
        self.events: list[DeliveryEvent] = []

    def count(self, kind: str) -> int:
        return len({event.delivery_id for event in self.events if event.kind == kind})

    async def until(self, kind: str, *, count: int, within_seconds: float = 30.0) -> None:
        async def are_told() -> bool:
            records = await self._pabal.records(EVENTS_TOPIC)
            events = [read_event(record) for record in records if record.header(SCHEMA_HEADER) == EVENT_SCHEMA]
            # A Kafka is shared with other tests.
            self.events = [event for event in events if str(event.delivery_id) in self._pabal.asked]
            return self.count(kind) >= count

        try:
            await eventually_told(are_told, within_seconds=within_seconds)
        except AssertionError as error:
            kinds = Counter(event.kind for event in self.events)
            raise AssertionError(f"not {count} {kind} within {within_seconds} s: {kinds}") from error


async def ask_webhooks(pabal: Installation, url: str, count: int, *, api_key: str = KEY) -> None:
    to = {"channel": "webhook", "address": url}
    await asyncio.gather(*(_ask(pabal, to, api_key=api_key) for _ in range(count)))


async def ask_mails(pabal: Installation, count: int) -> None:
    """Each to an address of its own: those to one are sent one at a time."""
    addresses = [f"customer-{number}@example.com" for number in range(count)]
    await asyncio.gather(*(_ask(pabal, {"channel": "email", "address": address}) for address in addresses))


async def _ask(pabal: Installation, to: dict[str, str], *, api_key: str = KEY) -> None:
    body = {"to": [to], "class": "critical", "content": {"title": "Hello", "body": "hello"}}
    await pabal.ask(body, api_key=api_key)


async def eventually_dead(pabal: Installation, topic: str, *, count: int) -> None:
    async def are_dead() -> bool:
        return len(await pabal.records(topic)) >= count

    await eventually_told(are_dead)


async def braked(pabal: Installation) -> Mapping[str, BrakeState]:
    async def states_with_bulk() -> Mapping[str, BrakeState]:
        states = await read_brakes(pabal.parts.broker.reader())
        return states if "webhook bulk" in states else {}

    return await eventually_told(states_with_bulk)


async def test_what_a_dead_host_does_not_take_is_parked_and_another_host_is_served(tmp_path: Path) -> None:
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}") as pabal:
        nobody = pabal.simulator.url.replace("127.0.0.1", "127.0.0.2")
        told = Told(pabal)

        await ask_webhooks(pabal, f"{nobody}/hook", 100)
        await told.until("parked", count=80)
        delivery = await pabal.ask_webhook()
        await pabal.until_told(delivery["id"], "sent")

        parked = [event for event in told.events if event.kind == "parked"]
        assert {event.attempt for event in parked if event.delivery_id not in _deferred(told)} == {1}
        assert all(event.detail and "127.0.0.2" in event.detail and event.due for event in parked)
        assert await pabal.records("pabal.dead.webhook") == []


@pytest.mark.parametrize(
    ("far_side", "told_first"),
    [
        (HttpBehaviour(path="/busy", status=503, retry_after_seconds=3600), "expired"),
        (HttpBehaviour(path="/busy", status=429), "deferred"),
        (HttpBehaviour(path="/busy", status=401), "deferred"),
        (HttpBehaviour(path="/busy", status=404), "deferred"),
        (HttpBehaviour(path="/busy", status=410), "rejected"),
        (HttpBehaviour(path="/busy", answer="hang"), "unknown"),
    ],
    ids=lambda each: f"{each.status}-{each.answer}" if isinstance(each, HttpBehaviour) else "",
)
async def test_one_tenants_url_on_a_shared_host_holds_up_no_other_tenant_there(
    log_url: str, far_side: HttpBehaviour, told_first: str
) -> None:
    async with Installation.running(log_url) as pabal:
        told = Told(pabal)
        await pabal.simulator.behave(far_side)
        await ask_webhooks(pabal, f"{pabal.simulator.url}/busy", 60, api_key=OTHER_KEY)
        await told.until(told_first, count=10)

        await ask_webhooks(pabal, f"{pabal.simulator.url}/hook", 20)
        await told.until("sent", count=20)

        own = [event.kind for event in told.events if event.tenant == "shop"]
        assert own == ["sent"] * 20


async def test_what_was_parked_is_sent_when_the_host_is_back_and_not_only_when_it_is_due(tmp_path: Path) -> None:
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", guard={"minimum_calls": 2}) as pabal:
        told = Told(pabal)
        await pabal.simulator.behave(HttpBehaviour(status=503))
        await ask_webhooks(pabal, f"{pabal.simulator.url}/hook", 200)
        await told.until("parked", count=180)

        await pabal.simulator.behave()

        await told.until("sent", count=200)
        assert pabal.simulator.counts().by_answer["http 200"] == 200
        sent_at = {event.delivery_id: event.at for event in told.events if event.kind == "sent"}
        last_parks = {event.delivery_id: event.due for event in told.events if event.kind == "parked" and event.due}
        assert any(sent_at[each] < due for each, due in last_parks.items())


async def test_a_provider_that_is_down_pauses_its_channel_and_burns_no_attempts(log_url: str) -> None:
    count = 120
    async with Installation.running(log_url, worker={"window": 40}) as pabal:
        told = Told(pabal)
        await pabal.simulator.behave(SmtpBehaviour(answer="refuse"))
        await ask_mails(pabal, count)
        await told.until("deferred", count=10)

        webhook = await pabal.ask_webhook()
        await pabal.until_told(webhook["id"], "sent")
        await pabal.simulator.behave(SmtpBehaviour(latency_seconds=0.1))
        await told.until("sent", count=count + 1)

        calls = Counter(event.attempt for event in told.events if event.kind == "deferred")
        assert sum(calls.values()) < count / 3
        assert told.count("dead_lettered") == 0
        arrivals = sorted(first for first, *_ in pabal.simulator.arrivals().values())
        by_second = Counter((at - arrivals[1]) // 1_000_000_000 for at in arrivals[1:])
        assert by_second[0] < max(by_second.values()) / 2


async def test_what_one_recipients_domain_refuses_holds_up_no_other_mail(tmp_path: Path) -> None:
    refusal = "5.7.9 This mail has been blocked because the sender is unauthenticated."
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}") as pabal:
        told = Told(pabal)
        await pabal.simulator.behave(SmtpBehaviour(recipient="@strict.example", code=550, text=refusal))
        strict = [{"channel": "email", "address": f"customer-{number}@strict.example"} for number in range(30)]
        await asyncio.gather(*(_ask(pabal, to, api_key=OTHER_KEY) for to in strict))
        await told.until("rejected", count=30)

        await ask_mails(pabal, 20)
        await told.until("sent", count=20)

        assert Counter(event.kind for event in told.events) == {"rejected": 30, "sent": 20}


async def test_what_one_provider_refuses_another_carries_at_once(tmp_path: Path) -> None:
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", **_two_mail_providers()) as pabal:
        told = Told(pabal)

        await ask_mails(pabal, 60)
        await told.until("sent", count=60)

        assert {event.provider for event in told.events if event.kind == "sent"} == {"smtp"}
        refused = [event for event in told.events if event.kind == "deferred"]
        assert {event.provider for event in refused} == {"gone"}
        assert len(refused) <= 20


async def test_too_much_that_cannot_be_read_brakes_its_class_until_a_person_releases_it(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"guard": {"brake_records": 20}, "worker": {"window": 50}}
    async with Installation.running(f"sqlite:{tmp_path / 'log.db'}", **settings) as pabal:
        topic = "pabal.deliveries.webhook.bulk"
        for number in range(200):
            await pabal.append(NewRecord(topic=topic, key=str(number).encode(), value=b"{}"))

        state = (await braked(pabal))["webhook bulk"]  # The recorder may hold the topic as well by then.
        other = await pabal.ask_webhook()
        await pabal.until_told(other["id"], "sent")

        assert state.state == "braked"
        assert "cannot be read" in state.reason
        assert len(await pabal.records("pabal.dead.webhook")) < 100

        await release_brake(
            channel="webhook",
            class_="bulk",
            by="ada",
            reason="known",
            minutes=60,
            reader=pabal.parts.broker.reader(),
            producer=pabal.parts.broker.producer(),
            clock=pabal.parts.clock,
        )
        await eventually_dead(pabal, "pabal.dead.webhook", count=200)


def _deferred(told: Told) -> set[Any]:
    return {event.delivery_id for event in told.events if event.kind == "deferred"}


def _two_mail_providers() -> dict[str, Any]:
    return {
        "channels": {"email": {"providers": [{"name": "gone", "weight": 9}, {"name": "smtp", "weight": 1}]}},
        "providers": {
            "gone": {"kind": "smtp", "host": "127.0.0.1", "port": 1, "tls": "none", "sender": "Shop <shop@example.com>"}
        },
    }

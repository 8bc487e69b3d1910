"""Taking back: what the ledger answers holds, the log tells of it, and the caller hears it per delivery."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest

from pabal.errors import ConfigError, LedgerUnavailable
from pabal.notification import Receipt, receipt_id
from pabal.outcome import Deferred, RetryAt
from tests.api.lab import KEY, OTHER_KEY, READ_KEY, Lab, Reply
from tests.api.test_notifications import check_problem
from tests.api.world import World

NOBODY = UUID(int=7)


async def cancel(world: World, path: str, *, key: str = KEY) -> Reply:
    return await world.api.ask("POST", f"/v1/{path}/cancel", key=key)


async def test_each_delivery_of_a_notification_has_an_answer_of_its_own(world: World) -> None:
    waiting, calling, taken = (world.delivery(name) for name in ("waiting", "calling", "taken"))
    await world.record(waiting, calling, taken)
    await world.claim(calling)
    await world.send(taken)

    reply = await cancel(world, f"notifications/{waiting.notification_id}")

    assert reply.status == 200
    answers = {each["id"]: each["answer"] for each in reply.json["deliveries"]}
    assert answers == {str(waiting.id): "cancelled", str(calling.id): "in_flight", str(taken.id): "too_late"}


async def test_what_was_taken_back_is_never_called(world: World) -> None:
    ana = world.delivery()
    await world.record(ana)

    await cancel(world, f"deliveries/{ana.id}")

    with pytest.raises(AssertionError, match="Cancelled"):
        await world.claim(ana)


async def test_the_log_tells_of_it_at_once_and_once(world: World) -> None:
    ana = world.delivery()
    await world.record(ana)

    first = await cancel(world, f"deliveries/{ana.id}")
    again = await cancel(world, f"deliveries/{ana.id}")

    assert first.json == again.json == {"id": str(ana.id), "answer": "cancelled"}
    events = await world.events(ana.id)
    assert {(event.kind, event.attempt) for event in events} == {("cancelled", 1)}
    assert len({event.id for event in events}) == 1
    await world.record(*events)
    assert (await world.api.get(f"/v1/deliveries/{ana.id}", key=READ_KEY)).json["status"] == "cancelled"
    assert (await cancel(world, f"deliveries/{ana.id}")).json["answer"] == "cancelled"


async def test_what_waits_for_a_retry_is_not_sent_again(world: World) -> None:
    ana = world.delivery()
    due = world.clock.now() + timedelta(seconds=30)
    await world.send(ana, outcome=Deferred(reason="451"), verdict=RetryAt(due=due, rung=1))
    await world.record(ana, world.event(ana, "deferred", due=due))

    assert (await cancel(world, f"deliveries/{ana.id}")).json["answer"] == "cancelled"
    with pytest.raises(AssertionError, match="Cancelled"):
        await world.claim(msgspec.structs.replace(ana, attempt=2, rung=1))


async def test_a_scheduled_one_that_no_worker_has_seen_is_taken_back_for_as_long_as_it_could_come(world: World) -> None:
    ana = world.delivery(send_at=world.clock.now() + timedelta(days=30))
    await world.record(world.event(ana, "scheduled", due=ana.send_at))

    assert (await cancel(world, f"deliveries/{ana.id}")).json["answer"] == "cancelled"

    world.clock.advance(timedelta(days=36).total_seconds())
    await world.ledger.prune(now=world.clock.now())
    with pytest.raises(AssertionError, match="Cancelled"):
        await world.claim(ana)


@pytest.mark.parametrize("kind", ["sent", "rejected", "expired", "suppressed", "discarded"])
async def test_what_has_ended_is_too_late_even_if_the_ledger_has_forgotten_it(world: World, kind: str) -> None:
    ana = world.delivery()
    await world.record(ana, world.event(ana, kind))  # type: ignore[arg-type]

    assert (await cancel(world, f"deliveries/{ana.id}")).json["answer"] == "too_late"
    assert await world.events(ana.id) == []


async def test_what_is_unaccounted_stays_an_alarm(world: World) -> None:
    ana = world.delivery()
    await world.record(ana)
    world.clock.advance(timedelta(days=3).total_seconds())
    assert (await world.api.get(f"/v1/deliveries/{ana.id}", key=READ_KEY)).json["status"] == "unaccounted"

    assert (await cancel(world, f"deliveries/{ana.id}")).json["answer"] == "too_late"
    assert await world.events(ana.id) == []


async def test_what_was_delivered_is_too_late(world: World) -> None:
    ana = world.delivery()
    receipt = Receipt(
        id=receipt_id(provider="smtp", event="e"),
        provider="smtp",
        kind="delivered",
        at=world.clock.now(),
        delivery_id=ana.id,
    )
    await world.record(ana, world.event(ana, "sent"), receipt)

    assert (await cancel(world, f"deliveries/{ana.id}")).json["answer"] == "too_late"


@pytest.mark.parametrize("what", ["notifications", "deliveries"])
async def test_what_is_not_recorded_cannot_be_taken_back_yet(world: World, what: str) -> None:
    await world.fall_behind(records=2)

    check_problem(await cancel(world, f"{what}/{NOBODY}"), "not_recorded_yet")


async def test_another_tenants_are_as_good_as_not_there(world: World) -> None:
    ana = world.delivery()
    await world.record(ana)
    await world.catch_up()

    check_problem(await cancel(world, f"deliveries/{ana.id}", key=OTHER_KEY), "not_found")
    check_problem(await cancel(world, f"notifications/{ana.notification_id}", key=OTHER_KEY), "not_found")
    await world.claim(ana)


async def test_taking_back_needs_the_scope_send(world: World) -> None:
    check_problem(await cancel(world, f"deliveries/{NOBODY}", key=READ_KEY), "insufficient_scope")


async def test_without_a_store_nothing_can_be_taken_back(lab: Lab) -> None:
    check_problem(await lab.ask("POST", f"/v1/deliveries/{NOBODY}/cancel", key=KEY), "no_store")


@pytest.mark.parametrize("error", [LedgerUnavailable("locked"), ConfigError("the log belongs to ledger 7")])
async def test_a_ledger_that_is_away_or_the_wrong_one_takes_nothing_back(world: World, error: Exception) -> None:
    ana = world.delivery()
    await world.record(ana)
    world.api = Lab(broker=world.broker, store=world.store, ledger=error, clock=world.clock)

    reply = await cancel(world, f"deliveries/{ana.id}")

    check_problem(reply, "ledger_unavailable")
    assert reply.headers["retry-after"] == "2"
    assert await world.events(ana.id) == []

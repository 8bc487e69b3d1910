"""What happened to a notification: told as far as it is recorded, waited for if asked, and to its own tenant alone."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from pabal.api.lagging_store import MAX_WAIT_SECONDS, MOST_WAITING, LaggingStore, pauses
from pabal.api.problems import RequestRefused
from pabal.clock import ManualClock
from pabal.errors import StoreUnavailable
from pabal.notification import Receipt, receipt_id
from tests.api.lab import KEY, OTHER_KEY, READ_KEY, Lab, Reply
from tests.api.test_notifications import check_problem
from tests.api.world import World
from tests.waiting import eventually

NOBODY = UUID(int=7)


async def get(world: World, path: str, *, key: str | None = READ_KEY) -> Reply:
    return await world.api.get(path, key=key)


async def test_a_notification_tells_where_each_of_its_deliveries_stands(world: World) -> None:
    ana, bo = world.delivery("ana", tags=("t1",)), world.delivery("bo")
    await world.record(ana, bo, world.event(ana, "sent", provider="smtp"))

    reply = await get(world, f"/v1/notifications/{ana.notification_id}")

    assert reply.status == 200
    assert reply.json["id"] == str(ana.notification_id)
    stands = {each["address"]: each["status"] for each in reply.json["deliveries"]}
    assert stands == {"ana@example.com": "sent", "bo@example.com": "accepted"}
    assert all("timeline" not in each for each in reply.json["deliveries"])


async def test_a_delivery_tells_everything_that_happened_to_it_in_order(world: World) -> None:
    ana = world.delivery()
    due = world.clock.now() + timedelta(seconds=30)
    failed = world.event(ana, "deferred", provider="smtp", detail="451 busy", latency_seconds=0.2, due=due)
    world.clock.advance(30)
    sent = world.event(ana, "sent", attempt=2, provider="smtp", provider_id="4WxYz", response="250 ok")
    world.clock.advance(5)
    bounced = Receipt(
        id=receipt_id(provider="smtp", event="e1"),
        provider="smtp",
        kind="bounced",
        at=world.clock.now(),
        provider_id="4WxYz",
        is_permanent=True,
        detail="550 5.1.1",
    )
    await world.record(bounced, sent, failed, ana)

    reply = await get(world, f"/v1/deliveries/{ana.id}")

    assert reply.json["status"] == "bounced"
    first, second, third = (entry for entry in reply.json["timeline"] if entry["kind"] != "accepted")
    assert (first["kind"], first["attempt"], first["detail"], first["latency_seconds"]) == (
        "deferred",
        1,
        "451 busy",
        0.2,
    )
    assert (second["kind"], second["attempt"], second["response"]) == ("sent", 2, "250 ok")
    assert (third["kind"], third["detail"]) == ("bounced", "550 5.1.1")


@pytest.mark.parametrize("path", ["/v1/notifications/{}", "/v1/deliveries/{}"])
async def test_an_id_that_the_recorder_may_not_have_reached_is_told_apart_from_one_that_is_not(
    world: World, path: str
) -> None:
    await world.fall_behind(records=4)
    await world.catch_up()
    check_problem(await get(world, path.format(NOBODY)), "not_found")

    await world.fall_behind(records=3)
    world.clock.advance(1)
    behind = await get(world, path.format(NOBODY))

    assert check_problem(behind, "not_recorded_yet")["lag_records"] == 3
    assert behind.headers["retry-after"] == "1"


async def test_a_recorder_that_never_ran_is_behind_by_all_there_is(world: World) -> None:
    await world.fall_behind(records=5)

    problem = check_problem(await get(world, f"/v1/deliveries/{NOBODY}"), "not_recorded_yet")

    assert problem["lag_records"] == 5


@pytest.mark.parametrize("what", ["notifications", "deliveries"])
async def test_a_caller_may_wait_for_what_is_not_recorded_yet(world: World, what: str) -> None:
    ana = world.delivery()
    id_ = ana.id if what == "deliveries" else ana.notification_id
    waiting = asyncio.create_task(get(world, f"/v1/{what}/{id_}?wait=4"))
    await asyncio.sleep(0)
    assert not waiting.done()

    await world.record(ana)

    assert (await waiting).status == 200


async def test_whoever_waits_in_vain_is_told_so(world: World) -> None:
    check_problem(await get(world, f"/v1/deliveries/{NOBODY}?wait=0.05"), "not_found")


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.3, 2.0, MAX_WAIT_SECONDS])
def test_pauses_grow_and_come_to_what_was_asked(seconds: float) -> None:
    found = list(pauses(seconds))

    assert sum(found) == pytest.approx(seconds)
    assert found[:-1] == sorted(found[:-1])
    assert len(found) <= 10 + seconds * 5


async def test_another_tenants_are_as_good_as_not_there(world: World) -> None:
    ana = world.delivery()
    await world.record(ana)
    await world.catch_up()

    for path in (f"/v1/notifications/{ana.notification_id}", f"/v1/deliveries/{ana.id}"):
        check_problem(await get(world, path, key=OTHER_KEY), "not_found")
    assert (await get(world, "/v1/deliveries", key=OTHER_KEY)).json["deliveries"] == []


@pytest.mark.parametrize("path", [f"/v1/notifications/{NOBODY}", f"/v1/deliveries/{NOBODY}", "/v1/deliveries"])
async def test_looking_up_needs_the_scope_read(world: World, path: str) -> None:
    check_problem(await get(world, path, key=None), "missing_key")
    check_problem(await get(world, path, key=KEY), "insufficient_scope")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["cy", "bo", "ana"]),
        ("recipient=Bo@example.com", []),
        ("recipient=bo@EXAMPLE.com", ["bo"]),
        ("recipient=bo@EXAMPLE.com&channel=email", ["bo"]),
        ("recipient=no+address", []),
        ("recipient=null", []),
        ("status=sent", ["ana"]),
        ("channel=email", ["cy", "bo", "ana"]),
        ("channel=webhook", []),
        ("class=critical", ["cy"]),
        ("tag=t1", ["bo", "ana"]),
        ("tag=t1&status=accepted", ["bo"]),
        ("since=2026-01-01T00:00:10%2B00:00", ["cy", "bo"]),
        ("since=2026-01-01T01:00:10+01:00", ["cy", "bo"]),
    ],
)
async def test_a_list_is_narrowed_by_every_filter(world: World, query: str, found: list[str]) -> None:
    ana = world.delivery("ana", tags=("t1",))
    world.clock.advance(10)
    bo = world.delivery("bo", tags=("t1", "t2"))
    world.clock.advance(10)
    await world.record(ana, bo, world.delivery("cy", class_="critical"), world.event(ana, "sent"))

    reply = await get(world, f"/v1/deliveries?{query}")

    assert [each["address"].partition("@")[0] for each in reply.json["deliveries"]] == found
    assert reply.json["next_cursor"] is None


async def test_pages_follow_each_other_without_a_gap_while_new_ones_come(world: World) -> None:
    for number in range(7):
        world.clock.advance(1)
        await world.record(world.delivery(f"n{number}"))

    seen: list[str] = []
    query = "limit=3"
    while True:
        page = (await get(world, f"/v1/deliveries?{query}")).json
        seen += [each["address"] for each in page["deliveries"]]
        if page["next_cursor"] is None:
            break
        query = f"limit=3&cursor={page['next_cursor']}"
        world.clock.advance(1)
        await world.record(world.delivery(f"later{len(seen)}"))

    assert seen == [f"n{number}@example.com" for number in range(6, -1, -1)]


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("limit=ten", "?limit"),
        ("status=lost", "?status"),
        ("status=null", "?status"),
        ("class=urgent", "?class"),
        ("since=yesterday", "?since"),
        ("since=0.5", "?since"),
        ("since=", "?since"),
        ("since=2026-01-01T00:00:00", "?since"),
        ("cursor=abc", "?cursor"),
        ("colour=red", "?colour"),
        ("limit=1&limit=2", "?limit"),
        ("limit=\xff", "?limit"),
    ],
)
async def test_a_parameter_that_does_not_fit_is_named(world: World, query: str, path: str) -> None:
    problem = check_problem(await get(world, f"/v1/deliveries?{query}"), "invalid_parameter")

    assert [error["path"] for error in problem["errors"]] == [path]


@pytest.mark.parametrize(
    ("since", "count"),
    [
        ("0001-01-01T00:00:00Z", 1),
        ("0001-01-01T00:00:00+14:00", 1),
        ("9999-12-31T23:59:59.9999999Z", 0),
        ("9999-12-31T23:59:59-14:00", 0),
    ],
)
async def test_since_may_be_any_time_of_the_calendar(world: World, since: str, count: int) -> None:
    await world.record(world.delivery())

    page = await get(world, f"/v1/deliveries?since={since}")

    assert (page.status, len(page.json["deliveries"])) == (200, count)


async def test_an_unknown_parameter_is_answered_with_those_there_are(world: World) -> None:
    problem = check_problem(await get(world, "/v1/deliveries?colour=red"), "invalid_parameter")

    known = "recipient, status, channel, class, tag, since, cursor, limit"
    assert problem["errors"][0]["message"] == f"there is no such parameter; there are: {known}"


@pytest.mark.parametrize("wait", ["-1", "nan", "inf", "4.1", "soon", ""])
async def test_a_wait_is_a_number_of_seconds_up_to_four(world: World, wait: str) -> None:
    check_problem(await get(world, f"/v1/deliveries/{NOBODY}?wait={wait}"), "invalid_parameter")


async def test_without_a_store_it_is_said_what_is_missing(lab: Lab) -> None:
    for path in (f"/v1/notifications/{NOBODY}", f"/v1/deliveries/{NOBODY}", "/v1/deliveries"):
        problem = check_problem(await lab.get(path, key=READ_KEY), "no_store")
        assert "store" in problem["detail"]


async def test_a_store_that_does_not_answer_is_no_defect(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(world.store, "delivery", fail)

    reply = await get(world, f"/v1/deliveries/{NOBODY}")

    check_problem(reply, "store_unavailable")
    assert reply.headers["retry-after"] == "2"


async def test_the_links_of_a_202_lead_to_what_became_of_it(world: World) -> None:
    body = {"to": [{"channel": "email", "address": "ana@example.com"}], "content": {"title": "Hi", "body": "Ana"}}
    accepted = (await world.api.post(body, idempotency_key="order-17")).json
    await world.record(world.delivery(key="order-17"))

    reply = await get(world, accepted["links"]["status"])

    assert [each["id"] for each in reply.json["deliveries"]] == [each["id"] for each in accepted["deliveries"]]


class Idle:
    """An admin client of a log without topics."""

    async def committed(self, group: str, topics: object) -> dict[object, int]:
        return {}


async def test_of_one_tenants_look_ups_only_so_many_wait_and_the_next_is_answered_at_once() -> None:
    recorded = asyncio.Event()
    projection = LaggingStore(None, admin=Idle(), topics=[], clock=ManualClock())  # type: ignore[arg-type]
    asked = 0

    def look_up(tenant: str) -> asyncio.Task[str]:
        """Finds nothing at first, and then waits for what is to be recorded."""
        is_first = True

        async def ask() -> str:
            nonlocal asked, is_first
            if is_first:
                is_first, asked = False, asked + 1
                return ""
            await recorded.wait()
            return "found"

        return asyncio.create_task(projection.find(ask, what="delivery", tenant=tenant, wait_seconds=4.0))

    waiting = [look_up("shop") for _ in range(MOST_WAITING)]
    await eventually(lambda: asked == MOST_WAITING)
    with pytest.raises(RequestRefused, match="not_found"):
        await look_up("shop")
    other = look_up("bank")
    recorded.set()

    assert await asyncio.gather(*waiting, other) == ["found"] * (MOST_WAITING + 1)
    assert await look_up("shop") == "found"

"""`/v1/suppressions`: listed, added and lifted, each tenant its own."""

from collections.abc import Sequence

import pytest

from pabal.channels.suppression import suppression_key
from pabal.codec import read_suppression
from pabal.errors import LogUnavailable
from pabal.notification import SUPPRESSIONS_TOPIC
from tests.api.lab import ADMIN_KEY, KEY, OTHER_KEY, READ_KEY, Lab, Reply
from tests.api.test_notifications import check_problem
from tests.api.world import World

PATH = "/v1/suppressions"


async def suppress(world: World, address: str, *, channel: str = "email", key: str = KEY, **more: object) -> Reply:
    return await world.api.post({"channel": channel, "address": address, **more}, path=PATH, key=key)


async def listed(world: World, *, key: str = READ_KEY) -> Sequence[str]:
    reply = await world.api.get(PATH, key=key)
    return [each["address"] for each in reply.json["suppressions"]]


async def test_an_address_is_suppressed_in_its_canonical_spelling_with_why_and_since_when(world: World) -> None:
    reply = await suppress(world, "Ana@EXAMPLE.com", detail="asked by phone")

    assert reply.status == 201
    assert reply.json == {
        "channel": "email",
        "address": "Ana@example.com",
        "reason": "manual",
        "since": "2026-01-01T00:00:00Z",
        "detail": "asked by phone",
    }
    [record] = await world.records(SUPPRESSIONS_TOPIC)
    found = read_suppression(record)
    assert found is not None
    assert (found.tenant, found.reason) == ("shop", "manual")
    assert record.key == suppression_key(tenant="shop", channel="email", address="ana@example.com")
    assert (await world.api.get(PATH, key=READ_KEY)).json == {"suppressions": [reply.json], "next_cursor": None}


async def test_mailboxes_that_differ_in_capitals_alone_are_one_and_urls_are_not(world: World) -> None:
    for address in ("Ana@example.com", "ana@example.com"):
        await suppress(world, address)
    for url in ("https://example.com/A", "https://example.com/a"):
        await suppress(world, url, channel="webhook")

    assert await listed(world) == ["ana@example.com", "https://example.com/A", "https://example.com/a"]


async def test_suppressing_again_is_the_same_and_the_last_word_on_why_stands(world: World) -> None:
    await suppress(world, "ana@example.com", reason="unsubscribed")
    await suppress(world, "ana@example.com", reason="complained")

    [found] = (await world.api.get(PATH, key=READ_KEY)).json["suppressions"]
    assert found["reason"] == "complained"


async def test_pages_follow_each_other(world: World) -> None:
    for name in ("cy", "Ana", "bo"):
        await suppress(world, f"{name}@example.com")

    first = (await world.api.get(f"{PATH}?limit=2", key=READ_KEY)).json
    rest = (await world.api.get(f"{PATH}?limit=2&cursor={first['next_cursor']}", key=READ_KEY)).json

    seen = [each["address"] for page in (first, rest) for each in page["suppressions"]]
    assert seen == ["Ana@example.com", "bo@example.com", "cy@example.com"]
    assert rest["next_cursor"] is None


@pytest.mark.parametrize(
    ("channel", "address", "path"),
    [
        ("email", "ana@example.com", "email/ana@example.com"),
        ("email", "Ana+x@example.com", "email/ANA+x@EXAMPLE.com"),
        ("webhook", "https://example.com/a%20b?x=1", "webhook/https%3A%2F%2Fexample.com%2Fa%2520b%3Fx=1"),
        ("webhook", "https://example.com/a", "webhook/https://example.com/a"),
    ],
)
async def test_one_that_is_lifted_is_gone(world: World, channel: str, address: str, path: str) -> None:
    await suppress(world, address, channel=channel)

    reply = await world.api.ask("DELETE", f"{PATH}/{path}", key=ADMIN_KEY)

    assert (reply.status, reply.json["address"]) == (200, address)
    assert await listed(world) == []
    assert (await world.records(SUPPRESSIONS_TOPIC))[-1].value is None
    check_problem(await world.api.ask("DELETE", f"{PATH}/{path}", key=ADMIN_KEY), "not_found")


async def test_each_tenant_has_its_own(world: World) -> None:
    await suppress(world, "ana@example.com")

    assert await listed(world, key=OTHER_KEY) == []
    check_problem(await world.api.ask("DELETE", f"{PATH}/email/ana@example.com", key=OTHER_KEY), "not_found")
    assert await listed(world) == ["ana@example.com"]


async def test_what_no_channel_can_carry_is_refused_with_its_place(world: World) -> None:
    unknown = check_problem(await suppress(world, "x", channel="pigeon"), "unknown_channel")
    broken = check_problem(await suppress(world, "no mailbox"), "invalid_address")

    assert (unknown["errors"][0]["path"], broken["errors"][0]["path"]) == ("$.channel", "$.address")


async def test_each_request_needs_its_scope(world: World) -> None:
    check_problem(await world.api.get(PATH, key=KEY), "insufficient_scope")
    check_problem(await suppress(world, "ana@example.com", key=READ_KEY), "insufficient_scope")
    check_problem(await world.api.ask("DELETE", f"{PATH}/email/a@b.c", key=KEY), "insufficient_scope")
    check_problem(await world.api.get(PATH), "missing_key")


@pytest.mark.parametrize("cursor", ["!", "é", "a", "%00"])
async def test_a_cursor_that_no_list_gave_out_is_refused(world: World, cursor: str) -> None:
    check_problem(await world.api.get(f"{PATH}?cursor={cursor}", key=READ_KEY), "invalid_parameter")


async def test_while_the_log_is_away_nothing_is_suppressed_and_the_caller_knows(lab: Lab) -> None:
    lab.log.fails = LogUnavailable("no leader")

    reply = await lab.post({"channel": "email", "address": "ana@example.com"}, path=PATH)

    check_problem(reply, "log_unavailable")

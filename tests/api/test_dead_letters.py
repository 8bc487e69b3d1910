"""Dead letters and redrives over HTTP, against a whole Pabal in this process."""

import hashlib
import socket
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from pabal.audit import read_audit
from pabal.notification import AUDIT_TOPIC, Delivery
from tests.dlq.letters import a_dead_record, a_delivery
from tests.flow.installation import Installation, utc_now

pytestmark = pytest.mark.timeout(60)

ADMIN, OTHER, SENDER, OPERATOR = "pabal_admin", "pabal_other", "pabal_sender", "pabal_operator"


def entry(tenant: str, key: str, *scopes: str) -> dict[str, Any]:
    return {"tenant": tenant, "hash": hashlib.sha256(key.encode()).hexdigest(), "scopes": scopes}


KEYS = [
    entry("shop", ADMIN, "admin"),
    entry("bank", OTHER, "admin"),
    entry("shop", SENDER, "send", "read"),
    entry("ops", OPERATOR, "operator"),
]


class Client:
    def __init__(self, pabal: Installation, http: aiohttp.ClientSession) -> None:
        self.pabal = pabal
        self._http = http

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str = ADMIN, expect: int = 200
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {key}"}
        async with self._http.request(method, f"{self.pabal.address}{path}", json=body, headers=headers) as answer:
            told = await answer.json(content_type=None)
            assert answer.status == expect, told
            return dict(told)

    async def bury(self, *deliveries: Delivery | None, error_class: str = "exhausted") -> None:
        for delivery in deliveries:
            await self.pabal.append(a_dead_record(delivery, error_class=error_class, at=utc_now()))

    def delivery(self, number: int = 1, **changes: object) -> Delivery:
        now = utc_now()
        return a_delivery(
            number,
            **{
                "address": f"{self.pabal.simulator.url}/hook/{number}",
                "accepted_at": now - timedelta(minutes=5),
                "expires_at": now + timedelta(hours=1),
                **changes,
            },
        )


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    running = Installation.running(f"sqlite:{tmp_path / 'log.db'}", api={"keys": KEYS})
    async with running as pabal, aiohttp.ClientSession() as http:
        yield Client(pabal, http)


async def test_letters_are_listed_counted_and_shown(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2))
    await client.bury(client.delivery(3), error_class="uncertain")

    page = await client.ask("GET", "/v1/dead-letters?error_class=exhausted&limit=1")
    counts = await client.ask("GET", "/v1/dead-letters/stats?by=error_class")
    detail = await client.ask("GET", f"/v1/dead-letters/{page['letters'][0]['letter']}")

    assert page["total"] == 2
    assert [(group["values"], group["count"]) for group in counts["groups"]] == [
        ({"error_class": "exhausted"}, 2),
        ({"error_class": "uncertain"}, 1),
    ]
    assert detail["delivery"]["id"] == page["letters"][0]["delivery_id"]
    assert detail["headers"]["x-error-class"] == "exhausted"


async def test_a_tenant_sees_and_touches_its_own_letters_alone(client: Client) -> None:
    await client.bury(client.delivery(1), None)

    assert (await client.ask("GET", "/v1/dead-letters", key=OTHER))["total"] == 0
    assert (await client.ask("GET", "/v1/dead-letters"))["total"] == 1
    for path in ("", "/edit", "/discard"):
        body = {"reason": "x", "provider": "webhook"} if path == "/edit" else {"reason": "x"} if path else None
        method = "POST" if path else "GET"
        told = await client.ask(method, f"/v1/dead-letters/webhook/0/0{path}", body, key=OTHER, expect=404)
        assert told["code"] == "not_found"
    plan = await client.ask("POST", "/v1/redrives/plan", {})
    refused = await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "x"}, key=OTHER, expect=422)
    assert refused["errors"][0]["path"] == "$.plan.selection.tenants"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/dead-letters"),
        ("GET", "/v1/dead-letters/stats"),
        ("GET", "/v1/dead-letters/webhook/0/0"),
        ("POST", "/v1/dead-letters/discard"),
        ("POST", "/v1/dead-letters/webhook/0/0/edit"),
        ("POST", "/v1/dead-letters/webhook/0/0/discard"),
        ("POST", "/v1/redrives/plan"),
        ("POST", "/v1/redrives"),
        ("GET", "/v1/redrives"),
        ("GET", "/v1/redrives/p-1"),
        ("POST", "/v1/redrives/p-1/cancel"),
    ],
)
async def test_all_of_it_needs_the_admin_scope(client: Client, method: str, path: str) -> None:
    told = await client.ask(method, path, {} if method == "POST" else None, key=SENDER, expect=403)

    assert told["code"] == "insufficient_scope"


async def test_an_operators_key_sees_every_tenants_letters_and_those_that_nobody_can_read(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2, tenant="bank"), None)
    # Bytes that do not even tell their channel: where the worker puts what it finds in no topic of its own.
    await client.pabal.append(msgspec.structs.replace(a_dead_record(None, at=utc_now()), topic="pabal.dead.unknown"))

    page = await client.ask("GET", "/v1/dead-letters", key=OPERATOR)
    of_bank = await client.ask("GET", "/v1/dead-letters?tenant=bank,shop&channel=webhook", key=OPERATOR)
    counts = await client.ask("GET", "/v1/dead-letters/stats?by=channel,tenant", key=OPERATOR)
    unreadable = await client.ask("GET", "/v1/dead-letters/unknown/0/0", key=OPERATOR)
    plan = await client.ask("POST", "/v1/redrives/plan", {}, key=OPERATOR)

    assert {letter["letter"] for letter in page["letters"]} == {
        "webhook/0/0",
        "webhook/0/1",
        "webhook/0/2",
        "unknown/0/0",
    }
    assert of_bank["total"] == 2
    assert {tuple(group["values"].values()): group["count"] for group in counts["groups"]} == {
        ("webhook", "shop"): 1,
        ("webhook", "bank"): 1,
        ("webhook", ""): 1,
        ("unknown", ""): 1,
    }
    assert unreadable["value_hex"].startswith("00000000  ff 00 6a 75 6e 6b")
    assert plan["counts"] == {"redrive": 2, "undecodable": 2}


async def test_an_operator_discards_what_nobody_can_read_and_redrives_every_tenants_letters(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2, tenant="bank"), None)

    closed = await client.ask("POST", "/v1/dead-letters/webhook/0/2/discard", {"reason": "noise"}, key=OPERATOR)
    plan = await client.ask("POST", "/v1/redrives/plan", {}, key=OPERATOR)
    begun = await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "mended"}, key=OPERATOR, expect=202)
    view = await until_ended(client, begun["plan"], key=OPERATOR)

    assert (closed["summary"]["state"], closed["summary"]["state_by"]) == ("discarded", "an operator's API key of ops")
    assert (view["state"], view["redriven"]) == ("completed", 2)
    assert (await client.ask("GET", "/v1/redrives", key=ADMIN))["redrives"] == []


async def test_a_key_without_the_scope_is_told_that_other_tenants_letters_are_not_its_to_ask_for(
    client: Client,
) -> None:
    listed = await client.ask("GET", "/v1/dead-letters?tenant=bank", expect=422)
    counted = await client.ask("GET", "/v1/dead-letters/stats?tenant=shop,bank", expect=422)
    planned = await client.ask("POST", "/v1/redrives/plan", {"tenants": ["bank"]}, expect=422)
    discarded = await client.ask("POST", "/v1/dead-letters/discard", {"tenants": ["bank"], "reason": "x"}, expect=422)

    assert [told["errors"][0]["path"] for told in (listed, counted, planned, discarded)] == [
        "?tenant",
        "?tenant",
        "$.tenants",
        "$.tenants",
    ]


async def test_letters_are_filtered_by_all_that_the_command_filters_by(client: Client) -> None:
    first, second = client.delivery(1), client.delivery(2, class_="critical")
    await client.bury(first, second)
    await client.bury(client.delivery(3), error_class="uncertain")
    await client.ask("POST", "/v1/dead-letters/webhook/0/2/discard", {"reason": "x"})

    async def total(query: str) -> int:
        return int((await client.ask("GET", f"/v1/dead-letters?{query}"))["total"])

    assert await total("state=any") == 3
    assert await total("state=any&error_class=exhausted,uncertain&class=standard") == 2
    assert await total("class=critical,bulk&provider=webhook") == 1
    assert await total(f"delivery={first.id},{second.id}") == 2
    assert (await client.ask("GET", "/v1/dead-letters/stats?state=any&class=critical"))["groups"][0]["count"] == 1
    planned = await client.ask("POST", "/v1/redrives/plan", {"deliveries": [str(second.id)], "tenants": ["shop"]})
    assert planned["counts"] == {"redrive": 1}
    for query in ("class=urgent", "delivery=nine"):
        assert (await client.ask("GET", f"/v1/dead-letters?{query}", expect=422))["code"] == "invalid_parameter"


async def test_an_unknown_field_or_filter_is_answered_with_those_there_are(client: Client) -> None:
    body = await client.ask("POST", "/v1/dead-letters/discard", {"reason": "x", "error_class": ["a"]}, expect=422)
    query = await client.ask("GET", "/v1/dead-letters?error=exhausted", expect=422)

    assert body["code"] == "unknown_field"
    assert "there are: channels, error_classes, providers, tenants" in body["errors"][0]["message"]
    assert "there are: channel, error_class, provider, tenant, class" in query["errors"][0]["message"]


async def test_all_that_fit_are_discarded_at_once_with_who_and_why_in_the_audit_log(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2), client.delivery(3, tenant="bank"))
    await client.bury(client.delivery(4), error_class="uncertain")
    request = {"error_classes": ["exhausted"], "reason": "the shop has closed"}

    done = await client.ask("POST", "/v1/dead-letters/discard", request)
    again = await client.ask("POST", "/v1/dead-letters/discard", request)

    assert (done, again) == ({"discarded": 2}, {"discarded": 0})
    facts = [read_audit(record) for record in await client.pabal.records(AUDIT_TOPIC)]
    assert [(fact.action, fact.subject, fact.by, fact.reason) for fact in facts] == [
        ("dead_letter.discarded", f"webhook/0/{offset}", "an API key of shop", "the shop has closed")
        for offset in (0, 1)
    ]
    assert (await client.ask("GET", "/v1/dead-letters"))["total"] == 1
    assert (await client.ask("GET", "/v1/dead-letters", key=OTHER))["total"] == 1


async def test_nothing_is_discarded_when_more_fits_than_was_meant_or_no_filter_says_what_is(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2))
    path = "/v1/dead-letters/discard"

    more = await client.ask("POST", path, {"channels": ["webhook"], "reason": "x", "at_most": 1}, expect=409)
    everything = await client.ask("POST", path, {"reason": "x"}, expect=422)
    wrong = await client.ask("POST", path, {"channels": ["fax"], "reason": "x"}, expect=422)

    assert (more["code"], more["detail"]) == (
        "letter_refused",
        "2 open letters fit, and at most 1 were to be discarded; none was",
    )
    assert (everything["code"], wrong["code"]) == ("invalid_field", "invalid_field")
    assert (await client.ask("GET", "/v1/dead-letters"))["total"] == 2


async def test_a_letter_is_edited_planned_redriven_and_its_redrive_can_be_followed(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2, address="http://127.0.0.1:1/wrong"))
    new = f"{client.pabal.simulator.url}/hook/moved"
    edited = await client.ask("POST", "/v1/dead-letters/webhook/0/1/edit", {"address": new, "reason": "moved"})
    plan = await client.ask("POST", "/v1/redrives/plan", {"error_classes": ["exhausted"]})

    begun = await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "mended"}, expect=202)
    for number in (1, 2):
        await client.pabal.until_told(str(client.delivery(number).id), "sent")
    await until_ended(client, begun["plan"])

    assert edited["delivery"]["edit"] == 1
    assert plan["counts"] == {"redrive": 2}
    view = await client.ask("GET", f"/v1/redrives/{begun['plan']}")
    assert (view["state"], view["by"], view["ending"]["tally"]) == (
        "completed",
        "an API key of shop",
        {"redriven": 2, "sent": 2},
    )
    assert [each["plan"] for each in (await client.ask("GET", "/v1/redrives"))["redrives"]] == [begun["plan"]]
    assert (await client.ask("GET", "/v1/redrives", key=OTHER))["redrives"] == []
    assert {request.path for request in client.pabal.simulator.requests()} == {"/hook/1", "/hook/moved"}


async def test_a_redrive_can_be_stopped(client: Client) -> None:
    await client.bury(*(client.delivery(number) for number in range(50)))
    plan = await client.ask("POST", "/v1/redrives/plan", {})
    request = {"plan": plan, "reason": "x", "pace": {"canary": 1, "per_second": 1.0}}
    begun = await client.ask("POST", "/v1/redrives", request, expect=202)
    again = await client.ask("POST", "/v1/redrives", request, expect=409)
    await client.pabal.until_told(str(client.delivery(0).id), "sent")

    await client.ask("POST", f"/v1/redrives/{begun['plan']}/cancel", expect=202)
    view = await until_ended(client, begun["plan"])

    assert again["code"] == "redrive_held"
    assert view["state"] == "cancelled"
    assert view["redriven"] < 50


@pytest.mark.parametrize(
    "since", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "1970-01-01T00:30:00Z", "1900-01-01T00:00:00-14:00"]
)
async def test_since_the_calendars_start_is_since_ever(client: Client, since: str) -> None:
    await client.bury(client.delivery(1))

    listed = await client.ask("GET", f"/v1/dead-letters?since={since}")
    counted = await client.ask("GET", f"/v1/dead-letters/stats?since={since}")
    plan = await client.ask("POST", "/v1/redrives/plan", {"since": since})
    await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "x"}, expect=202)
    view = await until_ended(client, plan["id"])
    discarded = await client.ask("POST", "/v1/dead-letters/discard", {"since": since, "reason": "x"})
    found = await client.ask("GET", f"/v1/dead-letters?since={since}&until=9999-12-31T23:59:59.9999999Z&state=any")

    assert (listed["total"], counted["groups"][0]["count"]) == (1, 1)
    assert (view["state"], view["redriven"]) == ("completed", 1)
    assert (discarded, found["total"]) == ({"discarded": 0}, 1)


@pytest.mark.parametrize("since", ["9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-14:00"])
async def test_since_the_calendars_end_there_is_nothing(client: Client, since: str) -> None:
    await client.bury(client.delivery(1))

    assert (await client.ask("GET", f"/v1/dead-letters?since={since}"))["total"] == 0
    assert (await client.ask("POST", "/v1/redrives/plan", {"since": since}))["counts"] == {}


@pytest.mark.parametrize("name", ["abc\n", "abc\r\nX: y", "a b", "", "ä", "x" * 65])
async def test_a_plans_id_is_one_word(client: Client, name: str) -> None:
    plan = await client.ask("POST", "/v1/redrives/plan", {})

    told = await client.ask("POST", "/v1/redrives", {"plan": {**plan, "id": name}, "reason": "x"}, expect=422)

    assert told["errors"][0]["path"] == "$.plan.id"


@pytest.mark.parametrize("letter", ["webhook/0/9999999999999999999", "webhook/9999999999999999999/0", "webhook/0/-1"])
async def test_a_letter_beyond_all_numbers_is_not_found(client: Client, letter: str) -> None:
    await client.ask("GET", f"/v1/dead-letters/{letter}", expect=404)


@pytest.mark.parametrize(
    ("pace", "where"),
    [
        ({"per_second": 1e-300, "patience_seconds": 1e308}, "$.pace.per_second"),
        ({"per_second": 5e-324}, "$.pace.per_second"),
        ({"per_second": 0}, "$.pace.per_second"),
        ({"per_second": -1}, "$.pace.per_second"),
        ({"per_second": 1e308}, "$.pace.per_second"),
        ({"patience_seconds": 1e308}, "$.pace.patience_seconds"),
        ({"patience_seconds": 5e-324}, "$.pace.patience_seconds"),
        ({"canary": 10**30}, "$.pace.canary"),
        ({"canary": -1}, "$.pace.canary"),
        ({"max_return_ratio": 1.1}, "$.pace.max_return_ratio"),
        ({"persecond": 1}, "$.pace.persecond"),
    ],
)
async def test_a_pace_beyond_all_bounds_is_refused(client: Client, pace: dict[str, Any], where: str) -> None:
    plan = await client.ask("POST", "/v1/redrives/plan", {})

    told = await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "x", "pace": pace}, expect=422)

    assert told["errors"][0]["path"] == where


async def test_a_filter_of_a_plan_that_is_misspelt_is_no_plan_for_more(client: Client) -> None:
    plan = await client.ask("POST", "/v1/redrives/plan", {})
    selection = {**plan["selection"], "error_clases": ["uncertain"]}

    told = await client.ask(
        "POST", "/v1/redrives", {"plan": {**plan, "selection": selection}, "reason": "x"}, expect=422
    )

    assert (told["code"], told["errors"][0]["path"]) == ("unknown_field", "$.plan.selection.error_clases")


SLOW = {"canary": 1, "per_second": 0.01, "patience_seconds": 86400.0}


async def test_redrives_of_different_tenants_do_not_wait_for_each_other(client: Client) -> None:
    await client.bury(*(client.delivery(number) for number in (1, 2, 3)), client.delivery(4, tenant="bank"))
    slow = await client.ask("POST", "/v1/redrives/plan", {})
    own = await client.ask("POST", "/v1/redrives/plan", {}, key=OTHER)
    await client.ask("POST", "/v1/redrives", {"plan": slow, "reason": "x", "pace": SLOW}, expect=202)
    await client.pabal.until_told(str(client.delivery(1).id), "sent")

    await client.ask("POST", "/v1/redrives", {"plan": own, "reason": "x"}, key=OTHER, expect=202)
    view = await until_ended(client, own["id"], key=OTHER)

    assert (view["state"], view["redriven"]) == ("completed", 1)
    assert (await client.ask("GET", f"/v1/redrives/{slow['id']}"))["state"] == "running"


async def test_a_redrive_that_is_held_tells_a_tenant_of_its_own_alone(client: Client) -> None:
    await client.bury(*(client.delivery(number) for number in (1, 2)), client.delivery(3, tenant="bank"))
    by_operator = await client.ask("POST", "/v1/redrives/plan", {}, key=OPERATOR)
    plans = [await client.ask("POST", "/v1/redrives/plan", {}, key=key) for key in (ADMIN, OTHER, OPERATOR)]
    await client.ask(
        "POST", "/v1/redrives", {"plan": by_operator, "reason": "x", "pace": SLOW}, key=OPERATOR, expect=202
    )
    await client.pabal.until_told(str(client.delivery(1).id), "sent")

    shop, bank, operator = [
        await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "x"}, key=key, expect=409)
        for plan, key in zip(plans, (ADMIN, OTHER, OPERATOR), strict=True)
    ]
    await client.ask("POST", f"/v1/redrives/{by_operator['id']}/cancel", key=OPERATOR, expect=202)
    await until_ended(client, by_operator["id"], key=OPERATOR)
    mine = await client.ask("POST", "/v1/redrives/plan", {})
    await client.ask("POST", "/v1/redrives", {"plan": mine, "reason": "x", "pace": SLOW}, expect=202)
    await client.pabal.until_told(str(client.delivery(2).id), "sent")
    another = await client.ask("POST", "/v1/redrives/plan", {})
    own = await client.ask("POST", "/v1/redrives", {"plan": another, "reason": "x"}, expect=409)

    for told in (shop, bank):
        assert by_operator["id"] not in str(told)
        assert "ops" not in told["detail"]
    assert by_operator["id"] in operator["detail"]
    assert f"an API key of shop on {socket.gethostname()} redrives letters of shop" in own["detail"]
    assert mine["id"] in own["detail"]


async def test_a_plan_that_is_none_of_this_log_is_refused_before_anything_is_begun(client: Client) -> None:
    await client.bury(client.delivery(1))
    plan = await client.ask("POST", "/v1/redrives/plan", {})
    wrong = [
        {**plan, "ends": {**plan["ends"], "webhook/0": 2}},
        {**plan, "ends": {"fax/0": 0}},
        {**plan, "selection": {**plan["selection"], "channels": ["fax"]}},
        {**plan, "selection": {**plan["selection"], "letters": ["nine"]}},
    ]

    for each in wrong:
        told = await client.ask("POST", "/v1/redrives", {"plan": each, "reason": "x"}, expect=422)
        assert told["errors"][0]["path"] == "$.plan"
    assert (await client.ask("GET", "/v1/redrives"))["redrives"] == []


async def test_a_redrive_of_another_tenant_can_neither_be_seen_nor_stopped_nor_its_id_be_taken(client: Client) -> None:
    await client.bury(client.delivery(1), client.delivery(2, tenant="bank"))
    plan = await client.ask("POST", "/v1/redrives/plan", {})
    own = await client.ask("POST", "/v1/redrives/plan", {}, key=OTHER)
    await client.ask("POST", "/v1/redrives", {"plan": plan, "reason": "x"}, expect=202)
    await until_ended(client, plan["id"])

    await client.ask("GET", f"/v1/redrives/{plan['id']}", key=OTHER, expect=404)
    await client.ask("POST", f"/v1/redrives/{plan['id']}/cancel", key=OTHER, expect=404)
    taken = {**own, "id": plan["id"]}
    told = await client.ask("POST", "/v1/redrives", {"plan": taken, "reason": "x"}, key=OTHER, expect=422)
    ended = await client.ask("POST", f"/v1/redrives/{plan['id']}/cancel", expect=409)

    assert told["detail"].startswith("$.plan: another plan of the id")
    assert ended["code"] == "letter_refused"


async def test_what_a_letter_does_not_allow_says_so(client: Client) -> None:
    await client.bury(client.delivery(1))
    discard = "/v1/dead-letters/webhook/0/0/discard"

    closed = await client.ask("POST", discard, {"reason": "gone"})
    refused = await client.ask("POST", discard, {"reason": "gone"}, expect=409)
    wrong = await client.ask("GET", "/v1/dead-letters?channel=fax", expect=422)
    bad_by = await client.ask("GET", "/v1/dead-letters/stats?by=colour", expect=422)
    absent = await client.ask("GET", "/v1/dead-letters/webhook/0/nine", expect=404)

    assert closed["summary"]["state"] == "discarded"
    assert refused["code"] == "letter_refused"
    assert (wrong["code"], bad_by["code"], absent["code"]) == ("invalid_parameter", "invalid_parameter", "not_found")


async def until_ended(client: Client, plan: str, *, key: str = ADMIN) -> dict[str, Any]:
    deadline = utc_now() + timedelta(seconds=20)
    while True:
        view = await client.ask("GET", f"/v1/redrives/{plan}", key=key)
        if view["state"] not in ("running", "waiting"):
            return view
        assert utc_now() < deadline, view

"""`POST /v1/notifications/batch`: every item judged by itself, one append for all."""

import logging
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from pabal.api.acceptance import MAX_BODY_BYTES
from pabal.api.batch import MAX_BATCH_BYTES, MAX_BATCH_DELIVERIES
from pabal.config import TenantSettings
from pabal.errors import LogUnavailable, UnknownTopic
from pabal.notification import notification_id
from tests.api.lab import Lab, Reply
from tests.api.test_notifications import ANA, GOOD, HOOK, check_problem


async def send(lab: Lab, *items: object, **options: Any) -> Reply:
    return await lab.post({"notifications": items}, path="/v1/notifications/batch", **options)


async def test_a_batch_is_one_append_and_one_result_per_item(lab: Lab) -> None:
    reply = await send(lab, {**GOOD, "idempotency_key": "a"}, GOOD)

    assert reply.status == 202
    assert [result["status"] for result in reply.json["results"]] == [202, 202]
    assert [result["idempotency_key"] for result in reply.json["results"]] == ["a", "made-1"]
    assert reply.json["results"][0]["accepted"]["id"] == str(notification_id(tenant="shop", idempotency_key="a"))
    assert len(lab.log.appends) == 1
    assert [str(delivery.id) for delivery in lab.log.deliveries] == [
        delivery["id"] for result in reply.json["results"] for delivery in result["accepted"]["deliveries"]
    ]


async def test_an_unknown_field_is_answered_with_those_there_are(lab: Lab) -> None:
    of_item = (await send(lab, {**GOOD, "key": "a"})).json["results"][0]["problem"]["errors"][0]
    of_batch = (await lab.post({"notification": []}, path="/v1/notifications/batch")).json["errors"][0]

    assert of_item["path"] == "$.notifications[0].key"
    assert of_item["message"].endswith("expires_at, tags, idempotency_key")
    assert of_batch["message"] == "there is no such field; there are: notifications"


async def test_an_items_expiry_at_the_calendars_end_is_brought_forward(lab: Lab) -> None:
    never = {**GOOD, "expires_at": "9999-12-31T23:59:59.9999999Z"}

    reply = await send(lab, never, {**never, "colour": 1})

    first, second = reply.json["results"]
    assert (first["status"], second["problem"]["code"]) == (202, "unknown_field")


async def test_an_item_is_accepted_under_the_same_ids_as_a_request_of_its_own(lab: Lab) -> None:
    alone = await lab.post(GOOD, idempotency_key="a")
    batched = await send(lab, {**GOOD, "idempotency_key": "a"})

    assert batched.json["results"][0]["accepted"] == alone.json


@pytest.mark.parametrize(
    ("bad", "code", "path"),
    [
        ({**GOOD, "to": [{**ANA, "channel": "pigeon"}]}, "unknown_channel", "$.notifications[1].to[0].channel"),
        ({**GOOD, "class": "urgent"}, "invalid_field", "$.notifications[1].class"),
        ({**GOOD, "colour": 1}, "unknown_field", "$.notifications[1].colour"),
        ("text", "invalid_field", "$.notifications[1]"),
        ({**GOOD, "idempotency_key": "a b"}, "invalid_idempotency_key", "$.notifications[1].idempotency_key"),
        ({**GOOD, "idempotency_key": "a\n"}, "invalid_idempotency_key", "$.notifications[1].idempotency_key"),
        ({**GOOD, "idempotency_key": ""}, "invalid_field", "$.notifications[1].idempotency_key"),
        ({**GOOD, "idempotency_key": "first"}, "duplicate_idempotency_key", "$.notifications[1].idempotency_key"),
        ({**GOOD, "tags": ["x" * MAX_BODY_BYTES]}, "body_too_large", "$.notifications[1]"),
    ],
)
async def test_a_bad_item_spoils_no_other(lab: Lab, bad: object, code: str, path: str) -> None:
    reply = await send(lab, {**GOOD, "idempotency_key": "first"}, bad, {**GOOD, "idempotency_key": "last"})

    first, refused, last = reply.json["results"]
    assert reply.status == 207
    assert first["status"] == last["status"] == 202
    assert refused["status"] == refused["problem"]["status"]
    assert (refused["problem"]["code"], refused["problem"]["errors"][0]["path"]) == (code, path)
    assert len(lab.log.records) == 4


async def test_a_refused_item_keeps_the_key_that_was_made_for_it(lab: Lab) -> None:
    reply = await send(lab, {**GOOD, "content": {}})

    assert reply.status == 207
    assert reply.json["results"][0]["idempotency_key"] == "made-1"
    assert lab.log.appends == []


@pytest.mark.parametrize(
    ("failure", "code"), [(LogUnavailable("x"), "log_unavailable"), (UnknownTopic("x"), "topics_missing")]
)
async def test_when_the_append_is_in_doubt_the_answer_carries_every_key(
    lab: Lab, failure: Exception, code: str
) -> None:
    lab.log.fails = failure

    reply = await send(lab, {**GOOD, "idempotency_key": "a"}, {**GOOD, "class": "urgent"}, GOOD)

    problem = check_problem(reply, code)
    assert reply.headers["retry-after"] == "2"
    assert [result["status"] for result in problem["results"]] == [503, 422, 503]
    assert [result.get("idempotency_key") for result in problem["results"]] == ["a", None, "made-1"]


async def test_the_header_is_refused_on_a_batch(lab: Lab) -> None:
    check_problem(await send(lab, GOOD, idempotency_key="a"), "idempotency_key_on_batch")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"[]", "invalid_field"),
        (b"{}", "missing_field"),
        ({"notifications": []}, "invalid_field"),
        ({"notifications": [GOOD] * 501}, "invalid_field"),
        ({"notifications": [GOOD], "x": 1}, "unknown_field"),
        (b'{"notifications": [' + b"[" * 100_000, "nested_too_deeply"),
        (b'{"notifications": [{"to": }]}', "invalid_json"),
        (b" " * (MAX_BATCH_BYTES + 1), "body_too_large"),
    ],
)
async def test_what_is_no_batch_is_refused_as_a_whole(lab: Lab, body: object, code: str) -> None:
    check_problem(await lab.post(body, path="/v1/notifications/batch"), code)


async def test_an_item_that_is_nested_too_deeply_for_its_decoder_is_refused_alone(lab: Lab) -> None:
    deep = msgspec.Raw(b'{"content": {"data": {"x": ' + b"[" * 900 + b"]" * 900 + b"}}}")

    reply = await send(lab, deep, GOOD)

    assert [result["status"] for result in reply.json["results"]] == [422, 202]


async def test_a_batch_that_comes_to_too_many_deliveries_is_cut_at_whole_items(lab: Lab) -> None:
    to = [{"channel": "webhook", "address": f"https://example.com/{index}"} for index in range(500)]

    reply = await send(lab, *[{**GOOD, "to": to}] * 11, {**GOOD, "to": [HOOK]})

    results = reply.json["results"]
    assert [result["status"] for result in results] == [202] * 10 + [413] * 2
    assert results[10]["problem"]["code"] == "batch_too_large"
    assert len(lab.log.records) == MAX_BATCH_DELIVERIES


async def test_a_batch_needs_a_key_like_any_other_request(lab: Lab) -> None:
    check_problem(await send(lab, GOOD, key=None), "missing_key")


async def test_a_caller_who_hangs_up_in_a_batch_gets_no_answer(lab: Lab) -> None:
    headers = [(b"authorization", b"Bearer send-key"), (b"content-type", b"application/json")]

    sent = await lab.exchange(
        "POST", "/v1/notifications/batch", headers=headers, messages=[{"type": "http.disconnect"}]
    )

    assert sent == []


async def test_a_defect_in_a_batch_is_logged_and_answered(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.log.fails = ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR):
        reply = await send(lab, GOOD)

    check_problem(reply, "internal_error")
    assert "ZeroDivisionError" in caplog.text


async def test_an_item_that_the_log_never_takes_spoils_no_other(lab: Lab) -> None:
    lab.log.refuses = b"heavy"
    heavy = {**GOOD, "content": {"title": "heavy", "body": "x"}}

    reply = await send(lab, heavy, {**GOOD, "idempotency_key": "good"}, heavy)

    assert reply.status == 207
    assert [result["status"] for result in reply.json["results"]] == [413, 202, 413]
    problem = reply.json["results"][2]["problem"]
    assert (problem["code"], problem["errors"][0]["path"]) == ("record_refused", "$.notifications[2]")
    [append] = lab.log.appends
    assert len(append) == len(GOOD["to"])


async def test_a_batch_counts_against_the_quota_as_a_whole() -> None:
    lab = Lab(tenants={"shop": TenantSettings(quota_per_second=1, quota_burst=4)})

    assert (await send(lab, GOOD, GOOD)).status == 202
    reply = await send(lab, GOOD, {**GOOD, "colour": 1})

    check_problem(reply, "quota_exceeded")
    assert reply.headers["retry-after"] == "2"
    assert len(lab.log.appends) == 1


async def test_scheduled_items_count_once_each_against_what_a_batch_may_come_to(lab: Lab) -> None:
    to = [{"channel": "webhook", "address": f"https://example.com/{number}"} for number in range(500)]
    item = {"to": to, "content": {"title": "x"}, "send_at": lab.clock.now() + timedelta(hours=1)}

    reply = await send(lab, *[item] * (MAX_BATCH_DELIVERIES // 500))

    assert reply.status == 202

"""`POST /v1/notifications`: what is accepted, what is said when not, and that nothing is half done."""

import asyncio
import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from pabal.api.acceptance import AT_ONCE, MAX_BODY_BYTES
from pabal.api.codes import KINDS
from pabal.codec import read_delivery, read_event
from pabal.config import TenantSettings
from pabal.errors import Closed, ConfigError, LogUnavailable, RecordRefused, UnknownTopic
from pabal.notification import Address, delivery_id, notification_id
from pabal.plan import MAX_EXPANDED_BYTES
from tests.api.lab import KEY, OTHER_KEY, READ_KEY, SETTINGS, SHIPPED, Lab, Reply, api_key, as_record

ANA = {"channel": "email", "address": "ana@example.com"}
HOOK = {"channel": "webhook", "address": "https://example.com/hook"}
TEXT = {"title": "Order 17 shipped", "body": "On its way."}
GOOD: dict[str, Any] = {"to": [ANA, HOOK], "content": TEXT}


def check_problem(reply: Reply, code: str) -> dict[str, Any]:
    """The reply is a problem document of this code, true to its table."""
    assert reply.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json
    kind = next(kind for name, kind in KINDS.items() if name == code)
    assert problem["code"] == code, problem
    assert (reply.status, problem["status"], problem["title"]) == (kind.status, kind.status, kind.title)
    assert problem["type"] == f"/docs#{code}"
    assert problem["detail"]
    return problem


async def test_an_accepted_notification_is_answered_with_its_ids_and_stands_in_the_log(lab: Lab) -> None:
    reply = await lab.post(GOOD, idempotency_key="order-17")

    id_ = notification_id(tenant="shop", idempotency_key="order-17")
    assert reply.status == 202
    assert reply.headers["idempotency-key"] == "order-17"
    assert reply.json == {
        "id": str(id_),
        "deliveries": [
            {"id": str(delivery_id(id_, Address(channel=to["channel"], address=to["address"]))), "class": "standard"}
            | to
            for to in (ANA, HOOK)
        ],
        "links": {
            "status": f"/v1/notifications/{id_}",
            "cancel": f"/v1/notifications/{id_}/cancel",
            "docs": "/docs",
        },
    }
    assert len(lab.log.appends) == 1
    assert [record.topic for record in lab.log.records] == [
        "pabal.deliveries.email.standard",
        "pabal.deliveries.webhook.standard",
    ]
    assert [str(delivery.id) for delivery in lab.log.deliveries] == [one["id"] for one in reply.json["deliveries"]]


async def test_the_same_key_of_a_tenant_gives_the_same_ids_and_another_tenants_gives_others(lab: Lab) -> None:
    first = await lab.post(GOOD, idempotency_key="k")
    again = await lab.post({**GOOD, "class": "bulk"}, idempotency_key="k")
    other = await lab.post(GOOD, idempotency_key="k", key=OTHER_KEY)

    assert first.json["id"] == again.json["id"] != other.json["id"]
    assert {delivery.tenant for delivery in lab.log.deliveries} == {"shop", "bank"}


async def test_without_an_idempotency_key_one_is_made_and_returned(lab: Lab) -> None:
    first, second = await lab.post(GOOD), await lab.post(GOOD)

    assert (first.headers["idempotency-key"], second.headers["idempotency-key"]) == ("made-1", "made-2")
    assert UUID(first.json["id"]) == notification_id(tenant="shop", idempotency_key="made-1")


@pytest.mark.parametrize("body", [GOOD, b"not json", {**GOOD, "class": "urgent"}])
async def test_every_answer_carries_the_key_with_which_to_try_again(lab: Lab, body: object) -> None:
    lab.log.fails = LogUnavailable("no leader")

    reply = await lab.post(body)

    assert reply.status >= 400
    assert reply.headers["idempotency-key"] == reply.json["idempotency_key"] == "made-1"


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "a\tb", "x" * 256])
async def test_an_idempotency_key_is_visible_ascii_of_at_most_255(lab: Lab, key: str) -> None:
    check_problem(await lab.post(GOOD, idempotency_key=key), "invalid_idempotency_key")
    assert (await lab.post(GOOD, idempotency_key="!" + "~" * 254)).status == 202


async def test_two_idempotency_keys_are_refused(lab: Lab) -> None:
    reply = await lab.post(GOOD, idempotency_key="a", headers=[("Idempotency-Key", "b")])

    check_problem(reply, "invalid_idempotency_key")


async def test_a_scheduled_notification_goes_down_the_delay_line(lab: Lab) -> None:
    send_at = lab.clock.now() + timedelta(hours=3)

    reply = await lab.post({**GOOD, "to": [HOOK], "send_at": send_at, "class": "critical", "tags": ["a", "b"]})

    record, event = lab.log.records
    assert reply.status == 202
    assert record.topic == "pabal.delay.critical.7200"
    assert dict(record.headers)["x-due"] == send_at.isoformat().encode()
    assert read_delivery(as_record(record)).expires_at == send_at + timedelta(hours=1)
    told = read_event(as_record(event))
    assert (told.kind, told.due, str(told.delivery_id)) == ("scheduled", send_at, reply.json["deliveries"][0]["id"])
    assert (told.at, told.expires_at, told.tags) == (lab.clock.now(), send_at + timedelta(hours=1), ("a", "b"))


async def test_a_scheduled_notification_that_is_asked_for_twice_is_told_as_one_event(lab: Lab) -> None:
    body = {**GOOD, "to": [HOOK], "send_at": lab.clock.now() + timedelta(hours=3)}

    await lab.post(body, idempotency_key="k")
    await lab.post(body, idempotency_key="k")

    first, again = (read_event(as_record(records[1])) for records in lab.log.appends)
    assert first.id == again.id


async def test_of_a_key_that_stands_twice_the_last_one_holds(lab: Lab) -> None:
    body = b'{"to": [{"channel": "pigeon", "channel": "email", "address": "x", "address": "a@b.example"}], '

    reply = await lab.post(body + b'"class": "bulk", "class": "critical", "content": {"title": "t", "body": "b"}}')

    assert reply.status == 202
    assert [(each.channel, each.address, each.class_) for each in lab.log.deliveries] == [
        ("email", "a@b.example", "critical")
    ]


@pytest.mark.parametrize("domain", ["localhost", "corp.local", "x.test", "[127.0.0.1]"])
async def test_mail_to_a_domain_that_leaves_no_house_is_refused(lab: Lab, domain: str) -> None:
    reply = await lab.post({**GOOD, "to": [{**ANA, "address": f"ana@{domain}"}]})

    check_problem(reply, "invalid_address")


@pytest.mark.parametrize(
    "never",
    [
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59.9999999Z",
        "9999-12-31T23:59:59.999999999Z",
        "9999-12-31T23:59:59.9999999-14:00",
        "9999-12-31T23:59:59.9999999+14:00",
    ],
)
async def test_an_expiry_at_the_calendars_end_is_brought_forward_like_any_that_is_late(lab: Lab, never: str) -> None:
    said = {"title": never, "body": never, "data": {"expires_at": never}}

    reply = await lab.post({**GOOD, "to": [HOOK], "content": said, "expires_at": never})

    assert reply.status == 202
    [delivery] = lab.log.deliveries
    assert delivery.expires_at == lab.clock.now() + timedelta(days=7)
    assert delivery.content is not None
    assert (delivery.content.title, delivery.content.data) == (never, {"expires_at": never})


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"send_at": "9999-12-31T23:59:59.9999999Z"}, "invalid_send_at", "$.send_at"),
        ({"expires_at": "0001-01-01T00:00:00+14:00"}, "invalid_expires_at", "$.expires_at"),
        ({"expires_at": "9999-12-31T23:59:60.9999999Z"}, "invalid_field", "$.expires_at"),
        ({"expires_at": "2026-12-31T23:59:60Z"}, "invalid_field", "$.expires_at"),
        ({"expires_at": "9999-12-31T23:59:59.9999999Z", "tags": [1]}, "invalid_field", "$.tags[0]"),
        ({"expires_at": "9999-12-31T23:59:59.9999999Z", "colour": 1}, "unknown_field", "$.colour"),
    ],
)
async def test_a_time_that_cannot_be_is_named(lab: Lab, change: dict[str, Any], code: str, path: str) -> None:
    problem = check_problem(await lab.post({**GOOD, **change}), code)

    assert [error["path"] for error in problem["errors"]] == [path]


async def test_a_broken_body_after_a_time_at_the_calendars_end_is_a_broken_body(lab: Lab) -> None:
    body = b'{"expires_at": "9999-12-31T23:59:59.9999999Z", "to": [' + b"\xff"

    check_problem(await lab.post(body), "invalid_json")


async def test_others_have_their_turn_while_many_recipients_are_looked_at(lab: Lab) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    beside = asyncio.create_task(others())
    reply = await lab.post({**GOOD, "to": [{**ANA, "address": f"ana{number}@example.com"} for number in range(400)]})
    beside.cancel()

    assert reply.status == 202
    assert len(reply.json["deliveries"]) == 400
    assert turns >= 400 / AT_ONCE - 1


async def test_many_recipients_are_told_of_in_order_and_with_their_places(lab: Lab) -> None:
    recipients = [{**ANA, "address": "x" if number % 10 == 3 else f"ana{number}@example.com"} for number in range(40)]

    problem = check_problem(await lab.post({**GOOD, "to": recipients}), "invalid_address")

    assert [error["path"] for error in problem["errors"]] == [f"$.to[{number}].address" for number in (3, 13, 23, 33)]


async def test_a_record_that_the_log_never_takes_is_the_callers_affair(lab: Lab) -> None:
    lab.log.fails = RecordRefused("1,200,000 bytes are more than max.message.bytes", indexes=[0])

    problem = check_problem(await lab.post(GOOD, idempotency_key="order-17"), "record_refused")

    assert "max.message.bytes" in problem["detail"]
    assert problem["idempotency_key"] == "order-17"


def quota(per_second: float, *, burst: int | None = None) -> dict[str, TenantSettings]:
    return {"shop": TenantSettings(quota_per_second=per_second, quota_burst=burst)}


async def test_beyond_its_quota_a_tenant_is_told_when_to_come_back_and_another_is_not() -> None:
    lab = Lab(tenants=quota(0.5, burst=4))
    body = {**GOOD, "to": [HOOK, ANA]}

    answers = [await lab.post(body) for _ in range(3)]
    other = await lab.post(body, key=OTHER_KEY)

    assert [answer.status for answer in answers] == [202, 202, 429]
    check_problem(answers[2], "quota_exceeded")
    assert answers[2].headers["retry-after"] == "4"
    assert other.status == 202
    assert len(lab.log.appends) == 3

    lab.clock.advance(4)
    assert (await lab.post(body)).status == 202


async def test_what_is_refused_for_its_flaws_does_not_count_against_the_quota() -> None:
    lab = Lab(tenants=quota(1))

    check_problem(await lab.post({**GOOD, "content": None}), "content_or_template")

    assert (await lab.post({**GOOD, "to": [HOOK]})).status == 202


async def test_a_template_travels_by_name_hash_and_data(lab: Lab) -> None:
    reply = await lab.post({"to": [ANA], "template": "order-shipped", "data": {"order": 17}})

    (delivery,) = lab.log.deliveries
    assert reply.status == 202
    assert delivery.template is not None
    assert (delivery.template.hash, delivery.template.data, delivery.content) == (SHIPPED.hash, {"order": 17}, None)


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"to": [{**ANA, "channel": "pigeon"}]}, "unknown_channel", "$.to[0].channel"),
        ({"to": [HOOK, {**ANA, "address": "ana"}]}, "invalid_address", "$.to[1].address"),
        ({"template": "nope", "content": None}, "unknown_template", "$.template"),
        ({"template": "order-shipped", "content": None}, "template_failed", "$.data"),
        ({"template": "order-shipped"}, "content_or_template", "$"),
        ({"content": None}, "content_or_template", "$"),
        ({"data": {}}, "data_without_template", "$.data"),
        ({"content": {"title": "no body"}}, "unusable_content", "$.content"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "invalid_expires_at", "$.expires_at"),
        ({"send_at": "2027-01-01T00:00:00Z"}, "invalid_send_at", "$.send_at"),
        (
            {"content": {**TEXT, "data": {"x": msgspec.Raw(b"[" * 200 + b"]" * 200)}}},
            "nested_too_deeply",
            "$.content.data",
        ),
        ({"to": [HOOK] * 501}, "too_many_deliveries", "$.to"),
        ({"colour": "red"}, "unknown_field", "$.colour"),
        ({"content": {**TEXT, "email": {"sms": 1}}}, "unknown_field", "$.content.email.sms"),
        ({"idempotency_key": "k"}, "unknown_field", "$.idempotency_key"),
        ({"to": [{"channel": "email"}]}, "missing_field", "$.to[0].address"),
        ({"to": []}, "invalid_field", "$.to"),
        ({"to": [{**ANA, "address": ""}]}, "invalid_field", "$.to[0].address"),
        ({"class": "urgent"}, "invalid_field", "$.class"),
        ({"content": []}, "invalid_field", "$.content"),
        ({"content": {**TEXT, "data": [1]}}, "invalid_field", "$.content.data"),
        ({"send_at": "2026-12-01T09:00:00"}, "invalid_field", "$.send_at"),
        ({"order_key": "x" * 256}, "invalid_field", "$.order_key"),
        ({"tags": ["x"] * 21}, "invalid_field", "$.tags"),
        ({"tags": ["x", "x" * 65]}, "invalid_field", "$.tags[1]"),
    ],
)
async def test_a_broken_rule_is_named_by_its_code_and_path(
    lab: Lab, change: dict[str, Any], code: str, path: str
) -> None:
    reply = await lab.post({key: value for key, value in {**GOOD, **change}.items() if value is not None})

    problem = check_problem(reply, code)
    assert [(error["path"], error["code"]) for error in problem["errors"]] == [(path, code)]
    assert lab.log.appends == []


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"colour": "red"}, "to, class, content, template, data, order_key, send_at, expires_at, tags"),
        ({"content": {**TEXT, "email": {"sms": 1}}}, "subject, text, html"),
        ({"to": [{**ANA, "name": "Ana"}]}, "channel, address"),
    ],
)
async def test_an_unknown_field_is_answered_with_those_there_are(lab: Lab, change: dict[str, Any], known: str) -> None:
    problem = check_problem(await lab.post({**GOOD, **change}), "unknown_field")

    assert problem["errors"][0]["message"] == f"there is no such field; there are: {known}"


async def test_several_broken_rules_come_together(lab: Lab) -> None:
    reply = await lab.post({"to": [{**ANA, "channel": "pigeon"}, {**ANA, "address": "x"}], "tags": ["a"]})

    problem = check_problem(reply, "invalid_request")
    assert [(error["path"], error["code"]) for error in problem["errors"]] == [
        ("$.to[0].channel", "unknown_channel"),
        ("$.to[1].address", "invalid_address"),
        ("$", "content_or_template"),
    ]


async def test_one_rule_broken_in_several_places_keeps_its_code(lab: Lab) -> None:
    reply = await lab.post({**GOOD, "to": [{**ANA, "address": "x"}, {**ANA, "address": "y"}]})

    assert len(check_problem(reply, "invalid_address")["errors"]) == 2


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b"\xff", "invalid_json"),
        (b'\xef\xbb\xbf{"to": []}', "invalid_json"),
        (b'{"template": "\xed\xa0\x80"}', "invalid_json"),
        (b'{"content": {"title": "\\ud800"}}', "invalid_json"),
        (b'{"content": {"title": "\\udc00\\ud800"}}', "invalid_json"),
        (b'{"content": {"data": {"x": NaN}}}', "invalid_json"),
        (b'{"content": {"data": {"x": 1e999}}}', "invalid_field"),
        (b'{"content": {"data": {"x": ' + b"1" * 5000 + b"}}}", "invalid_field"),
        (b'{"content": {"data": {"x": ' + b"[" * 100_000, "nested_too_deeply"),
        (b'{"nope": ' + b"[" * 100_000, "unknown_field"),
        (b"[" * 100_000, "invalid_field"),
        (b"null", "invalid_field"),
        (b'{} {"to": []}', "missing_field"),
        (b"{}", "missing_field"),
    ],
)
async def test_hostile_bodies_are_refused_in_words(lab: Lab, body: bytes, code: str) -> None:
    check_problem(await lab.post(body), code)


@pytest.mark.parametrize(
    "data",
    [
        b'{"x": ' + b"9" * 4000 + b"}",
        b'{"x": -0.0, "y": 1e-400, "z": 0.' + b"1" * 3000 + b"}",
        b'{"a": 1, "a": 2}',
        b'{"\\u0000": "\\u0000\\uffff\\ud83d\\ude00"}',
        b'{"": {"": [[], {}]}}',
    ],
)
async def test_odd_but_valid_data_is_accepted_and_readable_in_the_log(lab: Lab, data: bytes) -> None:
    reply = await lab.post({"to": [HOOK], "content": {"data": msgspec.Raw(data)}})

    assert reply.status == 202
    content = lab.log.deliveries[0].content
    assert content is not None
    assert content.data == msgspec.json.decode(data)


async def test_a_body_at_the_limit_is_taken_and_one_byte_more_is_not(lab: Lab) -> None:
    body = msgspec.json.encode({**GOOD, "to": [HOOK]})
    at_limit = body + b" " * (MAX_BODY_BYTES - len(body))

    assert (await lab.post(at_limit)).status == 202
    assert "template" in check_problem(await lab.post(at_limit + b" "), "body_too_large")["detail"]


@pytest.mark.parametrize("length", [str(MAX_BODY_BYTES + 1), "9" * 5000])
async def test_a_body_that_is_announced_too_large_is_refused_unread(lab: Lab, length: str) -> None:
    check_problem(await lab.post(b"{}", headers=[("Content-Length", length)]), "body_too_large")


async def test_a_body_without_a_length_is_cut_off_at_the_limit(lab: Lab) -> None:
    chunks = [b" " * 65536] * 100

    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json")]
    sent = await lab.exchange("POST", "/v1/notifications", headers=headers, messages=messages)

    assert sent[0]["status"] == 413
    assert len(messages) >= 95


async def test_a_body_in_chunks_is_put_together(lab: Lab) -> None:
    body = msgspec.json.encode(GOOD)

    assert (await lab.post([body[:7], b"", body[7:50], body[50:]])).status == 202


async def test_a_body_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.api.routes.BODY_TIMEOUT_SECONDS", 0.01)
    lab = Lab()
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json")]

    sent = await lab.exchange("POST", "/v1/notifications", headers=headers, messages=[])

    assert sent[0]["status"] == 408


async def test_a_caller_who_hangs_up_gets_no_answer_and_nothing_is_appended(lab: Lab) -> None:
    headers = [(b"authorization", b"Bearer " + KEY.encode()), (b"content-type", b"application/json")]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": msgspec.json.encode(GOOD), "more_body": True},
        {"type": "http.disconnect"},
    ]

    sent = await lab.exchange("POST", "/v1/notifications", headers=headers, messages=messages)

    assert sent == []
    assert lab.log.appends == []


async def test_many_copies_of_a_long_text_are_refused_with_the_advice_to_use_a_template(lab: Lab) -> None:
    to = [{"channel": "webhook", "address": f"https://example.com/{index}"} for index in range(500)]

    reply = await lab.post({"to": to, "content": {"body": "x" * (MAX_EXPANDED_BYTES // 500)}})

    assert "template" in check_problem(reply, "expansion_too_large")["detail"]
    assert lab.log.appends == []


async def test_a_record_that_kafka_would_refuse_is_refused_here(lab: Lab) -> None:
    # Within the body's limit, but each number is written back in 18 characters.
    numbers = msgspec.Raw(b"[" + b",".join([b"1e15"] * 50_000) + b"]")

    check_problem(await lab.post({"to": [HOOK], "content": {"data": {"x": numbers}}}), "expansion_too_large")


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/jsonp", "application/x-www-form-urlencoded"]
)
async def test_a_body_that_is_not_said_to_be_json_is_refused(lab: Lab, content_type: str | None) -> None:
    check_problem(await lab.post(GOOD, content_type=content_type), "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x"])
async def test_parameters_and_case_of_the_content_type_do_not_matter(lab: Lab, content_type: str) -> None:
    assert (await lab.post(GOOD, content_type=content_type)).status == 202


async def test_a_compressed_body_is_refused(lab: Lab) -> None:
    check_problem(await lab.post(GOOD, headers=[("Content-Encoding", "gzip")]), "unsupported_media_type")
    assert (await lab.post(GOOD, headers=[("Content-Encoding", "identity")])).status == 202


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic c2VuZC1rZXk=", KEY])
async def test_a_request_without_a_key_is_told_how_to_send_one(lab: Lab, authorization: str | None) -> None:
    headers = [] if authorization is None else [("Authorization", authorization)]

    reply = await lab.post(b"not even json", key=None, headers=headers, content_type=None)

    check_problem(reply, "missing_key")
    assert reply.headers["www-authenticate"] == 'Bearer realm="pabal"'
    assert "idempotency-key" not in reply.headers


@pytest.mark.parametrize("key", ["nope", "", "ä", KEY + "x"])
async def test_an_unknown_key_is_refused(lab: Lab, key: str) -> None:
    reply = await lab.post(GOOD, key=None, headers=[("Authorization", f"Bearer {key}")])

    check_problem(reply, "invalid_key")
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]


async def test_a_key_without_the_scope_is_refused(lab: Lab) -> None:
    reply = await lab.post(GOOD, key=READ_KEY)

    check_problem(reply, "insufficient_scope")
    assert reply.headers["www-authenticate"].endswith('error="insufficient_scope", scope="send"')


async def test_the_scheme_is_read_in_any_case(lab: Lab) -> None:
    reply = await lab.post(GOOD, key=None, headers=[("Authorization", f"bearer  {KEY} ")])

    assert reply.status == 202


def test_two_entries_of_one_key_are_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"\$\.api\.keys: the hash .* occurs twice"):
        Lab(settings=msgspec.structs.replace(SETTINGS, keys=(api_key("a"), api_key("a", tenant="bank"))))


@pytest.mark.parametrize("failure", [LogUnavailable("no leader"), Closed("closed"), "hangs"])
async def test_when_the_log_does_not_answer_the_outcome_is_said_to_be_unknown(
    failure: Exception | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pabal.api.acceptance.APPEND_GRACE_SECONDS", 0.0)
    lab = Lab()
    lab.log.fails = failure if isinstance(failure, Exception) else None
    lab.log.hangs = failure == "hangs"

    reply = await lab.post(GOOD, idempotency_key="order-17")

    problem = check_problem(reply, "log_unavailable")
    assert reply.headers["retry-after"] == "2"
    assert reply.headers["idempotency-key"] == problem["idempotency_key"] == "order-17"


async def test_missing_topics_are_said_with_the_command_that_creates_them(lab: Lab) -> None:
    lab.log.fails = UnknownTopic("pabal.deliveries.email.standard")

    reply = await lab.post(GOOD)

    assert "pabal topics create" in check_problem(reply, "topics_missing")["detail"]
    assert reply.headers["retry-after"] == "2"


async def test_a_defect_is_logged_and_still_tells_the_key(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.log.fails = ZeroDivisionError("secret")

    with caplog.at_level(logging.ERROR):
        reply = await lab.post(GOOD)

    assert check_problem(reply, "internal_error")["idempotency_key"] == "made-1"
    assert "secret" not in reply.content.decode()
    assert "ZeroDivisionError" in caplog.text

"""Planning: what a request comes to, every rule it can break, and that the same request names the same deliveries."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.channels.registry import installed_channels
from pabal.notification import CLASSES, Address, Content, Delivery, TemplateRef, delivery_id, notification_id
from pabal.plan import (
    MAX_DELIVERIES,
    MAX_NESTING,
    MAX_SEND_AHEAD,
    MAX_TIME_TO_LIVE,
    Flaw,
    NotificationRequest,
    Offer,
    PlannedNotification,
    plan_deliveries,
    request_type,
)
from pabal.policy import DEFAULT_CLASSES
from pabal.template import parse_template

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ANA = {"channel": "email", "address": "ana@example.com"}
HOOK = {"channel": "webhook", "address": "https://example.com/hook"}
TEXT = {"title": "Order 17 shipped", "body": "On its way."}
SHIPPED = parse_template("order-shipped", 'title = "Order {{ order }}"\nbody = "{{ text }}"', path="t.toml")
HTML_ONLY = parse_template("html-only", '[email]\nsubject = "s"\nhtml = "h"', path="t.toml")
OFFER = Offer(
    channels=installed_channels(),
    templates={"order-shipped": SHIPPED, "html-only": HTML_ONLY},
    times_to_live={name: DEFAULT_CLASSES[name].time_to_live for name in CLASSES},
)


def ask(*, key: str = "key-1", tenant: str = "shop", **fields: Any) -> PlannedNotification | tuple[Flaw, ...]:
    body: Mapping[str, Any] = {"to": [ANA], **({} if "template" in fields else {"content": TEXT}), **fields}
    request = msgspec.json.decode(msgspec.json.encode(body), type=request_type(NotificationRequest))
    return plan_deliveries(request, tenant=tenant, idempotency_key=key, now=NOW, offer=OFFER)


def deliveries(**fields: Any) -> tuple[Delivery, ...]:
    plan = ask(**fields)
    assert isinstance(plan, PlannedNotification), plan
    return plan.deliveries


def flaws(**fields: Any) -> list[tuple[str, str]]:
    plan = ask(**fields)
    assert not isinstance(plan, PlannedNotification)
    return [(flaw.path, flaw.code) for flaw in plan]


def test_each_recipient_gets_one_delivery_with_derived_ids_and_the_first_attempt() -> None:
    email, hook = deliveries(to=[ANA, HOOK], tags=["order-17"])

    id_ = notification_id(tenant="shop", idempotency_key="key-1")
    assert email == Delivery(
        id=delivery_id(id_, Address(channel="email", address="ana@example.com")),
        notification_id=id_,
        tenant="shop",
        channel="email",
        address="ana@example.com",
        class_="standard",
        accepted_at=NOW,
        expires_at=NOW + timedelta(hours=24),
        content=Content(title="Order 17 shipped", body="On its way."),
        order_key="ana@example.com",
        tags=("order-17",),
    )
    assert (hook.channel, hook.order_key, hook.attempt, hook.rung) == ("webhook", None, 1, 0)


def test_equal_recipients_collapse_by_their_canonical_address() -> None:
    spelt = ["ana@EXAMPLE.com", "ana@example.com", "Ana@example.com"]

    planned = deliveries(to=[{"channel": "email", "address": address} for address in spelt])

    assert [delivery.address for delivery in planned] == ["ana@example.com", "Ana@example.com"]


def test_one_address_on_two_channels_is_two_deliveries() -> None:
    first, second = deliveries(to=[ANA, HOOK])

    assert first.id != second.id


def test_an_order_key_given_replaces_the_channels_own() -> None:
    assert {delivery.order_key for delivery in deliveries(to=[ANA, HOOK], order_key="order-17")} == {"order-17"}


def test_all_flaws_are_reported_at_once_with_their_paths() -> None:
    found = flaws(
        to=[ANA, {"channel": "pigeon", "address": "x"}, {"channel": "email", "address": "x"}, {**HOOK, "address": "x"}],
        content=None,
        send_at=NOW + MAX_SEND_AHEAD + timedelta(seconds=1),
        expires_at=NOW,
    )

    assert found == [
        ("$.to[1].channel", "unknown_channel"),
        ("$.to[2].address", "invalid_address"),
        ("$.to[3].address", "invalid_address"),
        ("$", "content_or_template"),
        ("$.send_at", "invalid_send_at"),
    ]


def test_an_unknown_channel_is_told_the_known_ones() -> None:
    plan = ask(to=[{"channel": "p" * 1000, "address": "x"}])

    assert not isinstance(plan, PlannedNotification)
    assert plan[0].message == f"there is no channel '{'p' * 64}…' here; there are: email, webhook"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": None}, [("$", "content_or_template")]),
        ({"content": TEXT, "template": "order-shipped"}, [("$", "content_or_template")]),
        ({"data": {}}, [("$.data", "data_without_template")]),
        ({"content": {}}, [("$.content", "unusable_content")]),
        ({"content": {"data": {"x": 1}}, "to": [HOOK]}, None),
        ({"content": {"title": "t"}, "to": [HOOK, ANA]}, [("$.content", "unusable_content")]),
        ({"content": {}, "to": [HOOK, ANA]}, [("$.content", "unusable_content")] * 2),
        ({"content": {"webhook": {"payload": None}}, "to": [HOOK]}, None),
        ({"content": {"email": {"subject": "s", "html": "h"}}}, None),
        ({"template": "nope"}, [("$.template", "unknown_template")]),
        ({"template": "order-shipped"}, [("$.data", "template_failed")]),
        ({"template": "order-shipped", "data": {"order": 1}}, [("$.data", "template_failed")]),
        ({"template": "order-shipped", "data": {"order": 1, "text": "x"}}, None),
        ({"template": "html-only", "to": [HOOK]}, [("$.template", "unusable_content")]),
        ({"template": "html-only"}, None),
    ],
)
def test_what_is_said_must_suit_every_channel_asked(
    fields: dict[str, Any], expected: list[tuple[str, str]] | None
) -> None:
    if expected is None:
        assert deliveries(**fields)
    else:
        assert flaws(**fields) == expected


def test_a_template_is_pinned_by_name_and_hash_and_travels_unrendered() -> None:
    data = {"order": 17, "text": "On its way."}

    (delivery,) = deliveries(template="order-shipped", data=data)

    assert delivery.template == TemplateRef(name="order-shipped", hash=SHIPPED.hash, data=data)
    assert delivery.content is None


@pytest.mark.parametrize(
    ("class_", "hours"),
    [("critical", 1), ("standard", 24), ("bulk", 72)],
)
def test_without_an_expiry_the_class_says_how_long_a_delivery_is_useful(class_: str, hours: int) -> None:
    (at_once,) = deliveries(**{"class": class_})
    (later,) = deliveries(**{"class": class_, "send_at": NOW + timedelta(days=2)})

    assert at_once.expires_at == NOW + timedelta(hours=hours)
    assert later.expires_at == NOW + timedelta(days=2, hours=hours)


@pytest.mark.parametrize(
    ("send_in", "expires_in", "expected"),
    [
        (None, timedelta(seconds=1), timedelta(seconds=1)),
        (None, MAX_TIME_TO_LIVE + timedelta(seconds=1), MAX_TIME_TO_LIVE),
        (None, timedelta(days=9000), MAX_TIME_TO_LIVE),
        (timedelta(days=30), timedelta(days=31), timedelta(days=31)),
        (timedelta(days=30), timedelta(days=60), timedelta(days=30) + MAX_TIME_TO_LIVE),
        (timedelta(days=-1), timedelta(days=60), MAX_TIME_TO_LIVE),
        (None, timedelta(0), "has passed"),
        (None, timedelta(days=-9000), "has passed"),
        (timedelta(hours=1), timedelta(hours=1), "is not after `send_at`"),
        (timedelta(hours=1), timedelta(hours=-1), "has passed"),
    ],
)
def test_an_expiry_lies_after_the_start_and_is_capped(
    send_in: timedelta | None, expires_in: timedelta, expected: timedelta | str
) -> None:
    plan = ask(send_at=None if send_in is None else NOW + send_in, expires_at=NOW + expires_in)

    if isinstance(expected, str):
        assert plan == (Flaw(path="$.expires_at", code="invalid_expires_at", message=expected),)
    else:
        assert isinstance(plan, PlannedNotification)
        assert plan.deliveries[0].expires_at == NOW + expected


def test_a_send_time_gone_by_means_now() -> None:
    (delivery,) = deliveries(send_at=NOW - timedelta(days=400))

    assert delivery.send_at is None


def test_times_of_any_zone_are_kept_in_utc() -> None:
    tokyo = timezone(timedelta(hours=9))

    (delivery,) = deliveries(send_at=(NOW + timedelta(hours=1)).astimezone(tokyo))

    assert delivery.send_at == NOW + timedelta(hours=1)
    assert delivery.send_at.tzinfo is UTC


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
@pytest.mark.parametrize("field", ["send_at", "expires_at"])
def test_the_ends_of_the_calendar_are_times_like_any_other(field: str, time: str) -> None:
    plan = ask(**{field: time})

    assert isinstance(plan, PlannedNotification) == ((field, time[:4]) in {("send_at", "0001"), ("expires_at", "9999")})


def test_more_recipients_than_the_cap_are_refused_without_a_look_at_them() -> None:
    plan = ask(to=[{"channel": "nope", "address": str(index)} for index in range(MAX_DELIVERIES + 1)])

    assert not isinstance(plan, PlannedNotification)
    assert [(flaw.path, flaw.code) for flaw in plan] == [("$.to", "too_many_deliveries")]
    assert "template" in plan[0].message


def test_as_many_recipients_as_the_cap_are_taken() -> None:
    to = [{"channel": "webhook", "address": f"https://example.com/{index}"} for index in range(MAX_DELIVERIES)]

    assert len(deliveries(to=to)) == MAX_DELIVERIES


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("$.content.data", {"content": {**TEXT, "data": {"x": "DEEP"}}}),
        ("$.content.webhook.payload", {"content": {**TEXT, "webhook": {"payload": ["DEEP"]}}}),
        ("$.data", {"template": "order-shipped", "data": {"x": "DEEP"}}),
    ],
)
def test_data_that_others_could_not_read_again_is_refused(path: str, fields: dict[str, Any]) -> None:
    def codes_at_depth(depth: int) -> list[tuple[str, str]]:
        text = msgspec.json.encode(fields).decode().replace('"DEEP"', "[" * depth + "]" * depth)
        plan = ask(**msgspec.json.decode(text))
        return [] if isinstance(plan, PlannedNotification) else [(flaw.path, flaw.code) for flaw in plan]

    assert (path, "nested_too_deeply") in codes_at_depth(MAX_NESTING)
    assert (path, "nested_too_deeply") not in codes_at_depth(MAX_NESTING - 1)


recipients = st.lists(
    st.builds(
        lambda name, host, upper: {"channel": "email", "address": f"{name}@{host.upper() if upper else host}"},
        st.sampled_from(["ana", "bo", "chi"]),
        st.sampled_from(["example.com", "example.org"]),
        st.booleans(),
    )
    | st.builds(lambda n: {"channel": "webhook", "address": f"HTTPS://Example.com/{n}"}, st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


@given(to=recipients, key=st.text("abc", min_size=1, max_size=3), tenant=st.sampled_from(["shop", "bank"]))
def test_the_same_key_of_a_tenant_always_names_the_same_deliveries(
    to: list[dict[str, str]], key: str, tenant: str
) -> None:
    first, again = deliveries(to=to, key=key, tenant=tenant), deliveries(to=to[::-1], key=key, tenant=tenant)

    assert {delivery.id for delivery in first} == {delivery.id for delivery in again}
    assert {delivery.notification_id for delivery in first} == {notification_id(tenant=tenant, idempotency_key=key)}


@given(to=recipients)
def test_no_delivery_is_planned_twice_and_no_recipient_is_left_out(to: list[dict[str, str]]) -> None:
    planned = deliveries(to=to)

    addresses = [(delivery.channel, delivery.address) for delivery in planned]
    assert len(set(addresses)) == len(addresses) == len({delivery.id for delivery in planned})
    channels = installed_channels()
    assert set(addresses) == {(one["channel"], channels[one["channel"]].canonical(one["address"])) for one in to}


@given(first=st.tuples(st.text(), st.text()), second=st.tuples(st.text(), st.text()))
def test_different_tenants_or_keys_never_share_an_id(first: tuple[str, str], second: tuple[str, str]) -> None:
    ids = [notification_id(tenant=tenant, idempotency_key=key) for tenant, key in (first, second)]

    assert (ids[0] == ids[1]) == (first == second)


@given(send_in=st.none() | st.timedeltas(), expires_in=st.none() | st.timedeltas())
def test_whatever_the_times_a_delivery_has_time_to_be_sent_and_outlives_no_retention(
    send_in: timedelta | None, expires_in: timedelta | None
) -> None:
    def instant(ahead: timedelta | None) -> datetime | None:
        try:
            return None if ahead is None else NOW + ahead
        except OverflowError:
            return None

    plan = ask(send_at=instant(send_in), expires_at=instant(expires_in))

    if isinstance(plan, PlannedNotification):
        (delivery,) = plan.deliveries
        starts_at = delivery.send_at or NOW
        assert NOW <= starts_at <= NOW + MAX_SEND_AHEAD
        assert starts_at < delivery.expires_at <= starts_at + MAX_TIME_TO_LIVE

"""Whatever comes in: good data arrives as it was, and broken bodies are refused in words, never with a 500."""

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.lab import Lab, Reply

texts = st.text(max_size=30)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
hook = {"channel": "webhook", "address": "https://example.com/hook"}
contents = st.fixed_dictionaries(
    {"title": st.text(min_size=1, max_size=30)},
    optional={
        "body": texts,
        "data": st.dictionaries(texts, json_values, max_size=4),
        "email": st.fixed_dictionaries({}, optional={"subject": texts, "text": texts, "html": texts}),
        "webhook": st.fixed_dictionaries({"payload": json_values}),
    },
)
GOOD = msgspec.json.encode(
    {"to": [hook], "class": "bulk", "content": {"title": "Hello", "data": {"x": [1, 2.5, "é", None]}}, "tags": ["a"]}
)


def answered(reply: Reply) -> bool:
    """A 202, or a problem of the caller's."""
    return reply.status == 202 or (400 <= reply.status < 500 and reply.json["status"] == reply.status)


@given(content=contents, order_key=st.none() | st.text(min_size=1, max_size=255), tags=st.lists(texts.filter(bool)))
def test_what_is_said_reaches_the_log_as_it_was_said(
    content: dict[str, Any], order_key: str | None, tags: list[str]
) -> None:
    lab = Lab()

    reply = asyncio.run(
        lab.post({"to": [hook], "content": content, "order_key": order_key, "tags": tags[:20]}, idempotency_key="k")
    )

    assert reply.status == 202, reply.json
    (delivery,) = lab.log.deliveries
    said = msgspec.json.decode(msgspec.json.encode(delivery.content))
    for part, value in content.items():
        # A part that says nothing may be left out of the record.
        assert said.get(part, {}) == value or (part == "webhook" and value["payload"] is None)
    assert (delivery.order_key, list(delivery.tags)) == (order_key, tags[:20])


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(GOOD)), st.integers(0, 8), st.binary(max_size=8)), min_size=1, max_size=4
    ),
    path=st.sampled_from(["/v1/notifications", "/v1/notifications/batch"]),
)
def test_a_damaged_body_is_accepted_or_refused_in_words(edits: list[tuple[int, int, bytes]], path: str) -> None:
    body = bytearray(GOOD if path == "/v1/notifications" else b'{"notifications": [' + GOOD + b"]}")
    for start, length, replacement in edits:
        body[start : start + length] = replacement

    reply = asyncio.run(Lab().post(bytes(body), path=path))

    assert answered(reply) or (reply.status == 207 and path.endswith("batch"))


@given(
    headers=st.lists(
        st.tuples(
            st.sampled_from(["authorization", "content-type", "idempotency-key", "content-length", "host", "x"]),
            st.text(st.characters(max_codepoint=255), max_size=20),
        ),
        max_size=4,
    ),
    method=st.sampled_from(["GET", "POST", "PUT", "BREW"]),
    path=st.sampled_from(["/v1/notifications", "/v1/notifications/batch", "/docs", "/healthz", "/nope"]),
)
def test_hostile_heads_are_answered(headers: list[tuple[str, str]], method: str, path: str) -> None:
    fields = [(b"authorization", b"Bearer send-key"), (b"content-type", b"application/json")]
    fields += [(name.encode(), value.encode("latin-1")) for name, value in headers]

    reply = asyncio.run(Lab().call(method, path, headers=fields, chunks=[GOOD]))

    assert reply.status == 200 or answered(reply)


@pytest.mark.parametrize("depth", [90, 150, 400, 800, 960, 1000, 3000])
def test_data_of_any_depth_is_accepted_or_refused_in_words(depth: int) -> None:
    deep = msgspec.Raw(b'{"x": ' + b"[" * depth + b"]" * depth + b"}")

    reply = asyncio.run(Lab().post({"to": [hook], "content": {"data": deep}}))

    assert reply.status == (202 if depth < 100 else 422)

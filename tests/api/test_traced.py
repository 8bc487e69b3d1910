"""Which trace the deliveries of a request belong to."""

from collections.abc import Sequence

import pytest

from pabal.notification import Delivery
from tests.api.lab import Lab

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ASKED = {
    "to": [
        {"channel": "webhook", "address": "https://example.com/1"},
        {"channel": "email", "address": "a@example.com"},
    ],
    "content": {"title": "Hello", "body": "World"},
}


def traces(deliveries: Sequence[Delivery]) -> list[str | None]:
    return [delivery.traceparent for delivery in deliveries]


@pytest.mark.parametrize(("path", "body"), [("", ASKED), ("/batch", {"notifications": [ASKED]})])
async def test_every_delivery_carries_the_callers_trace(path: str, body: object) -> None:
    lab = Lab()

    reply = await lab.post(body, path=f"/v1/notifications{path}", headers=[("traceparent", TRACE)])

    assert reply.status == 202
    assert traces(lab.log.deliveries) == [TRACE, TRACE]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("traceparent", "")],
        [("traceparent", TRACE.upper())],
        [("traceparent", "00-é")],
        [("traceparent", TRACE), ("traceparent", TRACE)],
    ],
)
async def test_a_trace_that_is_missing_malformed_or_given_twice_is_none(headers: list[tuple[str, str]]) -> None:
    lab = Lab()

    reply = await lab.post(ASKED, headers=headers)

    assert reply.status == 202
    assert traces(lab.log.deliveries) == [None, None]

"""What an exchange comes to by a provider's table."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown
from pabal.providers.http import (
    AnswerNote,
    Exchange,
    Forbidden,
    HttpAnswer,
    Meaning,
    NotAUrl,
    Unanswered,
    Unsent,
    outcome_of,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MEANINGS: Final[Mapping[int | str, Meaning]] = {
    401: "misconfigured",
    404: "rejected",
    "no_such_number": "rejected",
    "quota": "deferred",
    "busy_line": "address_deferred",
    "sent_perhaps": "unknown",
}


def answer(status: int, body: bytes = b"", **headers: str) -> HttpAnswer:
    return HttpAnswer(
        status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body
    )


def note(exchange: HttpAnswer) -> AnswerNote:
    said = exchange.read(dict[str, Any]) or {}
    return AnswerNote(
        word=said.get("error"), provider_id=said.get("id"), retry_after_seconds=said.get("retry_after_seconds")
    )


def outcome(exchange: Exchange, **more: Any) -> Outcome:
    return outcome_of(exchange, by="the gateway", now=NOW, meanings=MEANINGS, note=note, **more)


@pytest.mark.parametrize(
    ("exchange", "expected"),
    [
        (answer(200), Accepted()),
        (answer(202, b'{"id":"m-1"}'), Accepted(provider_id="m-1", response='{"id":"m-1"}')),
        (answer(401), Misconfigured(reason="the gateway answered 401")),
        (answer(404, b"no such page"), Rejected(reason="the gateway answered 404", response="no such page")),
        (answer(500), Deferred(reason="the gateway answered 500")),
        (answer(302), Deferred(reason="the gateway answered 302; redirects are not followed")),
        (answer(503, retry_after="7"), Deferred(reason="the gateway answered 503", retry_after_seconds=7)),
        (Unsent(reason="no connection in time"), Deferred(reason="no connection in time")),
        (Unanswered(reason="no answer in time"), Unknown(reason="no answer in time")),
        (
            Forbidden(kind="loopback address (127.0.0.0/8)"),
            Misconfigured(reason="the gateway is at an address that may not be called: loopback address (127.0.0.0/8)"),
        ),
        (NotAUrl(), Misconfigured(reason="the URL of the gateway is not an http or https URL")),
    ],
)
def test_what_the_table_says_of_a_status_holds_and_the_rest_has_one_meaning(
    exchange: Exchange, expected: Outcome
) -> None:
    assert outcome(exchange) == expected


@pytest.mark.parametrize(
    ("status", "word", "expected"),
    [
        (400, "no_such_number", Rejected),
        # A word that the table does not name leaves the status to say it.
        (401, "who_are_you", Misconfigured),
        # Some APIs answer 200 to everything.
        (200, "no_such_number", Rejected),
        (404, "quota", Deferred),
        (502, "sent_perhaps", Unknown),
    ],
)
def test_the_apis_own_word_goes_over_the_status_and_stands_in_the_reason(
    status: int, word: str, expected: type[Outcome]
) -> None:
    came_to = outcome(answer(status, b'{"error":"%s"}' % word.encode()))

    assert isinstance(came_to, expected)
    assert not isinstance(came_to, Accepted)
    assert came_to.reason == f"the gateway answered {status}: {word}"


def test_a_refusal_of_one_address_is_no_trouble_of_the_far_side() -> None:
    by_word, by_rule = (
        outcome(answer(400, b'{"error":"busy_line"}')),
        outcome(answer(500), otherwise="address_deferred"),
    )

    assert isinstance(by_word, Deferred)
    assert by_word.address_only
    assert by_rule == Deferred(reason="the gateway answered 500", address_only=True)


@pytest.mark.parametrize(("said", "believed"), [("30.5", 30.5), ("-1", 0), ("1e9", 86_400)])
def test_a_wait_that_the_body_names_is_believed_within_reason(said: str, believed: float) -> None:
    came_to = outcome(answer(429, b'{"retry_after_seconds":%s}' % said.encode(), retry_after="7"))

    assert isinstance(came_to, Deferred)
    assert came_to.retry_after_seconds == believed


def test_the_word_of_a_far_side_is_cut_and_readable() -> None:
    came_to = outcome(answer(400, b'{"error":"' + b"\\u0000" + b"x" * 5000 + b'"}'))

    assert isinstance(came_to, Deferred)
    assert came_to.reason == "the gateway answered 400: \ufffd" + "x" * 2045

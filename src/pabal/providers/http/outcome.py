"""What an exchange says about the delivery, by a table that the provider makes from its API's documentation. Pure."""

import email.utils
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, assert_never

import msgspec

from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown
from pabal.providers.http.exchange import SNIPPET_BYTES, Exchange, Forbidden, HttpAnswer, NotAUrl, Unanswered, Unsent

Meaning = Literal["accepted", "deferred", "address_deferred", "rejected", "misconfigured", "unknown"]
"""What an answer means, in the words of `pabal.outcome`. `address_deferred`: this address alone is refused for now."""

MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
"""A longer wait is not believed: beyond it a typing error is likelier than a plan."""

_RETRY_AFTER_STATUSES: Final = frozenset({429, 503})


class AnswerNote(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a provider reads in an answer beyond its status.

    `word` is the API's own code for what happened: it stands in the reason, and the table may name it. `provider_id` is
    the API's name for what it took. `retry_after_seconds` is for an API that says so in the body and not in
    `Retry-After`.
    """

    word: str | None = None
    provider_id: str | None = None
    retry_after_seconds: float | None = None


_NOTHING: Final = AnswerNote()


def outcome_of(
    exchange: Exchange,
    *,
    by: str,
    now: datetime,
    meanings: Mapping[int | str, Meaning],
    otherwise: Meaning = "deferred",
    note: Callable[[HttpAnswer], AnswerNote] | None = None,
) -> Outcome:
    """What became of the delivery.

    `by` names the far side in reasons ("the gateway"). `meanings` is the table: the meaning of an answer by the API's
    word for it, else by its status. An answer that the table does not name is accepted at 2xx, and means `otherwise`
    at any other status. `note` reads what the table and the outcome need of the answer.

    Without an answer the table is not asked: a request that was not sent is `Deferred`, and a request that was sent is
    `Unknown`. A URL that leads nowhere, or to a network that the guard refuses, is the configuration's fault here; a
    provider whose URLs come from callers looks at `Forbidden` and `NotAUrl` first.
    """
    match exchange:
        case HttpAnswer():
            said = _NOTHING if note is None else note(exchange)
            meaning = _meaning_of(exchange.status, said.word, meanings=meanings, otherwise=otherwise)
            return _outcome_of_answer(exchange, meaning, said, by=by, now=now)
        case Unsent(reason=reason):
            return Deferred(reason=reason)
        case Unanswered(reason=reason):
            return Unknown(reason=reason)
        case Forbidden(kind=kind):
            return Misconfigured(reason=f"{by} is at an address that may not be called: {kind}")
        case NotAUrl():
            return Misconfigured(reason=f"the URL of {by} is not an http or https URL")
        case _:
            assert_never(exchange)


def _meaning_of(status: int, word: str | None, *, meanings: Mapping[int | str, Meaning], otherwise: Meaning) -> Meaning:
    by_word = None if word is None else meanings.get(word)
    return by_word or meanings.get(status) or ("accepted" if 200 <= status < 300 else otherwise)


def _outcome_of_answer(answer: HttpAnswer, meaning: Meaning, said: AnswerNote, *, by: str, now: datetime) -> Outcome:
    response = readable(answer.body)
    if meaning == "accepted":
        return Accepted(provider_id=said.provider_id, response=response)
    reason = _reason(answer.status, said.word, by=by)
    match meaning:
        case "rejected":
            return Rejected(reason=reason, response=response)
        case "misconfigured":
            return Misconfigured(reason=reason, response=response)
        case "unknown":
            return Unknown(reason=reason)
        case "deferred" | "address_deferred":
            named = said.retry_after_seconds
            return Deferred(
                reason=reason,
                retry_after_seconds=retry_after_seconds(answer, now=now) if named is None else _believed(named),
                response=response,
                address_only=meaning == "address_deferred",
            )
        case _:
            assert_never(meaning)


def _reason(status: int, word: str | None, *, by: str) -> str:
    reason = f"{by} answered {status}"
    if word is not None:
        return f"{reason}: {readable(word.encode(errors='replace'))}"
    if status == 410:
        return f"{reason} (gone)"
    return f"{reason}; redirects are not followed" if 300 <= status < 400 else reason


def readable(body: bytes) -> str | None:
    """The body as text that any store can keep: at most 2 KiB in UTF-8, without NUL (PostgreSQL refuses it)."""
    text = body[:SNIPPET_BYTES].decode(errors="replace").replace("\0", "\ufffd")
    return text.encode()[:SNIPPET_BYTES].decode(errors="ignore") or None


def retry_after_seconds(answer: HttpAnswer, *, now: datetime) -> float | None:
    """`Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP-date; an unreadable one is as good as none."""
    value = answer.headers.get("retry-after", "")
    if answer.status not in _RETRY_AFTER_STATUSES or not value:
        return None
    if value.isascii() and value.isdigit():
        return _believed(float(value[:10]))
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:  # "-0000": RFC 5322's way to say UTC without a place
        date = date.replace(tzinfo=UTC)
    return _believed((date - now).total_seconds())


def _believed(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)

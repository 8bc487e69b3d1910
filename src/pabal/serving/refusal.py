"""What is answered to a request that breaks a rule of HTTP or a bound, before any endpoint sees it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Literal

import msgspec

RefusalCode = Literal[
    "body_timeout",
    "head_timeout",
    "head_too_large",
    "malformed_request",
    "repeated_field",
    "too_many_connections",
    "trailers_refused",
]

RETRY_AFTER_SECONDS: Final = 2


class Meaning(msgspec.Struct, frozen=True):
    """What all refusals of one code have in common."""

    status: HTTPStatus
    title: str
    advice: str


MEANINGS: Final[Mapping[RefusalCode, Meaning]] = {
    "body_timeout": Meaning(
        HTTPStatus.REQUEST_TIMEOUT,
        "The body did not arrive in time",
        "A body must be complete 20 s after its head. Try again.",
    ),
    "head_timeout": Meaning(
        HTTPStatus.REQUEST_TIMEOUT,
        "The head did not arrive in time",
        "A head must be complete 10 s after its first byte. Try again.",
    ),
    "head_too_large": Meaning(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The request's head is too large",
        "A head has at most 64 KiB (request line and fields) and 100 fields.",
    ),
    "malformed_request": Meaning(
        HTTPStatus.BAD_REQUEST, "This is no HTTP/1.1 request", "Look at what your client or a proxy in between sends."
    ),
    "repeated_field": Meaning(
        HTTPStatus.BAD_REQUEST,
        "A header field occurs twice",
        "The message names it. Two readers could take two different ones for the true one, so none is taken.",
    ),
    "too_many_connections": Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "There are too many connections",
        "Nothing was read, so nothing was taken. Keep connections open and use them again; try again after "
        "`Retry-After`.",
    ),
    "trailers_refused": Meaning(
        HTTPStatus.BAD_REQUEST,
        "A chunked body must end without trailer fields",
        "Send what they say in the head. Nothing was taken.",
    ),
}


def render(code: RefusalCode, detail: str) -> bytes:
    """The whole answer (RFC 9112, RFC 9457), the last of its connection."""
    meaning = MEANINGS[code]
    document = {
        "type": f"/docs#{code}",
        "title": meaning.title,
        "status": meaning.status.value,
        "code": code,
        "detail": detail,
    }
    body = msgspec.json.encode(document)
    retry_after = f"retry-after: {RETRY_AFTER_SECONDS}\r\n" if meaning.status == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {meaning.status.value} {meaning.status.phrase}\r\n"
        f"content-type: application/problem+json\r\ncontent-length: {len(body)}\r\n"
        f"{retry_after}connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body

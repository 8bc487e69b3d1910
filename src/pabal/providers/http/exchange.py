"""What a request carries, and what came of it. Pure."""

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeVar
from urllib.parse import urlencode

import msgspec

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

SNIPPET_BYTES: Final = 2048
"""How much of an answer's body is kept for the timeline."""

T = TypeVar("T")


class HttpBody(msgspec.Struct, frozen=True, gc=False):
    """A request's body, and what it is."""

    content: bytes
    content_type: str


def json_body(value: Any) -> HttpBody:
    """A value as JSON."""
    return HttpBody(msgspec.json.encode(value), "application/json")


def form_body(fields: Mapping[str, str]) -> HttpBody:
    """Fields as an HTML form sends them (WHATWG URL, `application/x-www-form-urlencoded`)."""
    return HttpBody(urlencode(fields).encode(), "application/x-www-form-urlencoded")


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The far side answered.

    `headers`: the header fields that the client keeps, by their names in small letters; `retry-after` is among them.
    `body`: its beginning, as far as it came in time. How much of both is kept, the client is told.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, model: type[T]) -> T | None:
        """The body as a JSON value of this type; None: it is no such value, or not whole."""
        try:
            return msgspec.json.decode(self.body, type=model)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None


class Forbidden(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was sent: the guard refuses every address of the host. `kind`: what the first of them is."""

    kind: str


class NotAUrl(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was sent, and nothing can be: this is no absolute http or https URL."""


class Unsent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was sent: no address, no connection, no TLS, or no time left."""

    reason: str


class Unanswered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes of the request may have arrived, and no readable status came back."""

    reason: str


Exchange = HttpAnswer | Forbidden | NotAUrl | Unsent | Unanswered

"""The bodies that requests may have: how each is read, and what the OpenAPI document says of it."""

from collections.abc import Mapping
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from pabal.api.asgi import Head
from pabal.api.codes import JSON_CODES, Code
from pabal.api.decoding import decode
from pabal.api.problems import RequestRefused
from pabal.deadlines import Deadlines

BODY_TIMEOUT_SECONDS: Final = 20.0
"""A caller that trickles its body must not hold a connection for ever."""

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Body(Protocol[B_co]):
    """What an operation reads from a request's body."""

    @property
    def model(self) -> type[msgspec.Struct] | None:
        """What the OpenAPI document describes it by; None: an object of any kind."""
        ...

    @property
    def example(self) -> Mapping[str, Any]:
        """A body that fits."""
        ...

    @property
    def codes(self) -> tuple[Code, ...]:
        """What is answered to a body that does not fit."""
        ...

    async def read(self, receive: Receive, head: Head, *, deadlines: Deadlines) -> B_co:
        """The body, complete within its deadline. Raises RequestRefused with one of `codes`; ClientDisconnect."""
        ...


class JsonBody(Generic[B]):
    """One JSON object that fits a model."""

    codes: Final = JSON_CODES

    def __init__(
        self,
        decoded: type[B],
        *,
        limit: int,
        example: Mapping[str, Any],
        model: type[msgspec.Struct] | None = None,
    ) -> None:
        """`limit` is in bytes. The body is read as a `decoded`.

        `model` is what the OpenAPI document tells instead, where `decoded` leaves parts of the body undecoded.
        """
        self.model: type[msgspec.Struct] = model or cast("type[msgspec.Struct]", decoded)
        self.example = example
        self._decoder = msgspec.json.Decoder(decoded)
        self._limit = limit

    async def read(self, receive: Receive, head: Head, *, deadlines: Deadlines) -> B:
        """The typed value. Raises RequestRefused with one of `codes`; ClientDisconnect."""
        _check_json(head)
        return decode(self._decoder, await _read_body(receive, head, limit=self._limit, deadlines=deadlines))


class RawBody:
    """Bytes as they are: a signature covers them, so that nothing may decode them before it is checked."""

    model: Final = None
    codes: Final[tuple[Code, ...]] = ("body_timeout", "body_too_large")

    def __init__(self, *, limit: int, example: Mapping[str, Any]) -> None:
        """`limit` is in bytes."""
        self.example = example
        self._limit = limit

    async def read(self, receive: Receive, head: Head, *, deadlines: Deadlines) -> bytes:
        """The bytes. Raises RequestRefused with one of `codes`; ClientDisconnect."""
        return await _read_body(receive, head, limit=self._limit, deadlines=deadlines)


def _check_json(head: Head) -> None:
    """Refuse a body that is not said to be plain JSON. Raises RequestRefused: unsupported_media_type."""
    content_type = head.get(b"content-type", b"")
    # The parameters say nothing: JSON is UTF-8 (RFC 8259 §8.1) and has none (§11).
    if content_type != b"application/json" and content_type.partition(b";")[0].strip().lower() != b"application/json":
        given = content_type.decode("latin-1")[:80] or "nothing"
        raise RequestRefused("unsupported_media_type", f"the Content-Type must be application/json; it is {given}")
    if (encoding := head.get(b"content-encoding")) is not None and encoding.lower() != b"identity":
        raise RequestRefused("unsupported_media_type", "the body must not be compressed (Content-Encoding)")


async def _read_body(receive: Receive, head: Head, *, limit: int, deadlines: Deadlines) -> bytes:
    """The body, never holding more than `limit` bytes and one chunk of it.

    Raises:
        RequestRefused: body_too_large, as soon as it is known, whatever Content-Length says; body_timeout.
        ClientDisconnect: the caller has gone, and needs no answer.
    """
    announced = head.get(b"content-length", b"0")
    if len(announced) > 15 or (announced.isdigit() and int(announced) > limit):
        raise _too_large(limit)
    try:
        with deadlines.start():
            body, more = await _receive(receive)
            if more:
                body = await _receive_rest(receive, body, limit=limit)
    except TimeoutError:
        raise RequestRefused("body_timeout", f"the body was not complete after {BODY_TIMEOUT_SECONDS:g} s") from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _receive_rest(receive: Receive, first: bytes, *, limit: int) -> bytes:
    body, more = bytearray(first), True
    while more and len(body) <= limit:
        chunk, more = await _receive(receive)
        body += chunk
    return bytes(body)


async def _receive(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


def _too_large(limit: int) -> RequestRefused:
    return RequestRefused(
        "body_too_large", f"the body has more than {limit} bytes; put long texts into a template, send its data here"
    )

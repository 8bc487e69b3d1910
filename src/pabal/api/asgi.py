"""The few words of ASGI that the API's own endpoints speak: heads, bodies within limits, answers.

Starlette's Request and Response would do the same for about three times the CPU of an accept's own code.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pabal.api.problems import Refused

BODY_TIMEOUT_SECONDS: Final = 20.0
"""A caller that trickles its body must not hold a connection for ever."""

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
encode_json = msgspec.json.Encoder().encode

Head = Mapping[bytes, bytes]
"""Header fields by lower-case name; of a repeated field the last."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer. `body` is any value that msgspec encodes to JSON."""

    status: int
    body: object
    headers: Sequence[tuple[bytes, bytes]] = ()

    async def send(self, send: Send) -> None:
        """Send it, as a problem document from status 400 on."""
        body = encode_json(self.body)
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [
                    _PROBLEM if self.status >= 400 else _JSON,
                    (b"content-length", b"%d" % len(body)),
                    *self.headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})


def read_head(scope: Scope) -> Head:
    """The request's header fields."""
    return dict(scope["headers"])


def count_fields(scope: Scope, name: bytes) -> int:
    """How often a header field occurs."""
    return sum(field == name for field, _ in scope["headers"])


def check_json(head: Head) -> None:
    """Refuse a body that is not said to be plain JSON. Raises Refused: unsupported_media_type."""
    content_type = head.get(b"content-type", b"")
    # The parameters say nothing: JSON is UTF-8 (RFC 8259 §8.1) and has none (§11).
    if content_type != b"application/json" and content_type.partition(b";")[0].strip().lower() != b"application/json":
        given = content_type.decode("latin-1")[:80] or "nothing"
        raise Refused("unsupported_media_type", f"the Content-Type must be application/json; it is {given}")
    if (encoding := head.get(b"content-encoding")) is not None and encoding.lower() != b"identity":
        raise Refused("unsupported_media_type", "the body must not be compressed (Content-Encoding)")


async def read_body(receive: Receive, head: Head, *, limit: int) -> bytes:
    """The body, never holding more than `limit` bytes and one chunk of it.

    Raises:
        Refused: body_too_large, as soon as it is known, whatever Content-Length says; body_timeout.
        ClientDisconnect: the caller has gone; nobody waits for an answer.
    """
    announced = head.get(b"content-length", b"0")
    if len(announced) > 15 or (announced.isdigit() and int(announced) > limit):
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_SECONDS):
            body, more = await _receive(receive)
            if more:
                body = await _receive_rest(receive, body, limit=limit)
    except TimeoutError:
        raise Refused("body_timeout", f"the body was not complete after {BODY_TIMEOUT_SECONDS:g} s") from None
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


def _too_large(limit: int) -> Refused:
    return Refused(
        "body_too_large", f"the body has more than {limit} bytes; put long texts into a template, send its data here"
    )

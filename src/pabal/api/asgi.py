"""The few words of ASGI that the API speaks: heads and answers. Bodies: `bodies.py`.

Starlette's Request and Response would do the same for about three times the CPU of an accept's own code.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from starlette.types import Scope, Send

from pabal.api.problems import RequestRefused

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", b"application/problem+json")
encode_json = msgspec.json.Encoder().encode

Head = Mapping[bytes, bytes]
"""Header fields by lower-case name; of a repeated field the last."""


class ApiResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer. `body` is any value that msgspec encodes to JSON; with a `media_type` it is bytes, sent as they
    are."""

    status: int
    body: object
    headers: Sequence[tuple[bytes, bytes]] = ()
    media_type: bytes | None = None

    async def send(self, send: Send) -> None:
        """Send it; JSON as a problem document from status 400 on."""
        if self.media_type is None:
            body, kind = encode_json(self.body), _PROBLEM if self.status >= 400 else _JSON
        else:
            assert isinstance(self.body, bytes)
            body, kind = self.body, (b"content-type", self.media_type)
        await send(
            {
                "type": "http.response.start",
                "status": self.status,
                "headers": [kind, (b"content-length", b"%d" % len(body)), *self.headers],
            }
        )
        await send({"type": "http.response.body", "body": body})


def problem_response(refused: RequestRefused, *, idempotency_key: str | None = None) -> ApiResponse:
    """The answer to a refused request; with the idempotency key, once that is known, so that the caller can try
    again."""
    headers = refused.headers
    if idempotency_key is not None:
        headers = (*headers, (b"idempotency-key", idempotency_key.encode("ascii")))
    return ApiResponse(status=refused.status, body=refused.problem(idempotency_key=idempotency_key), headers=headers)


def read_head(scope: Scope) -> Head:
    """The request's header fields."""
    return dict(scope["headers"])


def count_fields(scope: Scope, name: bytes) -> int:
    """How often a header field occurs."""
    return [field for field, _ in scope["headers"]].count(name)

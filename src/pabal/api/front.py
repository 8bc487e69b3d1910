"""`GET /`: the way to the description, for people and for programs. Needs no key, tells nothing of the installation."""

import re
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pabal.api.asgi import encode_json, read_head
from pabal.api.page import HEADERS, render_front

_MOST_RANGES: Final = 32
"""Of an Accept header; what follows is not looked at. Browsers send six."""

_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")
"""RFC 9110 §12.4.2."""


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """Where to go from here, relative to the API's own address."""

    name: str = "Pabal"
    docs: str = "/docs"
    openapi: str = "/openapi.json"
    health: str = "/healthz"
    readiness: str = "/readyz"


class FrontEndpoint:
    """A plain ASGI application: a page where HTML is preferred, else JSON."""

    def __init__(self) -> None:
        vary = {"Vary": "Accept"}
        self._page = Response(render_front(), media_type="text/html", headers={**HEADERS, **vary})
        self._json = Response(encode_json(Front()), media_type="application/json", headers={**HEADERS, **vary})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        answer = self._page if prefers_html(read_head(scope).get(b"accept", b"")) else self._json
        await answer(scope, receive, send)


def prefers_html(accept: bytes) -> bool:
    """Whether an Accept header asks for HTML rather than for JSON (RFC 9110 §12.5.1). A tie is for JSON."""
    weights: dict[str, float] = {}
    for media_range in accept.decode("latin-1").lower().split(",")[:_MOST_RANGES]:
        name, *parameters = (part.strip() for part in media_range.split(";"))
        weights[name] = _weight(parameters)
    return _of(weights, "text/html") > _of(weights, "application/json")


def _weight(parameters: list[str]) -> float:
    given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    return float(given) if _WEIGHT.fullmatch(given) else 0.0


def _of(weights: dict[str, float], media_type: str) -> float:
    """By the most specific range that fits."""
    any_of_kind = f"{media_type.partition('/')[0]}/*"
    return next((weights[each] for each in (media_type, any_of_kind, "*/*") if each in weights), 0.0)

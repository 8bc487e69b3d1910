"""The API describes itself: `/openapi.json` for programs, `/docs` for people, and `/` leads to both. No key needed."""

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec

from pabal.api.asgi import ApiResponse, encode_json
from pabal.api.docs_page import HEADERS, render_front, render_page
from pabal.api.openapi import describe_api
from pabal.api.operation import Operation, Success
from pabal.api.request import ApiRequest

_JSON: Final = b"application/json"
_HTML: Final = b"text/html; charset=utf-8"

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


class Documents:
    """Documents that are the same for every caller, made once."""

    def __init__(self, described: Sequence[Operation[Any, Any]], *, channels: Collection[str]) -> None:
        """`described`: every other operation of the API."""
        description = describe_api((*described, *self.operations()), channels=channels)
        vary = (*HEADERS, (b"vary", b"Accept"))
        self._openapi = _fixed(encode_json(description), _JSON)
        self._docs = _fixed(render_page(description).encode(), _HTML)
        self._front_page = _fixed(render_front().encode(), _HTML, headers=vary)
        self._front_json = _fixed(encode_json(Front()), _JSON, headers=vary)

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        return (
            Operation(
                method="GET",
                path="/",
                scope=None,
                respond=self.front,
                answers={200: Success("Where to go from here.", Front, others={"text/html": {"type": "string"}})},
                name="getFront",
                summary="Where to go from here: a page where HTML is preferred (`Accept`), else JSON",
            ),
            Operation(
                method="GET",
                path="/openapi.json",
                scope=None,
                respond=self.openapi,
                answers={200: Success("The document.", others={"application/json": {"type": "object"}})},
                name="getDescription",
                summary="This document",
            ),
            Operation(
                method="GET",
                path="/docs",
                scope=None,
                respond=self.docs,
                answers={200: Success("The page.", others={"text/html": {"type": "string"}})},
                name="getDocs",
                summary="This document, for people",
            ),
        )

    async def front(self, request: ApiRequest[None, None]) -> ApiResponse:
        """A page where HTML is preferred, else JSON."""
        return self._front_page if _prefers_html(request.head.get(b"accept", b"")) else self._front_json

    async def openapi(self, request: ApiRequest[None, None]) -> ApiResponse:
        """The OpenAPI document."""
        del request
        return self._openapi

    async def docs(self, request: ApiRequest[None, None]) -> ApiResponse:
        """The OpenAPI document as a page."""
        del request
        return self._docs


def _fixed(content: bytes, media_type: bytes, *, headers: Sequence[tuple[bytes, bytes]] = HEADERS) -> ApiResponse:
    return ApiResponse(status=200, body=content, headers=headers, media_type=media_type)


def _prefers_html(accept: bytes) -> bool:
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

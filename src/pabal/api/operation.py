"""What the API takes: an operation is declared once, and everything else is made from it.

`Operation` gives the route (`routes.py`), the check of the key, the decoding and the problems (`endpoint.py`), and the
description (`openapi.py`). To add a request: write one coroutine from `ApiRequest` to `ApiResponse`, and one
`Operation` beside it, in the `operations` of its class; `app.py` collects these.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from pabal.api.asgi import ApiResponse
from pabal.api.bodies import Body
from pabal.api.codes import Code
from pabal.api.problems import Problem
from pabal.api.request import ApiRequest
from pabal.config import Scope

Json = dict[str, Any]
Q = TypeVar("Q")
B = TypeVar("B")

WORD: Final[Json] = {"type": "string", "minLength": 1}
NUMBER: Final[Json] = {"type": "integer", "minimum": 0}
UUID_TEXT: Final[Json] = {"type": "string", "format": "uuid"}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What the description says of a part of the path, or of a header field. `schema` is JSON Schema's."""

    description: str
    schema: Json


class Success(msgspec.Struct, frozen=True):
    """An answer to a request that was taken: JSON by `model`, or by media type what a JSON Schema of `others` says."""

    description: str
    model: type[msgspec.Struct] | None = None
    headers: Mapping[str, Part] = {}
    others: Mapping[str, Json] = {}


class Operation(msgspec.Struct, Generic[Q, B], frozen=True, kw_only=True):
    """One request that the API takes.

    `path` is spelt as Starlette's: `{id:uuid}`, `{rest:path}`. Without a `scope` no key is asked for. A coroutine may
    raise RequestRefused with any of `codes`; the codes of the key, the query and the body come by themselves.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    scope: Scope | None
    respond: Callable[[ApiRequest[Q, B]], Awaitable[ApiResponse]]
    answers: Mapping[int, Success]
    codes: Sequence[Code] = ()
    query: type[Q] | None = None
    body: Body[B] | None = None

    name: str
    """The `operationId`: unique, and stable, since generated clients name their methods after it."""

    summary: str
    about: str | None = None
    """The description; None: the summary says it all."""

    parts: Mapping[str, Part] = {}
    headers: Mapping[str, Part] = {}
    problems: Mapping[Code, type[Problem]] = {}
    """Codes whose document says more than `Problem`."""

    is_traced: bool = False
    """Whether it continues the caller's trace, and has a span of its own where the installation traces."""

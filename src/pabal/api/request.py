"""One request, as the coroutine of its operation sees it."""

from collections.abc import Awaitable
from typing import Generic, TypeVar, cast
from uuid import UUID

import msgspec
from starlette.types import Receive, Scope

from pabal.api.asgi import Head, count_fields, read_head
from pabal.api.bodies import Body
from pabal.api.keys import Caller
from pabal.api.query import read_query
from pabal.api.traced import caller_trace
from pabal.deadlines import Deadlines
from pabal.tracing.context import Trace

Q = TypeVar("Q")
B = TypeVar("B")


class ApiRequest(Generic[Q, B]):
    """A request. `Q` and `B` are its operation's models of the query and of the body; None: it has none.

    Query and body are read when the coroutine asks, so that a key is checked before anything is decoded.
    """

    __slots__ = ("_body", "_deadlines", "_query", "_receive", "_scope", "caller", "head", "idempotency_key")

    caller: Caller
    """Whose key it carries. Set where the operation needs a scope."""

    idempotency_key: str | None
    """Set by an operation that has one. From then on it goes with every problem."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        *,
        query: type[msgspec.Struct] | None,
        body: Body[B] | None,
        deadlines: Deadlines,
    ) -> None:
        self.head: Head = read_head(scope)
        self.idempotency_key = None
        self._scope = scope
        self._receive = receive
        self._query = query
        self._body = body
        self._deadlines = deadlines

    def id(self) -> UUID:
        """The `{id}` of the path."""
        found = self._scope["path_params"]["id"]
        assert isinstance(found, UUID)
        return found

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self._scope["path_params"][name])

    def query(self) -> Q:
        """The query string by the operation's model. Raises RequestRefused: invalid_parameter."""
        assert self._query is not None, "the operation declares no query"
        return cast("Q", read_query(self._scope["query_string"], self._query))

    def body(self) -> Awaitable[B]:
        """The body by the operation's model; may be asked for once. Raises as the operation's `Body.read`."""
        assert self._body is not None, "the operation declares no body"
        return self._body.read(self._receive, self.head, deadlines=self._deadlines)

    def count(self, field: bytes) -> int:
        """How often a header field occurs."""
        return count_fields(self._scope, field)

    def trace(self) -> Trace:
        """The trace it belongs to."""
        return caller_trace(self._scope, self.head)

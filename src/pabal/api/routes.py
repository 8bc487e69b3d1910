"""Which operation a request means.

Paths are spelt as Starlette's, and matched by its expressions. Its `Router` is not used: it would cost the accept path
an eighth of its CPU, and it answers refusals by itself, without a problem document.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.convertors import Convertor
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send

from pabal.api.asgi import problem_response
from pabal.api.bodies import BODY_TIMEOUT_SECONDS
from pabal.api.endpoint import Endpoint
from pabal.api.keys import Keyring
from pabal.api.operation import Operation
from pabal.api.problems import RequestRefused
from pabal.api.traced import traced
from pabal.deadlines import Deadlines
from pabal.telemetry.meter import Meter
from pabal.tracing.port import Tracing

Methods = Mapping[str, ASGIApp]
_NOTHING: Final[Methods] = {}


class Routes:
    """The API as an ASGI application. A path without parts is found in one look."""

    def __init__(
        self,
        operations: Sequence[Operation[Any, Any]],
        *,
        keyring: Keyring,
        tracing: Tracing | None,
        meter: Meter | None = None,
    ) -> None:
        """`tracing` is for the operations that have a span (None: no operation has one). `meter` counts answers."""
        by_path: dict[str, dict[str, ASGIApp]] = {}
        deadlines = Deadlines(BODY_TIMEOUT_SECONDS)
        for operation in operations:
            app: ASGIApp = Endpoint(operation, keyring=keyring, deadlines=deadlines, meter=meter)
            if operation.is_traced:
                app = traced(app, route=operation.path, tracing=tracing)
            methods = by_path.setdefault(operation.path, {})
            assert operation.method not in methods, f"{operation.method} {operation.path} is declared twice"
            methods[operation.method] = app
            if operation.method == "GET":
                methods["HEAD"] = app
        self._exact: Mapping[str, Methods] = {path: each for path, each in by_path.items() if "{" not in path}
        self._patterns = [_Pattern(path, methods) for path, methods in by_path.items() if "{" in path]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path, method = scope["path"], scope["method"]
        exact = self._exact.get(path, _NOTHING)
        app = exact.get(method) or self._find_among_patterns(scope, path, method, allowed=exact)
        await app(scope, receive, send)

    def _find_among_patterns(self, scope: Scope, path: str, method: str, *, allowed: Methods) -> ASGIApp:
        """The application; the parts of the path are put into `scope`. `allowed`: what the exact path takes."""
        for pattern in self._patterns:
            parts = pattern.read(path)
            if parts is None:
                continue
            if (app := pattern.methods.get(method)) is not None:
                scope["path_params"] = parts
                return app
            allowed = allowed or pattern.methods
        if not allowed:
            return _Refusal(RequestRefused("not_found", f"there is nothing at {path}"))
        allow = (b"allow", ", ".join(sorted(allowed)).encode())
        return _Refusal(RequestRefused("method_not_allowed", f"{path} does not take {method}", headers=[allow]))


class _Refusal:
    """Answers a request that no operation takes."""

    def __init__(self, refused: RequestRefused) -> None:
        self._response = problem_response(refused)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await self._response.send(send)


class _Pattern:
    """A path with parts, and what it takes."""

    def __init__(self, path: str, methods: Methods) -> None:
        self.methods = methods
        self._expression: re.Pattern[str]
        self._convertors: Mapping[str, Convertor[Any]]
        self._expression, _, self._convertors = compile_path(path)

    def read(self, path: str) -> Mapping[str, Any] | None:
        """The parts of a path by name; None: the path is another."""
        found = self._expression.fullmatch(path)
        if found is None:
            return None
        return {name: self._convertors[name].convert(text) for name, text in found.groupdict().items()}

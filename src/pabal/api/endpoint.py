"""An operation as an ASGI application: the key is checked, the coroutine runs, and every failure becomes a problem.

This is the API's only error boundary. An exception that no operation foresees is our defect: it is logged here and
answered with `internal_error`.
"""

import logging
import time
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from pabal.api.asgi import problem_response
from pabal.api.keys import Keyring
from pabal.api.operation import Operation
from pabal.api.problems import (
    RequestRefused,
    defect,
    log_unavailable,
    refuse_for_now,
    refuse_record,
    topics_missing,
)
from pabal.api.request import ApiRequest
from pabal.deadlines import Deadlines
from pabal.errors import LedgerUnavailable, LogError, RecordRefused, StoreUnavailable, UnknownTopic
from pabal.telemetry.meter import Meter

logger = logging.getLogger(__name__)


class Endpoint:
    """Answers the requests of one operation."""

    def __init__(
        self, operation: Operation[Any, Any], *, keyring: Keyring, deadlines: Deadlines, meter: Meter | None = None
    ) -> None:
        """`deadlines` end bodies that take too long. `meter` counts the answers (None: they are not counted)."""
        self._answers = _Answers(meter, route=operation.path) if meter else None
        self._keyring = keyring
        self._scope = operation.scope
        self._respond = operation.respond
        self._query = operation.query
        self._body = operation.body
        self._deadlines = deadlines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        began = time.monotonic()
        request: ApiRequest[Any, Any] = ApiRequest(
            scope, receive, query=self._query, body=self._body, deadlines=self._deadlines
        )
        try:
            if self._scope is not None:
                request.caller = self._keyring.caller(request.head.get(b"authorization"), scope=self._scope)
            response = await self._respond(request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = problem_response(_refusal(error), idempotency_key=request.idempotency_key)
        await response.send(send)
        if self._answers is not None:
            self._answers.count(response.status, seconds=time.monotonic() - began)


class _Answers:
    """Counts the answers of one operation."""

    def __init__(self, meter: Meter, *, route: str) -> None:
        self._meter = meter
        self._route = route
        self._took = meter.histogram("pabal_http_request_duration_seconds", route)

    def count(self, status: int, *, seconds: float) -> None:
        """Count an answer that was sent."""
        self._meter.counter("pabal_http_requests_total", self._route, str(status)).add()
        self._took.observe(seconds)


def _refusal(error: Exception) -> RequestRefused:
    """What an exception means for the caller. What concerns the operator alone goes to our log."""
    match error:
        case RequestRefused():
            return error
        case RecordRefused():
            logger.warning("not accepted: %s", error)
            return refuse_record(error)
        case UnknownTopic():
            return topics_missing(str(error))
        case LogError():
            logger.warning("the log: %s", error)
            return log_unavailable("the log did not answer in time; asking again is safe")
        case StoreUnavailable():
            logger.warning("the store: %s", error)
            return refuse_for_now("store_unavailable", "the store did not answer")
        case LedgerUnavailable():
            logger.warning("the ledger: %s", error)
            return refuse_for_now("ledger_unavailable", "the ledger did not answer; asking again is safe")
        case _:
            logger.error("a request met a defect", exc_info=error)
            return defect()

"""`/healthz` and `/readyz`: does the process work, and would it accept now? They need no key."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from pabal.api.asgi import ApiResponse
from pabal.api.codes import LOG_CODES
from pabal.api.messages import Health
from pabal.api.operation import Operation, Success
from pabal.api.problems import log_unavailable, refuse_for_now, topics_missing
from pabal.api.request import ApiRequest
from pabal.broker.port import Admin
from pabal.clock import Clock
from pabal.errors import LogError, UnknownTopic

READY_TIMEOUT_SECONDS: Final = 2.0
"""Kubernetes gives a probe 1 s by default, and operators often raise that to 3 s."""

READY_FOR_SECONDS: Final = 1.0
"""How long a good answer stands. Anyone may ask without a key, and the log should not pay for that."""


class Probes:
    """What a supervisor and a load balancer ask."""

    def __init__(
        self, *, ailments: Callable[[], Sequence[str]], admin: Admin, topics: Collection[str], clock: Clock
    ) -> None:
        """`ailments`: see `Broker.ailments`. `topics` are what accepting appends to."""
        self._ailments = ailments
        self._admin = admin
        self._topics = topics
        self._clock = clock
        self._ready_until = float("-inf")
        self._asking = asyncio.Lock()

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        return (
            Operation(
                method="GET",
                path="/healthz",
                scope=None,
                respond=self.health,
                answers={200: Success("Yes.", Health)},
                codes=("not_alive",),
                name="getHealth",
                summary="Whether the process works",
            ),
            Operation(
                method="GET",
                path="/readyz",
                scope=None,
                respond=self.readiness,
                answers={200: Success("Yes.", Health)},
                codes=LOG_CODES,
                name="getReadiness",
                summary="Whether an append would succeed now",
            ),
        )

    async def health(self, request: ApiRequest[None, None]) -> ApiResponse:
        """Alive: the event loop turns, and what works beside it has not died or stopped. The answer does not depend
        on the log, so that a broker's outage restarts no process."""
        del request
        if ailments := self._ailments():
            raise refuse_for_now("not_alive", "; ".join(ailments))
        return ApiResponse(status=200, body=Health(status="alive"))

    async def readiness(self, request: ApiRequest[None, None]) -> ApiResponse:
        """Ready: an append to every topic that accepting needs would succeed now."""
        del request
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS), self._asking:
                if self._clock.boot_seconds() >= self._ready_until:
                    await self._admin.check_writable(self._topics)
                    self._ready_until = self._clock.boot_seconds() + READY_FOR_SECONDS
        except UnknownTopic as error:
            raise topics_missing(str(error)) from None
        except TimeoutError:
            raise log_unavailable(f"the log did not answer within {READY_TIMEOUT_SECONDS:g} s") from None
        except LogError as error:
            raise log_unavailable(str(error)) from None
        return ApiResponse(status=200, body=Health(status="ready"))

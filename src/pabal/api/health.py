"""`/healthz` and `/readyz`: does the process work, and would it accept now?"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from starlette.types import Receive, Scope, Send

from pabal.api.asgi import Answer
from pabal.api.messages import Health
from pabal.api.problems import Refused, log_unavailable, refuse_for_now, topics_missing
from pabal.broker.port import Admin
from pabal.clock import Clock
from pabal.errors import LogError, UnknownTopic

READY_TIMEOUT_SECONDS: Final = 2.0
"""Kubernetes gives a probe 1 s by default and is often told 3 s."""

READY_FOR_SECONDS: Final = 1.0
"""How long a good answer stands. Anyone may ask without a key, and the log should not pay for that."""


class HealthEndpoint:
    """Alive: the event loop turns, and what works beside it has not died or stopped. Says nothing about the log, so
    that a broker's outage restarts nobody."""

    def __init__(self, ailments: Callable[[], Sequence[str]]) -> None:
        """`ailments`: see `Broker.ailments`."""
        self._ailments = ailments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one probe."""
        del scope, receive
        if ailments := self._ailments():
            answer = _not_ready(refuse_for_now("not_alive", "; ".join(ailments)))
        else:
            answer = Answer(status=200, body=Health(status="alive"))
        await answer.send(send)


class ReadinessEndpoint:
    """Ready: an append to every topic that accepting needs would succeed now."""

    def __init__(self, *, admin: Admin, topics: Collection[str], clock: Clock) -> None:
        """`topics`: those to look for."""
        self._admin = admin
        self._topics = topics
        self._clock = clock
        self._ready_until = float("-inf")
        self._asking = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one probe: 200, or a 503 problem."""
        del scope, receive
        try:
            async with asyncio.timeout(READY_TIMEOUT_SECONDS), self._asking:
                if self._clock.boot_seconds() >= self._ready_until:
                    await self._ask()
                    self._ready_until = self._clock.boot_seconds() + READY_FOR_SECONDS
            answer = Answer(status=200, body=Health(status="ready"))
        except UnknownTopic as error:
            answer = _not_ready(topics_missing(str(error)))
        except TimeoutError:
            answer = _not_ready(log_unavailable(f"the log did not answer within {READY_TIMEOUT_SECONDS:g} s"))
        except LogError as error:
            answer = _not_ready(log_unavailable(str(error)))
        await answer.send(send)

    async def _ask(self) -> None:
        await self._admin.check_writable(self._topics)


def _not_ready(refused: Refused) -> Answer:
    return Answer(status=refused.status, body=refused.problem(), headers=refused.headers)

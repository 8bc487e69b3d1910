"""The call itself: it is made, watched over, and traced."""

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

import msgspec

from pabal.channels.port import Rendered
from pabal.clock import Clock
from pabal.outcome import Accepted, Deferred, Outcome, Unknown
from pabal.providers.port import Provider
from pabal.tracing.context import Trace
from pabal.tracing.port import Tracing
from pabal.worker.errand import Errand

logger = logging.getLogger(__name__)

CALL_SLACK_SECONDS = 1.0
"""How much longer than its own timeout a provider may take before its call is ended."""

_STILL_SECONDS = 3.0
"""Looks at the calls are a second apart. A gap longer than this means that this process itself did not run."""

_encode = msgspec.json.Encoder().encode


class Sender:
    """Calls providers, and ends calls that do not keep their provider's own timeout."""

    def __init__(self, *, clock: Clock, tracing: Tracing | None) -> None:
        self._clock = clock
        self._tracing = tracing
        # A timer for each call would cost more than looking at all of them once a second.
        self._calls: dict[asyncio.Task[Any], float] = {}
        self._watched_at: float | None = None
        self._stood_still_until = 0.0

    def send(self, errand: Errand, rendered: Rendered, provider: Provider) -> Awaitable[Outcome]:
        """Call the provider. Notes in the errand what that came to, when it ended and how long it took."""
        if self._tracing is not None:
            return self._send_traced(errand, rendered, provider, tracing=self._tracing)
        if errand.delivery.traceparent is not None:
            # The caller's trace goes on as it came.
            trace = Trace.read(errand.delivery.traceparent, errand.delivery.tracestate)
            rendered = msgspec.structs.replace(rendered, traceparent=trace.traceparent, tracestate=trace.tracestate)
        return self._send(errand, rendered, provider)

    def end_overdue(self) -> None:
        """End calls whose provider did not keep its own timeout. To be called once a second.

        A longer gap between two looks means that this process stood still: it was stopped, or the machine slept.
        """
        now = self._clock.boot_seconds()
        if self._stands_still(now):
            self._stood_still_until = now
        self._watched_at = now
        for task in [task for task, overdue_at in self._calls.items() if now > overdue_at]:
            del self._calls[task]
            task.cancel()

    async def _send_traced(
        self, errand: Errand, rendered: Rendered, provider: Provider, *, tracing: Tracing
    ) -> Outcome:
        span = tracing.send(
            errand.delivery,
            attempt=errand.attempt,
            provider=errand.provider,
            origin=errand.origin,
            group=errand.group,
        )
        try:
            carrying = msgspec.structs.replace(rendered, traceparent=span.traceparent, tracestate=span.tracestate)
            return await self._send(errand, carrying, provider)
        finally:
            span.end(errand.outcome)

    async def _send(self, errand: Errand, rendered: Rendered, provider: Provider) -> Outcome:
        delivery, permit = errand.delivery, errand.permit
        began = self._clock.boot_seconds()
        task = asyncio.current_task()
        assert task is not None
        self._calls[task] = began + provider.timeout_seconds + CALL_SLACK_SECONDS
        if permit is not None:
            permit.call(began)
        outcome: Outcome
        try:
            outcome = _storable(
                await provider.send(
                    rendered, to=delivery.address, tenant=delivery.tenant, idempotency_key=delivery.idempotency_key
                )
            )
        except asyncio.CancelledError:
            if task in self._calls:
                raise
            task.uncancel()
            outcome = Unknown(reason="the provider did not keep its own timeout")
        except Exception as error:
            # A defect of the provider's code: what became of the call is not known, and that is what we say.
            logger.exception("provider %s failed on delivery %s", errand.provider, delivery.id)
            outcome = Unknown(reason=f"{type(error).__name__} in provider {errand.provider}")
        finally:
            self._calls.pop(task, None)
        ended = self._clock.boot_seconds()
        if permit is not None and not (_is_silence(outcome) and self._stood_still(since=began, now=ended)):
            permit.end(outcome, ended)
        errand.outcome, errand.latency_seconds, errand.at = outcome, ended - began, self._clock.now()
        return outcome

    def _stood_still(self, *, since: float, now: float) -> bool:
        """Whether this process did: then silence is not the far side's, and the guard is told nothing of it."""
        return since <= self._stood_still_until or self._stands_still(now)

    def _stands_still(self, now: float) -> bool:
        return self._watched_at is not None and now - self._watched_at > _STILL_SECONDS


def _is_silence(outcome: Outcome) -> bool:
    return isinstance(outcome, Unknown) or (isinstance(outcome, Deferred) and outcome.response is None)


def _storable(outcome: Outcome) -> Outcome:
    """The provider's answer. What of it cannot be stored (text that is no Unicode, a value of its own) is left out."""
    try:
        _encode(outcome)
    except (ValueError, TypeError):
        return Accepted() if isinstance(outcome, Accepted) else Unknown(reason="the provider's answer is unreadable")
    if not isinstance(outcome, Outcome):
        return Unknown(reason=f"the provider answered with a {type(outcome).__name__}")
    return outcome

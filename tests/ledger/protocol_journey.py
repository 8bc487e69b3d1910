"""A run of the worker's own code that stops at each border (the ledger, the provider, the log) until it is led on."""

import asyncio
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from pabal.broker import port as log
from pabal.channels.port import Rendered
from pabal.ledger.port import Ledger
from pabal.ledger.protocol import Claim, ClaimAnswer, Finish, FinishAnswer
from pabal.outcome import Outcome
from pabal.worker.deliver import LEASE_SLACK_SECONDS
from tests.ledger.protocol_facts import LEASE_SECONDS, ClaimName, Worker


class Journey:
    """One run of the worker's code, which goes on when it is told to, up to the next border."""

    def __init__(self, work: Coroutine[Any, Any, Any]) -> None:
        self.at = "start"
        self.brings: Any = None
        self.answer: Any = None
        self.settled: ClaimName | None = None
        self._border = asyncio.Event()
        self._going_on: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        token = _CURRENT.set(self)
        self._task = asyncio.ensure_future(work)
        _CURRENT.reset(token)

    async def stop(self, at: str, *, brings: Any) -> Any:
        """Called by the worker's code at a border: what it brings there, and what it gets."""
        self.at, self.brings = at, brings
        self._going_on = asyncio.get_running_loop().create_future()
        self._border.set()
        return await self._going_on

    async def go_on(self, *, with_: Any = None) -> None:
        """Let it take an answer (or an exception) with it, and wait until it is at the next border, or at its end."""
        self._border.clear()
        if isinstance(with_, Exception):
            self._going_on.set_exception(with_)
        else:
            self._going_on.set_result(with_)
        await self.arrive()

    async def arrive(self) -> None:
        border = asyncio.ensure_future(self._border.wait())
        await asyncio.wait((border, self._task), return_when=asyncio.FIRST_COMPLETED)
        border.cancel()
        if self._task.done():
            self.at, self.brings = "end", self._task.result()

    async def break_off(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


_CURRENT: ContextVar[Journey] = ContextVar("journey")


class GatedLedger:
    """A worker's ledger, all of whose calls stop at the border. What a dead process still asks for does not happen."""

    def __init__(self, new_token: Callable[[], int], worker: Worker, ledger: Ledger) -> None:
        self.id = ledger.id
        self.owner = ledger.owner
        self.real = ledger
        self.new_token = new_token
        self._worker = worker

    async def claim(self, delivery: uuid.UUID, ask: Claim) -> ClaimAnswer:
        answer: ClaimAnswer = await _CURRENT.get().stop("claim", brings=ask)
        return answer

    async def finish(self, delivery: uuid.UUID, ask: Finish) -> FinishAnswer:
        answer: FinishAnswer = await _CURRENT.get().stop("finish", brings=ask)
        return answer

    async def release(self, delivery: uuid.UUID, *, owner: int, token: int) -> None:
        if self._worker.running:
            await _CURRENT.get().stop("release", brings=ClaimName(owner, token))

    def settle(self, delivery: uuid.UUID, *, owner: int, token: int) -> None:
        _CURRENT.get().settled = ClaimName(owner, token)


class GatedProvider:
    """A provider that does not deduplicate, and answers what it is told to."""

    channel = "webhook"
    timeout_seconds = LEASE_SECONDS - LEASE_SLACK_SECONDS
    deduplicates_for: timedelta | None = None

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        outcome: Outcome = await _CURRENT.get().stop("send", brings=idempotency_key)
        return outcome

    async def close(self) -> None:
        """Nothing to let go of."""


class GatedProducer:
    """An append that is under way until it is let through."""

    async def append(self, records: Sequence[log.NewRecord]) -> Sequence[log.Position]:
        await _CURRENT.get().stop("append", brings=records)
        return [log.Position(each.topic, 0, 0) for each in records]

    async def close(self) -> None:
        """Nothing to let go of."""


async def begin(work: Coroutine[Any, Any, Any]) -> Journey:
    """A journey that is at its first border."""
    journey = Journey(work)
    await journey.arrive()
    return journey

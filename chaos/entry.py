"""Stands in for the `pabal` command with a fault wired in: `python -m chaos.entry ARGUMENTS`.

Environment:
    CHAOS_DIE_AT=STEP:N    SIGKILL this process when it comes to a step of the send protocol for the Nth time
"""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any
from uuid import UUID

from pabal.broker.port import Assignment, TopicPartition
from pabal.channels.port import Rendered
from pabal.cli.main import main
from pabal.compose import providers, worker
from pabal.ledger.protocol import Claim, ClaimAnswer, Finish, FinishAnswer
from pabal.outcome import Outcome

STEPS = (
    "before-claim",
    "after-claim",
    "during-call",
    "after-call",
    "after-finish",
    "after-append",
    "before-commit",
    "after-commit",
)
"""Where a worker can be killed, in the order in which it comes there."""

_INTO_THE_CALL_SECONDS = 0.01
"""Long enough for the request to be out, shorter than the far side takes to answer."""


class Fuse:
    """Kills this process at the nth time of one step."""

    def __init__(self, step: str, times: int) -> None:
        self._step = step
        self._left = times

    def burns(self, step: str) -> bool:
        """Whether this is the moment."""
        self._left -= step == self._step
        return step == self._step and self._left == 0

    def reach(self, step: str) -> None:
        """Come to a step; there may be no return."""
        if self.burns(step):
            blow()


def blow() -> None:
    """End this process as a power cut would."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Wrapped:
    """What is not said here is done by the real one."""

    def __init__(self, real: Any, fuse: Fuse) -> None:
        self._real = real
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class FusedLedger(_Wrapped):
    """A ledger with steps around claim, finish and settle."""

    async def claim(self, delivery: UUID, ask: Claim) -> ClaimAnswer:
        """See `Ledger.claim`."""
        self._fuse.reach("before-claim")
        answer: ClaimAnswer = await self._real.claim(delivery, ask)
        self._fuse.reach("after-claim")
        return answer

    async def finish(self, delivery: UUID, ask: Finish) -> FinishAnswer:
        """See `Ledger.finish`."""
        answer: FinishAnswer = await self._real.finish(delivery, ask)
        self._fuse.reach("after-finish")
        return answer

    def settle(self, delivery: UUID, *, owner: int, token: int) -> None:
        """See `Ledger.settle`: it is called as soon as the append is acknowledged."""
        self._fuse.reach("after-append")
        self._real.settle(delivery, owner=owner, token=token)


class FusedProvider(_Wrapped):
    """A provider with steps in and after the call."""

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        """See `Provider.send`."""
        if self._fuse.burns("during-call"):
            asyncio.get_running_loop().call_later(_INTO_THE_CALL_SECONDS, blow)
        outcome: Outcome = await self._real.send(rendered, to=to, tenant=tenant, idempotency_key=idempotency_key)
        self._fuse.reach("after-call")
        return outcome


class FusedConsumer(_Wrapped):
    """A consumer with steps around the commit."""

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Consumer.commit`."""
        self._fuse.reach("before-commit")
        await self._real.commit(offsets)
        self._fuse.reach("after-commit")


class FusedBroker(_Wrapped):
    """A broker whose consumers have steps."""

    def consumer(
        self, group: str, topics: Sequence[str], assignment: Assignment, *, instance: str | None = None
    ) -> FusedConsumer:
        """See `Broker.consumer`."""
        return FusedConsumer(self._real.consumer(group, topics, assignment, instance=instance), self._fuse)


def arm(environment: Mapping[str, str]) -> None:
    """Wire in what the environment asks for."""
    if place := environment.get("CHAOS_DIE_AT"):
        step, _, times = place.partition(":")
        if step not in STEPS:
            raise SystemExit(f"no step {step!r}; there are {', '.join(STEPS)}")
        _lay(Fuse(step, int(times)))


def _lay(fuse: Fuse) -> None:
    """Through the ports, where the parts are put together."""

    def with_steps(make_worker: Callable[..., Any]) -> Callable[..., Any]:
        def worker(**parts: Any) -> Any:
            fused = {"broker": FusedBroker(parts["broker"], fuse), "ledger": FusedLedger(parts["ledger"], fuse)}
            return make_worker(**parts | fused)

        return worker

    def with_calls(create: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: FusedProvider(create(*arguments, **options), fuse)

    _replace(worker, "Worker", with_steps)
    _replace(providers, "create_provider", with_calls)


def _replace(module: ModuleType, name: str, change: Callable[[Any], Any]) -> None:
    """What a module of the composition knows under this name. Fails when it does not: the fault would never come."""
    setattr(module, name, change(getattr(module, name)))


if __name__ == "__main__":
    arm(os.environ)
    main()

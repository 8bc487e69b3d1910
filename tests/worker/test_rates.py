"""A provider's rate is for all workers together: two real workers of one group, on a clock that the test moves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from pabal.clock import ManualClock
from pabal.guard.rate import BURST_SECONDS
from pabal.worker.worker import Worker
from tests.waiting import eventually
from tests.worker.lab import Provider, WorkerLab, a_delivery

RATE_PER_SECOND = 20.0
STEP_SECONDS = 0.1
A_STEP = 2
"""Calls that the rate allows in a step."""

UNUSED = int(RATE_PER_SECOND * BURST_SECONDS) + 1
"""Calls that a worker may make beyond its rate: those of a moment that was not used, and the first one."""


class Rates:
    """Workers of one group, and a provider that all of them call."""

    def __init__(self, lab: WorkerLab) -> None:
        self.lab = lab
        self.clock = ManualClock(datetime.now(UTC))
        self.provider = Provider()
        self.steps = 0
        self.joined = 0
        self.members: list[Worker] = []

    @contextlib.asynccontextmanager
    async def member(self, name: str) -> AsyncIterator[Worker]:
        """A worker that runs; it leaves at the end."""
        self.joined += 1
        stopping = asyncio.Event()
        async with self.lab.ledger(name) as ledger, asyncio.TaskGroup() as group:
            worker = self.lab.worker(ledger, self.provider, rate_per_second=RATE_PER_SECOND, clock=self.clock)
            group.create_task(worker.run(stopping))
            self.members.append(worker)
            try:
                yield worker
            finally:
                self.members.remove(worker)
                stopping.set()

    async def pass_steps(self, count: int) -> None:
        """Let time pass, a step whenever everyone has called as often as they may; together no more than may be."""
        before = len(self.provider.sent)
        for _ in range(count):
            self.clock.advance(STEP_SECONDS)
            self.steps += 1
            await eventually(self.is_used_up, within_seconds=10)
            assert len(self.provider.sent) <= A_STEP * self.steps + self.joined * UNUSED
        least = before + A_STEP * (count - 1)
        await eventually(lambda: len(self.provider.sent) >= least, within_seconds=10)

    def is_used_up(self) -> bool:
        """Whether no worker may call at the moment."""
        now = self.clock.boot_seconds()
        rates = [each.rate for worker in self.members for each in worker.channels["webhook"]._guard._providers.values()]
        return all(rate.ready_in(now) > 0 for rate in rates)


def owned(worker: Worker) -> int:
    """How many partitions of the topic in use a worker has."""
    return worker.channels["webhook"].intakes["critical"].partitions


async def test_two_workers_share_a_providers_rate_and_who_stays_takes_over_all_of_it(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path, has_topics=False) as lab:
        await lab.create_topics(partitions=4)
        await lab.append(*(a_delivery(number) for number in range(400)))
        rates = Rates(lab)

        async with rates.member("one") as one:
            await eventually(lambda: owned(one) == 4, within_seconds=10)
            await rates.pass_steps(10)
            async with rates.member("two") as two:
                await eventually(lambda: owned(two) == 2, within_seconds=10)
                await rates.pass_steps(30)
            await eventually(lambda: owned(one) == 4, within_seconds=10)
            await rates.pass_steps(20)


async def test_until_a_workers_share_is_known_it_calls_nobody_who_has_a_rate(tmp_path: Path) -> None:
    async with WorkerLab.open(tmp_path) as lab:
        rates = Rates(lab)
        counting, go_on = asyncio.Event(), asyncio.Event()
        await lab.append(a_delivery())
        async with lab.ledger() as ledger, asyncio.TaskGroup() as group:
            worker = lab.worker(ledger, rates.provider, rate_per_second=RATE_PER_SECOND, clock=rates.clock)
            watermarks = worker._admin.watermarks

            async def slow(topic: str) -> object:
                counting.set()
                await go_on.wait()
                return await watermarks(topic)

            worker._admin.watermarks = slow  # type: ignore[method-assign, assignment]
            stopping = asyncio.Event()
            group.create_task(worker.run(stopping))
            await counting.wait()
            await eventually(
                lambda: sum(intake.in_flight for intake in worker.channels["webhook"].intakes.values()) == 1,
                within_seconds=10,
            )
            called_before = list(rates.provider.sent)

            go_on.set()

            await eventually(lambda: len(rates.provider.sent) == 1)
            stopping.set()
        assert called_before == []

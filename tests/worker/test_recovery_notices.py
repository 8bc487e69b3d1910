"""What a worker says of callees that are back: when, and when not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest

from pabal.broker.port import NewRecord, Position
from pabal.clock import ManualClock
from pabal.errors import LogUnavailable
from pabal.guard import LONGEST_PARK_SECONDS, Callee
from pabal.guard.circuit import CircuitSettings
from pabal.ops.recoveries import Recovery, recovery_key, recovery_record, relapse_record
from pabal.worker.recovery_notices import RecoveryNotices
from tests.waiting import eventually

AT = datetime(2026, 1, 1, tzinfo=UTC)
KEY = recovery_key("webhook", "hooks a")
BACK = recovery_record(Recovery(channel="webhook", callee="hooks a", at=AT))


class Said:
    """A producer that keeps what is appended, or fails as often as it is told to."""

    def __init__(self) -> None:
        self.appends: list[Sequence[NewRecord]] = []
        self.tried = 0
        self.failures = 0

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        self.tried += 1
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("no answer")
        self.appends.append(records)
        return ()

    async def close(self) -> None:
        """Nothing is held."""


class Lab:
    """A worker's callees, and what is said of them."""

    def __init__(self) -> None:
        self.clock = ManualClock(AT)
        self.said = Said()
        self.notices = RecoveryNotices(producer=self.said, clock=self.clock)

    def callee(self, name: str = "hooks a") -> Callee:
        return Callee(
            name,
            most=16.0,
            rate_per_second=None,
            circuit=CircuitSettings(),
            random=lambda: 0.0,
            on_change=lambda callee, _now: self.notices.on_change("webhook", callee),
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.notices.run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def fail(callee: Callee, *, parks: int = 1) -> None:
    callee.trip(1_000.0)
    for _ in range(parks):
        callee.park_seconds(parks=0, now=1_000.0)


def recover(callee: Callee) -> None:
    while callee.state != "closed":
        assert callee.is_free(1_010.0)
        is_probe = callee.begin(1_010.0)
        callee.limit.call(1_010.0)
        callee.end(is_ok=True, is_probe=is_probe, began=1_010.0, now=1_010.0)
        callee.leave()


async def test_all_that_are_back_are_said_at_once() -> None:
    lab = Lab()
    for callee in (lab.callee(), lab.callee("hooks b")):
        fail(callee)
        recover(callee)

    async with lab.running():
        await eventually(lambda: lab.said.appends)

    other = recovery_record(Recovery(channel="webhook", callee="hooks b", at=AT))
    assert lab.said.appends == [[BACK, other]]


async def test_nothing_is_said_of_one_for_which_nothing_was_parked() -> None:
    lab = Lab()
    idle, missed = lab.callee("hooks idle"), lab.callee()
    fail(idle, parks=0)
    recover(idle)
    fail(missed)
    recover(missed)

    async with lab.running():
        await eventually(lambda: lab.said.appends)

    assert lab.said.appends == [[BACK]]


async def test_one_that_fails_again_is_taken_back_and_one_that_was_never_back_is_not() -> None:
    lab = Lab()
    callee, dead = lab.callee(), lab.callee("hooks dead")
    fail(dead)
    fail(dead)

    async with lab.running():
        fail(callee)
        recover(callee)
        await eventually(lambda: len(lab.said.appends) == 1)
        fail(callee)
        await eventually(lambda: len(lab.said.appends) == 2)

    assert lab.said.appends == [[BACK], [relapse_record(KEY)]]


async def test_what_cannot_be_said_is_left_unsaid_and_the_next_is_said(caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab()
    lab.said.failures = 1
    callee = lab.callee("hooks b")
    fail(callee)

    async with lab.running():
        recover(callee)
        await eventually(lambda: lab.said.tried)
        other = lab.callee()
        fail(other)
        recover(other)
        await eventually(lambda: lab.said.appends)

    assert lab.said.appends == [[BACK]]
    assert "comes back as it is due: no answer" in caplog.text


async def test_what_was_said_long_ago_need_not_be_taken_back() -> None:
    lab = Lab()
    callee, other = lab.callee(), lab.callee("hooks b")

    async with lab.running():
        fail(callee)
        recover(callee)
        await eventually(lambda: len(lab.said.appends) == 1)
        lab.clock.advance(LONGEST_PARK_SECONDS + 1)
        fail(other)
        recover(other)
        await eventually(lambda: len(lab.said.appends) == 2)
        fail(callee)
        fail(other)
        await eventually(lambda: len(lab.said.appends) == 3)

    assert lab.said.appends[2] == [relapse_record(recovery_key("webhook", "hooks b"))]

"""Old recoveries leave `pabal.ops`, also after the log was away."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pabal.broker.port import NewRecord, Position, Record
from pabal.clock import ManualClock
from pabal.errors import LogUnavailable
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.ops.recoveries import Recoveries, Recovery, recovery_key, recovery_record, relapse_record
from pabal.ops.recovery_clearing import RecoveryClearing
from tests.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = Recovery(channel="email", callee="old", at=NOW - timedelta(seconds=LONGEST_PARK_SECONDS + 1))
FRESH = Recovery(channel="email", callee="fresh", at=NOW)


class Log:
    """Takes appends, but for the first ones when it is away."""

    def __init__(self, *, failures: int = 0) -> None:
        self.appended: list[NewRecord] = []
        self.failures = failures

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if self.failures:
            self.failures -= 1
            raise LogUnavailable("no answer")
        self.appended += records
        return ()

    async def close(self) -> None:
        """Nothing is held."""


def clearing_on(log: Log) -> RecoveryClearing:
    recoveries = Recoveries(lambda heard: None)
    recoveries.take([_in_the_log(recovery_record(each)) for each in (OLD, FRESH)])
    return RecoveryClearing(recoveries, producer=log, clock=ManualClock(NOW))


def _in_the_log(record: NewRecord) -> Record:
    return Record(
        topic=record.topic,
        partition=0,
        offset=0,
        timestamp=NOW.timestamp(),
        key=record.key,
        value=record.value,
        headers=record.headers,
    )


async def test_a_recovery_older_than_the_longest_park_is_taken_back_once() -> None:
    log = Log()
    clearing = clearing_on(log)

    await clearing.clear()
    await clearing.clear()

    assert log.appended == [relapse_record(recovery_key("email", "old"))]


async def test_what_the_log_did_not_take_is_taken_back_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.ops.recovery_clearing.CLEAR_EVERY_SECONDS", 0.01)
    log, stopping = Log(failures=2), asyncio.Event()

    running = asyncio.create_task(clearing_on(log).run(stopping))
    await eventually(lambda: log.appended)
    stopping.set()
    await running

    assert log.appended == [relapse_record(recovery_key("email", "old"))]

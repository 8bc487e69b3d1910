"""What is said in `pabal.ops` of callees that are back reaches the delay line, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pabal.broker.port import NewRecord, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import ManualClock
from pabal.delayline.hearing import Hearing
from pabal.errors import LogUnavailable
from pabal.guard import LONGEST_PARK_SECONDS
from pabal.notification import OPS_TOPIC
from pabal.recoveries import Recovery, recovery_key, recovery_record, relapse_record

AT = datetime(2026, 1, 1, tzinfo=UTC)
A, B = (Recovery(channel="webhook", callee=f"hooks {name}", at=AT) for name in "ab")
KEY_A, KEY_B = recovery_key("webhook", "hooks a"), recovery_key("webhook", "hooks b")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[SqliteBroker]:
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=ManualClock())
    await broker.admin().create_topic(TopicSpec(name=OPS_TOPIC, partitions=1, compacted=True))
    yield broker
    await broker.close()


def hearing_on(
    broker: SqliteBroker, tell: Callable[[Mapping[bytes, Recovery | None]], None], *, now: datetime = AT
) -> Hearing:
    return Hearing(reader=broker.reader(), producer=broker.producer(), clock=ManualClock(now), tell=tell)


async def test_what_was_said_since_the_last_time_is_told_on_the_last_word_of_each(broker: SqliteBroker) -> None:
    told: list[Mapping[bytes, Recovery | None]] = []
    hearing, producer = hearing_on(broker, told.append), broker.producer()

    await producer.append([recovery_record(A), recovery_record(B), relapse_record(KEY_A)])
    await hearing.hear()
    await hearing.hear()
    await producer.append([recovery_record(A)])
    await hearing.hear()

    assert told == [{KEY_A: None, KEY_B: B}, {KEY_A: A}]


async def test_other_records_and_those_of_a_later_version_are_passed_over(broker: SqliteBroker) -> None:
    told: list[Mapping[bytes, Recovery | None]] = []
    newer = msgspec.structs.replace(recovery_record(A), headers=(("schema", b"recovery/2"),))
    mangled = msgspec.structs.replace(recovery_record(A), value=b"\xff")
    others = [NewRecord(topic=OPS_TOPIC, key=key, value=None) for key in (None, b"redrive/x")]

    await broker.producer().append([newer, mangled, *others, recovery_record(B)])
    await hearing_on(broker, told.append).hear()

    assert told == [{KEY_B: B}]


async def test_a_log_that_is_away_is_asked_again(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.delayline.hearing.LOOK_EVERY_SECONDS", 0.01)
    stopping = asyncio.Event()
    told: list[Mapping[bytes, Recovery | None]] = []

    def tell(heard: Mapping[bytes, Recovery | None]) -> None:
        told.append(heard)
        stopping.set()

    hearing = hearing_on(broker, tell)
    hear, failures = hearing.hear, iter([LogUnavailable("no answer")] * 2)

    async def away_at_first() -> None:
        for failure in failures:
            raise failure
        await hear()

    monkeypatch.setattr(hearing, "hear", away_at_first)
    await broker.producer().append([recovery_record(A)])
    await asyncio.wait_for(hearing.run(stopping), 10.0)

    assert told == [{KEY_A: A}]


async def test_that_one_failed_before_it_was_back_is_told_too(broker: SqliteBroker) -> None:
    told: list[Mapping[bytes, Recovery | None]] = []

    await broker.producer().append([relapse_record(KEY_A), recovery_record(B), recovery_record(A)])
    await hearing_on(broker, told.append).hear()

    assert told == [{KEY_A: None, KEY_B: B}, {KEY_A: A}]


async def test_what_was_read_before_the_log_went_away_is_told(
    broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Mapping[bytes, Recovery | None]] = []
    reader = broker.reader()
    read = reader.read

    async def read_one_batch(*which: Any, **more: Any) -> AsyncIterator[Any]:
        async for records in read(*which, **more):
            yield records
        raise LogUnavailable("no answer")

    monkeypatch.setattr(reader, "read", read_one_batch)
    hearing = Hearing(reader=reader, producer=broker.producer(), clock=ManualClock(AT), tell=told.append)
    await broker.producer().append([recovery_record(A)])
    with pytest.raises(LogUnavailable):
        await hearing.hear()

    assert told == [{KEY_A: A}]


async def test_the_topic_is_cleared_of_what_nobody_waits_for_whoever_said_it(broker: SqliteBroker) -> None:
    told: list[Mapping[bytes, Recovery | None]] = []
    later = AT + timedelta(seconds=LONGEST_PARK_SECONDS + 1)
    fresh = msgspec.structs.replace(B, at=later)
    await broker.producer().append([recovery_record(A), recovery_record(fresh)])
    hearing = hearing_on(broker, told.append, now=later)

    await hearing.hear()
    await hearing.clear()
    await hearing.clear()
    await hearing.hear()

    assert told == [{KEY_A: A, KEY_B: fresh}, {KEY_A: None}]

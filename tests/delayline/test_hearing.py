"""What is said in `pabal.ops` of callees that are back reaches the delay line, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from pabal.broker.port import NewRecord, TopicSpec
from pabal.broker.sqlite import SqliteBroker
from pabal.clock import ManualClock
from pabal.delayline.hearing import Hearing
from pabal.errors import LogUnavailable
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


async def test_what_was_said_since_the_last_time_is_told_on_the_last_word_of_each(broker: SqliteBroker) -> None:
    told: list[Mapping[bytes, Recovery | None]] = []
    hearing, producer = Hearing(reader=broker.reader(), tell=told.append), broker.producer()

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
    await Hearing(reader=broker.reader(), tell=told.append).hear()

    assert told == [{KEY_B: B}]


async def test_a_log_that_is_away_is_asked_again(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pabal.delayline.hearing.LOOK_EVERY_SECONDS", 0.01)
    stopping = asyncio.Event()
    told: list[Mapping[bytes, Recovery | None]] = []

    def tell(heard: Mapping[bytes, Recovery | None]) -> None:
        told.append(heard)
        stopping.set()

    hearing = Hearing(reader=broker.reader(), tell=tell)
    hear, failures = hearing.hear, iter([LogUnavailable("no answer")] * 2)

    async def away_at_first() -> None:
        for failure in failures:
            raise failure
        await hear()

    monkeypatch.setattr(hearing, "hear", away_at_first)
    await broker.producer().append([recovery_record(A)])
    await asyncio.wait_for(hearing.run(stopping), 10.0)

    assert told == [{KEY_A: A}]

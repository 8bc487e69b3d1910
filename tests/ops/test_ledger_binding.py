"""A log belongs to one ledger: who comes with another is told so, on both logs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from confluent_kafka.admin import AdminClient

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Broker, NewRecord, Position, Producer, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import ManualClock
from pabal.errors import ConfigError, LedgerUnavailable
from pabal.notification import OPS_TOPIC
from pabal.ops.ledger_binding import LedgerBinding
from pabal.ops.ledger_identity import LEDGER_KEY, LEDGER_SCHEMA, LedgerRecord
from tests.recorder.lab import until

OURS, THEIRS = UUID(int=1), UUID(int=2)
CLOCK = ManualClock()


async def open_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    if request.param == "kafka":
        return await KafkaBroker.open(request.getfixturevalue("kafka_bootstrap"))
    return await SqliteBroker.open(tmp_path / "log.db", clock=CLOCK)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    broker = await open_broker(request, tmp_path)
    if request.param == "kafka":
        # The Kafka is shared with other tests, and nothing takes back whose a log is.
        await _without_topic(broker, request.getfixturevalue("kafka_bootstrap"))
    await broker.admin().create_topic(TopicSpec(name=OPS_TOPIC, partitions=1, compacted=True))
    yield broker
    if request.param == "kafka":
        await _without_topic(broker, request.getfixturevalue("kafka_bootstrap"))
        await broker.admin().create_topic(TopicSpec(name=OPS_TOPIC, partitions=1, compacted=True))
    await broker.close()


async def _without_topic(broker: Broker, bootstrap: str) -> None:
    if OPS_TOPIC in await broker.admin().topics():
        client = AdminClient({"bootstrap.servers": bootstrap})  # it ends what it does when it is collected
        deleting = client.delete_topics([OPS_TOPIC])
        await asyncio.to_thread(deleting[OPS_TOPIC].result, 30.0)

        async def is_gone() -> bool:
            return OPS_TOPIC not in await broker.admin().topics()

        await until(is_gone)


async def append(broker: Broker, value: bytes | None, *, schema: bytes = LEDGER_SCHEMA) -> None:
    """A record under the ledger's key, as anybody may append one."""
    record = NewRecord(topic=OPS_TOPIC, key=LEDGER_KEY, value=value, headers=(("schema", schema),))
    await broker.producer().append([record])


async def last_value(broker: Broker) -> bytes | None:
    """What compaction would keep."""
    batches = broker.reader().read(TopicPartition(OPS_TOPIC, 0))
    return [record async for batch in batches for record in batch if record.key == LEDGER_KEY][-1].value


def identity(broker: Broker, *, producer: Producer | None = None) -> LedgerBinding:
    producer = producer or broker.producer()
    return LedgerBinding(producer=producer, reader=broker.reader(), admin=broker.admin(), clock=CLOCK)


class OvertakenProducer:
    """Appends when somebody else has just recorded theirs."""

    def __init__(self, producer: Producer, other: LedgerBinding) -> None:
        self._producer = producer
        self._other = other
        self._is_overtaken = False

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        if not self._is_overtaken:
            self._is_overtaken = True
            await self._other.check(THEIRS, place="theirs")
        return await self._producer.append(records)

    async def close(self) -> None:
        await self._producer.close()


async def test_the_first_ledger_is_recorded_and_found_again(broker: Broker) -> None:
    await identity(broker).check(OURS, place="here")
    await identity(broker).check(OURS, place="here")

    assert (await identity(broker).recorded()).holds == LedgerRecord(id=OURS, recorded_at=CLOCK.now())


async def test_who_may_not_be_the_first_waits_for_a_worker_and_records_nothing(broker: Broker) -> None:
    with pytest.raises(LedgerUnavailable, match="no worker has opened"):
        await identity(broker).check(OURS, place="ours", may_be_first=False)
    assert (await identity(broker).recorded()).holds is None

    await identity(broker).check(OURS, place="ours")
    await identity(broker).check(OURS, place="ours", may_be_first=False)


async def test_another_ledger_is_refused_with_what_to_do(broker: Broker) -> None:
    await identity(broker).check(THEIRS, place="there")

    with pytest.raises(ConfigError) as raised:
        await identity(broker).check(OURS, place="/var/lib/pabal/ledger.db")

    for words in (str(THEIRS), str(OURS), "/var/lib/pabal/ledger.db", "pabal ledger adopt"):
        assert words in str(raised.value)


async def test_an_adopted_ledger_takes_the_place_of_the_former(broker: Broker) -> None:
    await identity(broker).check(THEIRS, place="there")

    await identity(broker).adopt(OURS)

    await identity(broker).check(OURS, place="here")
    with pytest.raises(ConfigError, match=str(OURS)):
        await identity(broker).check(THEIRS, place="there")


async def test_of_two_first_ledgers_the_earlier_record_holds(broker: Broker) -> None:
    overtaken = OvertakenProducer(broker.producer(), identity(broker))

    with pytest.raises(ConfigError, match=str(THEIRS)):
        await identity(broker, producer=overtaken).check(OURS, place="here")

    await identity(broker).check(THEIRS, place="there")
    assert str(THEIRS).encode() in (await last_value(broker) or b"")


UNREADABLE = [
    b"{",
    b"",
    None,
    b"\xff\x00",
    b"[" * 100_000,
    b'{"id":"00000000-0000-0000-0000-000000000002"}',
    b'{"id":"00000000-0000-0000-0000-000000000002","recorded_at":"9999-12-31T23:59:59.999999Z","adopted":true}',
]


@pytest.mark.parametrize("value", UNREADABLE, ids=[repr(value)[:12] for value in UNREADABLE])
async def test_what_cannot_be_read_refuses_a_start_until_a_ledger_is_adopted(
    broker: Broker, value: bytes | None
) -> None:
    await append(broker, value)

    for may_be_first in (True, False):
        with pytest.raises(ConfigError) as raised:
            await identity(broker).check(OURS, place="here", may_be_first=may_be_first)
        assert "pabal.ops/0@0" in str(raised.value)
        assert "pabal ledger adopt" in str(raised.value)
    await identity(broker).adopt(OURS)

    await identity(broker).check(OURS, place="here", may_be_first=False)
    with pytest.raises(ConfigError, match=str(OURS)):
        await identity(broker).check(THEIRS, place="there")


@pytest.mark.parametrize("value", UNREADABLE, ids=[repr(value)[:12] for value in UNREADABLE])
async def test_what_cannot_be_read_displaces_nothing_and_is_covered_again(
    broker: Broker, value: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    await identity(broker).check(OURS, place="here")
    await append(broker, value)

    await identity(broker).check(OURS, place="here")

    assert str(OURS).encode() in (await last_value(broker) or b"")
    assert "put back on top" in caplog.text


async def test_a_record_that_nobody_adopted_never_displaces_an_earlier_one(broker: Broker) -> None:
    await identity(broker).adopt(OURS)
    await append(broker, msgspec.json.encode(LedgerRecord(id=THEIRS, recorded_at=CLOCK.now() + timedelta(days=1))))

    with pytest.raises(ConfigError, match=str(OURS)):
        await identity(broker).check(THEIRS, place="there")

    await identity(broker).check(OURS, place="here")
    assert str(OURS).encode() in (await last_value(broker) or b"")


async def test_an_adopted_record_that_is_put_back_late_does_not_undo_a_later_adoption(broker: Broker) -> None:
    await identity(broker).adopt(THEIRS)
    former = (await identity(broker).recorded()).holds
    await identity(broker).adopt(OURS)

    await append(broker, msgspec.json.encode(former))

    await identity(broker).check(OURS, place="here")


async def test_a_valid_record_after_one_that_cannot_be_read_holds(broker: Broker) -> None:
    await append(broker, b"{")
    await append(broker, msgspec.json.encode(LedgerRecord(id=OURS, recorded_at=CLOCK.now())))

    await identity(broker).check(OURS, place="here")

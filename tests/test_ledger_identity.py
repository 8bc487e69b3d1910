"""A log belongs to one ledger: who comes with another is told so, on both logs."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from pabal.broker.kafka import KafkaBroker
from pabal.broker.port import Broker, NewRecord, Position, Producer, TopicSpec
from pabal.broker.sqlite import SqliteBroker
from pabal.clock import ManualClock
from pabal.errors import ConfigError, LedgerUnavailable
from pabal.ledger_identity import LEDGER_KEY, LedgerIdentity, LedgerRecord
from pabal.notification import OPS_TOPIC

OURS, THEIRS = UUID(int=1), UUID(int=2)
CLOCK = ManualClock()


async def open_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Broker:
    if request.param == "kafka":
        return await KafkaBroker.open(request.getfixturevalue("kafka_bootstrap"))
    return await SqliteBroker.open(tmp_path / "log.db", clock=CLOCK)


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    broker = await open_broker(request, tmp_path)
    await broker.admin().create_topic(TopicSpec(name=OPS_TOPIC, partitions=1, compacted=True))
    # The Kafka is shared with other tests.
    nothing = NewRecord(topic=OPS_TOPIC, key=LEDGER_KEY, value=None)
    await broker.producer().append([nothing])
    yield broker
    await broker.producer().append([nothing])
    await broker.close()


def identity(broker: Broker, *, producer: Producer | None = None) -> LedgerIdentity:
    producer = producer or broker.producer()
    return LedgerIdentity(producer=producer, reader=broker.reader(), admin=broker.admin(), clock=CLOCK)


class OvertakenProducer:
    """Appends when somebody else has just recorded theirs."""

    def __init__(self, producer: Producer, other: LedgerIdentity) -> None:
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

    assert await identity(broker).recorded() == LedgerRecord(id=OURS, recorded_at=CLOCK.now())


async def test_who_may_not_be_the_first_waits_for_a_worker_and_records_nothing(broker: Broker) -> None:
    with pytest.raises(LedgerUnavailable, match="no worker has opened"):
        await identity(broker).check(OURS, place="ours", may_be_first=False)
    assert await identity(broker).recorded() is None

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
    last = [
        record
        for partition in await broker.admin().watermarks(OPS_TOPIC)
        async for batch in broker.reader().read(partition)
        for record in batch
        if record.key == LEDGER_KEY
    ][-1]
    # What compaction keeps.
    assert str(THEIRS).encode() in (last.value or b"")

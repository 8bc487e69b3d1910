"""Both logs."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from servers.kafka import KafkaCluster, missing

from tests.conftest import skip_without_kafka
from tests.offsets.lab import DamagedLog


@pytest.fixture(scope="module")
def kafka_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Kafka that no other test has left deliveries, members or words of a person in."""
    if reason := missing():
        skip_without_kafka(reason)
    with KafkaCluster.start(tmp_path_factory.mktemp("kafka"), heap_mb=384) as cluster:
        yield cluster.bootstrap


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DamagedLog]:
    """A log to do damage to."""
    is_kafka = request.param == "kafka"
    place = request.getfixturevalue("kafka_of_its_own") if is_kafka else str(tmp_path / "log.db")
    async with DamagedLog.opened(place) as opened:
        yield opened

"""Both logs."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.offsets.lab import DamagedLog


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DamagedLog]:
    """A log to do damage to."""
    is_kafka = request.param == "kafka"
    place = request.getfixturevalue("kafka_bootstrap") if is_kafka else str(tmp_path / "log.db")
    async with DamagedLog.opened(place) as opened:
        yield opened

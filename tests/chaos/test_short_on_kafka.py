"""The short form of `make chaos` on Kafka: see `test_short.py`."""

import pytest
from servers.kafka import missing

from tests.chaos.proving import BY_NAME, prove, require_clock
from tests.conftest import skip_without_kafka

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

KAFKA = ("worker-in-a-burst", "no-brokers", "zombie-kip-848", "wall-clock")


@pytest.mark.kafka
@pytest.mark.parametrize("name", KAFKA)
async def test_it_keeps_its_promises_on_kafka(name: str) -> None:
    if reason := missing():
        skip_without_kafka(reason)
    require_clock(name)

    await prove(BY_NAME[name], log="kafka")

"""Whether an append would succeed, as Kafka's metadata tell it."""

import asyncio

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    PartitionMetadata,
    ResourceType,
)

from pabal.broker.kafka.admin import too_few_in_sync
from tests.kafka.lab import connected, make_topic, record


@pytest.mark.parametrize(
    ("replicas", "in_sync", "needed", "is_refused"),
    [(3, 3, 2, False), (3, 2, 2, False), (3, 1, 2, True), (1, 1, 2, False), (1, 0, 1, True)],
)
def test_an_append_needs_so_many_replicas_in_sync(replicas: int, in_sync: int, needed: int, is_refused: bool) -> None:
    partition = PartitionMetadata()
    partition.replicas, partition.isrs = list(range(replicas)), list(range(in_sync))

    assert (too_few_in_sync(partition, needed=needed) is not None) == is_refused


@pytest.mark.kafka
@pytest.mark.timeout(60)
async def test_no_more_replicas_are_asked_for_than_there_are_as_the_broker_does(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic = await make_topic(broker)
        await need_two_replicas(kafka_bootstrap, topic)

        [position] = await broker.producer().append([record(topic)])
        await broker.admin().check_writable([topic])

        assert position.offset == 0


async def need_two_replicas(bootstrap: str, topic: str) -> None:
    """There is one."""
    setting = ConfigEntry("min.insync.replicas", "2", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[setting])
    client = AdminClient({"bootstrap.servers": bootstrap})
    [altered] = client.incremental_alter_configs([resource]).values()
    await asyncio.wrap_future(altered)

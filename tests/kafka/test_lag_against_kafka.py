"""Every lag of a resting cluster of three brokers is the one that Kafka's own `kafka-consumer-groups` prints."""

import asyncio
import json
import random
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers.kafka import KafkaCluster, missing

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.port import Admin, NewRecord, TopicPartition
from pabal.cli.main import main
from pabal.errors import LogUnavailable
from pabal.groups import groups_for
from pabal.topics.spec import topics_for
from tests.conftest import skip_without_kafka
from tests.waiting import eventually_told

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]

CHANNELS = ("email", "webhook")
PARTITIONS = 6
TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

Row = tuple[str, str, int]
"""Group, topic, partition."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaCluster]:
    if reason := missing():
        skip_without_kafka(reason)
    with KafkaCluster.start(tmp_path_factory.mktemp("kafka"), brokers=3, heap_mb=384) as cluster:
        yield cluster


async def fill(bootstrap: str) -> None:
    """Pabal's topics with as many records as chance has it, and groups that have read some, all or none of them."""
    chance = random.Random(13)
    broker = await KafkaBroker.open(bootstrap)
    admin, producer = broker.admin(), broker.producer(deadline_seconds=30)
    for spec in topics_for(CHANNELS, partitions=PARTITIONS, replication=3):
        await admin.create_topic(spec)
    groups = groups_for(CHANNELS)
    ends = await admin.watermarks(*{topic for topics in groups.values() for topic in topics})
    sizes = {partition: chance.choice([0, 1, 2, 7, 40]) for partition in ends}
    records = [
        NewRecord(topic=partition.topic, partition=partition.partition, key=b"k", value=b"v")
        for partition, size in sizes.items()
        for _ in range(size)
    ]
    await producer.append(records)
    for group, topics in groups.items():
        offsets: dict[TopicPartition, int] = {
            partition: chance.randint(0, size)
            for partition, size in sizes.items()
            if partition.topic in topics and chance.random() < 0.9
        }
        await eventually_told(partial(are_set, admin, group, offsets), within_seconds=60)
    await broker.close()


async def are_set(admin: Admin, group: str, offsets: Mapping[TopicPartition, int]) -> bool:
    """Whether the offsets are set; a coordinator that only begins to be one is asked again."""
    try:
        await admin.reset_offsets(group, offsets)
    except LogUnavailable:
        return False
    return True


def kafka_says(cluster: KafkaCluster) -> Mapping[Row, tuple[int | None, int | None]]:
    """What Kafka's tool prints: the committed offset and the lag of each row; None where it prints a dash."""
    printed = cluster.run_tool(TOOL, "--describe", "--all-groups")
    found = {}
    for line in printed.splitlines():
        group, topic, partition, committed, _, lag, *_ = [*line.split(), *[""] * 6][:7]
        if group.startswith("pabal."):
            found[group, topic, int(partition)] = (_number(committed), _number(lag))
    return found


def pabal_says(bootstrap: str, folder: Path) -> Mapping[Row, tuple[int | None, int]]:
    """What `pabal lag --json` prints, likewise."""
    (folder / "pabal.toml").write_text("")
    where = ("--log", f"kafka://{bootstrap}", "--data", str(folder), "--config", str(folder / "pabal.toml"))
    printed = CliRunner().invoke(main, ["lag", "--json", *where], catch_exceptions=False)
    return {
        (group["group"], each["topic"], each["partition"]): (each["committed"], each["lag"])
        for group in json.loads(printed.output)["groups"]
        for each in group["partitions"]
    }


def _number(text: str) -> int | None:
    return None if text == "-" else int(text)


def test_every_lag_is_the_one_that_kafka_prints(cluster: KafkaCluster, tmp_path: Path) -> None:
    asyncio.run(fill(cluster.bootstrap))

    kafkas, ours = kafka_says(cluster), pabal_says(cluster.bootstrap, tmp_path)

    assert len(kafkas) >= 100
    assert {row: ours.get(row) for row in kafkas} == kafkas
    # Kafka's tool leaves out most partitions of which nothing is committed.
    assert all(committed is None for row, (committed, _) in ours.items() if row not in kafkas)
    assert sum(lag or 0 for _, lag in kafkas.values()) > 100

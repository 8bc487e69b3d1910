"""Shared fixtures: one real Kafka for the whole test session."""

import os
from collections.abc import Iterator

import pytest

from pabal.testing.kafka import KafkaCluster, KafkaMissing, missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs the shared Kafka; any of these may be the one that waits for it to be fetched and started."""
    for item in items:
        if "kafka_bootstrap" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(120))


def skip_without_kafka(reason: str) -> None:
    """Skip where a developer lacks Java or Maven; fail in CI, where nothing may be skipped unseen."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"no Kafka to test on: {reason}")
    pytest.skip(f"no Kafka to test on: {reason}")


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Kafka of one broker, shared by every test: use names of your own in it."""
    if reason := missing():
        skip_without_kafka(reason)
    try:
        cluster = KafkaCluster.start(tmp_path_factory.mktemp("kafka"))
    except KafkaMissing as error:
        skip_without_kafka(str(error))
    with cluster:
        yield cluster.bootstrap

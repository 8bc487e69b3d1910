"""Connecting to Kafka: options, refusals, topics."""

import pytest

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.kafka.client import KafkaSettings
from pabal.broker.port import TopicSpec
from pabal.errors import ConfigError, LogUnavailable
from tests.kafka.lab import connected, make_topic, unique

NOBODY = "127.0.0.1:1"


def settings(options: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(
        bootstrap=NOBODY, options=options, group_protocol="classic", session_seconds=6.0, client_id="pabal"
    )


async def test_a_cluster_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(LogUnavailable, match="does not answer"):
        await KafkaBroker.open(NOBODY, deadline_seconds=0.3)


async def test_an_unknown_option_is_a_wrong_setting_and_named() -> None:
    with pytest.raises(ConfigError, match=r"no\.such\.thing"):
        await KafkaBroker.open(NOBODY, options={"no.such.thing": "1"}, deadline_seconds=0.3)


@pytest.mark.parametrize("option", ["acks", "producer.enable.idempotence", "consumer.auto.offset.reset", "group.id"])
def test_what_the_guarantees_rest_on_cannot_be_set(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        KafkaBroker(NOBODY, options={option: "x"})


def test_an_option_can_be_for_one_kind_of_client() -> None:
    given = settings(
        {
            "security.protocol": "SASL_SSL",
            "producer.linger.ms": "7",
            "consumer.fetch.wait.max.ms": "9",
            "admin.retries": "3",
        }
    )

    producer = given.producer_config(deadline_seconds=5)
    consumer = given.consumer_config(group="g", instance=None)
    admin = given.admin_config()

    assert {each["security.protocol"] for each in (producer, consumer, admin)} == {"SASL_SSL"}
    assert (producer["linger.ms"], consumer["fetch.wait.max.ms"], admin["retries"]) == ("7", "9", "3")
    assert "retries" not in producer
    assert not [name for name in producer | consumer | admin if name.startswith(("producer.", "consumer.", "admin."))]


async def test_options_reach_every_client(kafka_bootstrap: str) -> None:
    broker = await KafkaBroker.open(
        kafka_bootstrap, options={"socket.keepalive.enable": "true", "consumer.fetch.wait.max.ms": "50"}
    )

    assert await make_topic(broker) in await broker.admin().topics()
    await broker.close()


async def test_kafkas_own_topics_are_not_listed(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        topic = await make_topic(broker)
        await broker.admin().reset_offsets(unique("group"), {})

        names = await broker.admin().topics()

        assert topic in names
        assert not [name for name in names if name.startswith("__")]


async def test_a_topic_without_retention_keeps_for_ever(kafka_bootstrap: str) -> None:
    async with connected(kafka_bootstrap) as broker:
        admin, name = broker.admin(), unique()
        await admin.create_topic(TopicSpec(name=name, partitions=2, replication=1))

        assert (await admin.topics())[name] == TopicSpec(name=name, partitions=2, replication=1)

"""The laws of the log on a real Apache Kafka, under both group protocols."""

from typing import ClassVar

from pabal.broker.kafka.client import GroupProtocol
from pabal.testing import BrokerContract
from tests.kafka.hooks import KafkaHooks


class TestClassic(KafkaHooks, BrokerContract):
    """The default group protocol."""


class TestConsumerProtocol(KafkaHooks, BrokerContract):
    """KIP-848. The session time is the broker's (the test cluster has 3 s)."""

    group_protocol: ClassVar[GroupProtocol] = "consumer"
    session_seconds: ClassVar[float] = 3.0
    fences_duplicate_instance: ClassVar[bool] = False

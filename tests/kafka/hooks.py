"""How the laws of the log open a real Apache Kafka, and hasten what it does in time."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from confluent_kafka import Producer as RdProducer
from confluent_kafka import TopicPartition as RdTopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # it re-exports without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from hypothesis import HealthCheck, settings

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.kafka.client import GroupProtocol
from pabal.broker.port import Broker, TopicSpec
from pabal.testing._broker_lab import BrokerHarness


class KafkaHooks(BrokerHarness):
    """The hooks. What the log itself does in time (cleaning) is hastened, not imitated."""

    session_seconds: ClassVar[float] = 2.0
    patience_seconds: ClassVar[float] = 20.0
    takeover_slack_seconds: ClassVar[float] = 4.0
    offsets_are_dense: ClassVar[bool] = True
    group_protocol: ClassVar[GroupProtocol] = "classic"
    model_settings: ClassVar[settings] = settings(
        max_examples=3, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
    )

    @pytest.fixture(autouse=True)
    def use_kafka(self, kafka_bootstrap: str) -> None:
        self.bootstrap = kafka_bootstrap

    async def open(self) -> Broker:
        return await KafkaBroker.open(
            self.bootstrap, group_protocol=self.group_protocol, session_seconds=self.session_seconds
        )

    def process_command(self) -> Sequence[str]:
        script = str(Path(__file__).with_name("member_process.py"))
        return [sys.executable, script, self.bootstrap, self.group_protocol, str(self.session_seconds)]

    async def create_topic(self, broker: Broker, spec: TopicSpec) -> None:
        await super().create_topic(broker, spec)
        if spec.compacted:
            await self._configure(
                spec.name,
                {
                    "segment.ms": "100",
                    "min.cleanable.dirty.ratio": "0.0",
                    "min.compaction.lag.ms": "0",
                    "max.compaction.lag.ms": "100",
                    "delete.retention.ms": "0",
                },
            )

    async def expire(self, broker: Broker, topic: str) -> None:
        """Deleting up to the high watermark is what retention does when it has become time."""
        ends = {each: marks.high for each, marks in (await broker.admin().watermarks(topic)).items()}
        client = AdminClient({"bootstrap.servers": self.bootstrap})
        futures = client.delete_records([RdTopicPartition(*each, offset) for each, offset in ends.items()])
        for future in futures.values():
            await asyncio.wrap_future(future)

    async def compact(self, broker: Broker, topic: str) -> None:
        """Only closed segments are cleaned, and only an append closes one: append what no reader sees."""

        def append_and_abort() -> None:
            producer = RdProducer({"bootstrap.servers": self.bootstrap, "transactional.id": f"{topic}.compact"})
            producer.init_transactions(self.patience_seconds)
            producer.begin_transaction()
            producer.produce(topic, b"", b"unseen", 0)
            producer.flush(self.patience_seconds)
            producer.abort_transaction(self.patience_seconds)

        await asyncio.to_thread(append_and_abort)

    async def _configure(self, topic: str, values: dict[str, str]) -> None:
        client = AdminClient({"bootstrap.servers": self.bootstrap})
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        for future in client.incremental_alter_configs([resource]).values():
            await asyncio.wrap_future(future)

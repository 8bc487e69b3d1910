"""What the thread of a group's member tells its consumer, and how it answers a request."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.handover import Handover
from pabal.broker.port import Record, TopicPartition
from pabal.errors import LogError, OffsetOutOfRange


class Receiver(Protocol):
    """Takes what the member's thread tells. Every method is called in the event loop."""

    handover: Handover

    def received(self, batch: list[Record]) -> None:
        """Records, in order."""

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """New partitions."""

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Partitions asked back; returns the offsets to commit."""

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        """Partitions gone."""

    def committed(self, error: KafkaError | None, partitions: Sequence[RdTopicPartition]) -> None:
        """The answer to one commit."""

    def failed(self, error: LogError, *, for_good: bool) -> None:
        """Something about the whole member that `poll` must raise."""

    def stands_still(self, partition: TopicPartition, error: OffsetOutOfRange) -> None:
        """A partition cannot be read on from where it stands."""


class Sought(Protocol):
    """Called in the event loop once the thread has dealt with a seek."""

    def __call__(self, error: KafkaException | None, *, is_owned: bool) -> None:
        """What the thread hands over from now on is from the new position, unless there is an `error`, or the
        partition is not the member's."""
        ...


class Sent(Protocol):
    """Called in the event loop once the thread has dealt with a commit."""

    def __call__(self, offsets: Mapping[TopicPartition, int], error: KafkaException | None) -> None:
        """These were sent (none: the member owns none of the partitions any more), or librdkafka did not take them."""
        ...

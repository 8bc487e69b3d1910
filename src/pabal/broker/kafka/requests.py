"""Commits and seeks on their way from the event loop to librdkafka."""

import functools
from collections import deque
from collections.abc import Mapping

from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.loop_calls import LoopCalls
from pabal.broker.kafka.owned import OwnedPartitions, to_rd
from pabal.broker.kafka.receiver import Sent, Sought
from pabal.broker.port import TopicPartition


class Requests:
    """What the event loop has asked of the member's thread. `commit` and `seek` are the loop's, the rest the thread's.

    The thread carries them out: a call from elsewhere would wait, and not give the loop back, until the thread's poll
    is over.
    """

    def __init__(self, calls: LoopCalls, owned: OwnedPartitions) -> None:
        self._calls = calls
        self._owned = owned
        self._commits: deque[tuple[Mapping[TopicPartition, int], Sent]] = deque()
        self._seeks: deque[tuple[TopicPartition, int, Sought]] = deque()

    def commit(self, offsets: Mapping[TopicPartition, int], sent: Sent) -> None:
        """See `GroupMember.commit`."""
        self._commits.append((offsets, sent))

    def seek(self, partition: TopicPartition, offset: int, sought: Sought) -> None:
        """See `GroupMember.seek`."""
        self._seeks.append((partition, offset, sought))

    def send_commits(self, rd: RdConsumer) -> None:
        """Hand the commits of owned partitions to librdkafka, and tell which these were."""
        while self._commits:
            offsets, sent = self._commits.popleft()
            mine = {partition: offset for partition, offset in offsets.items() if partition in self._owned.now}
            error: KafkaException | None = None
            if mine:
                try:
                    rd.commit(offsets=to_rd(mine), asynchronous=True)
                except KafkaException as refusal:
                    error = refusal
                except RuntimeError as closed:  # the consumer ended before this was sent
                    error = KafkaException(KafkaError(KafkaError._STATE, str(closed)))
            self._calls.call(sent, mine, error)

    def carry_out_seeks(self, rd: RdConsumer) -> None:
        """Have librdkafka fetch from the positions asked for, and tell so."""
        while self._seeks:
            partition, offset, sought = self._seeks.popleft()
            error: KafkaException | None = None
            is_owned = partition in self._owned.now
            if is_owned:
                try:
                    # librdkafka's own seek refuses a partition that it has stopped to fetch.
                    rd.incremental_unassign([RdTopicPartition(*partition)])
                    rd.incremental_assign([RdTopicPartition(*partition, offset)])
                except KafkaException as refusal:
                    error = refusal
            self._calls.call(functools.partial(sought, error, is_owned=is_owned))

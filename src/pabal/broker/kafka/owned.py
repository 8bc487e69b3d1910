"""The partitions that a group gave its member: taken, asked back, lost."""

import contextlib
import time
from collections.abc import Iterable, Mapping

from confluent_kafka import OFFSET_BEGINNING, KafkaException
from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.flow import Flow
from pabal.broker.kafka.loop_calls import LoopCalls
from pabal.broker.kafka.place import NamedPlace
from pabal.broker.port import TopicPartition

_COMMITTED_SECONDS = 5.0
"""How long to look for the committed offsets of new partitions before joining anew."""

_LOOK_AGAIN_SECONDS = 0.05


class OwnedPartitions:
    """What the member owns now. `now` is read in the event loop too (it is replaced, never changed); the rest is for
    the member's thread.

    A rebalance is a handshake with the event loop. Partitions are asked back (`revoked`), with a deadline; what the
    loop returns is committed before the group goes on. A loop that does not answer has lost them.

    The three callbacks run inside librdkafka's poll, consume or close; none may raise.
    """

    def __init__(self, calls: LoopCalls, flow: Flow, place: NamedPlace) -> None:
        self.now: frozenset[TopicPartition] = frozenset()
        self.are_wanted = False
        """Whether the member has asked the group for partitions."""
        self.lost_at: float | None = None
        """When the group took all of them away, if it has given none since."""
        self.trouble = ""
        """Why the member must leave and join again; empty: it need not."""
        self._calls = calls
        self._flow = flow
        self._place = place

    def on_assign(self, rd: RdConsumer, partitions: list[RdTopicPartition]) -> None:
        """The group gives these."""
        # Without an assign here the binding makes it, at the offsets it finds; nothing of it is owned then.
        if not self.are_wanted or self._calls.is_over:
            return
        self.lost_at = None
        try:
            rd.incremental_assign(self._starts(rd, partitions))
            # librdkafka keeps a pause beyond the revocation of its partition.
            rd.resume(partitions)
        except KafkaException as error:
            self.trouble = f"assignment failed: {error}"
            return
        mine = _from_rd(partitions)
        self._flow.forget(mine)
        self.now |= mine
        self._place.joined()
        self._calls.call(self._calls.receiver.assigned, sorted(mine))

    def on_revoke(self, rd: RdConsumer, partitions: list[RdTopicPartition]) -> None:
        """The group asks for these back."""
        mine = _from_rd(partitions) & self.now
        if not mine:
            return
        offsets = self._calls.ask_back(sorted(mine))
        if offsets:
            # Queued before the revocation: librdkafka sends it, and waits for it, before it joins again.
            with contextlib.suppress(KafkaException):  # then they are read again: at least once
                rd.commit(offsets=to_rd(offsets), asynchronous=True)
        self.now -= mine
        self._flow.forget(mine)

    def on_lost(self, _rd: RdConsumer, partitions: list[RdTopicPartition]) -> None:
        """The group has taken these away."""
        self._place.lost()
        self.lost_at = time.monotonic()
        self._lose(_from_rd(partitions) & self.now)

    def give_up(self) -> None:
        """Lose everything, and want nothing: the member leaves, or its client is over."""
        self._lose(self.now)
        self.are_wanted = False

    def begin_anew(self) -> None:
        """A new client joins: what the former one had stopped or lost is past."""
        self._flow.begin_anew()
        self.lost_at = None

    def end(self) -> None:
        """The client is closed."""
        self.now = frozenset()

    def _lose(self, partitions: frozenset[TopicPartition]) -> None:
        if not partitions:
            return
        self.now -= partitions
        self._flow.forget(partitions)
        self._calls.call(self._calls.receiver.lost, sorted(partitions))

    def _starts(self, rd: RdConsumer, partitions: list[RdTopicPartition]) -> list[RdTopicPartition]:
        """Where to start: the committed offset, or the beginning where there is none."""
        deadline = time.monotonic() + _COMMITTED_SECONDS
        while True:
            try:
                starts = rd.committed(partitions, timeout=1.0)
                for start in starts:
                    if start.error is not None:
                        raise KafkaException(start.error)
                    if start.offset < 0:
                        start.offset = OFFSET_BEGINNING
                return starts
            except KafkaException:
                if self._calls.is_over or time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_AGAIN_SECONDS)


def to_rd(offsets: Mapping[TopicPartition, int]) -> list[RdTopicPartition]:
    """Offsets as librdkafka takes them."""
    return [RdTopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]


def _from_rd(partitions: Iterable[RdTopicPartition]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(each.topic, each.partition) for each in partitions)

"""The thread that is a member of a consumer group: it owns librdkafka's consumer and serves its rebalances.

Everything librdkafka wants from a consumer happens here: fetching, pausing, the callbacks. The one call from
another thread is an asynchronous commit, which librdkafka queues: its answer comes back through this thread.

* `membership.py` the life of the client: joins, leaves, is fenced, begins anew · `place.py` what a fencing means
* `owned.py` the partitions: taken, asked back, lost · `flow.py` how much may wait for `poll`
* `requests.py` commits and seeks · `signs.py` whether anybody polls · `loop_calls.py` the way to the event loop

No poll comes: after the session time the thread gives the partitions up and leaves; the next poll joins again.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import (
    FETCH_AT_ONCE,
    KafkaSettings,
    cause,
    describe,
    is_final,
    log_error,
    logger,
    to_records,
)
from pabal.broker.kafka.flow import Flow
from pabal.broker.kafka.loop_calls import LoopCalls
from pabal.broker.kafka.membership import Membership
from pabal.broker.kafka.owned import OwnedPartitions
from pabal.broker.kafka.place import NamedPlace
from pabal.broker.kafka.receiver import Receiver, Sent, Sought
from pabal.broker.kafka.requests import Requests
from pabal.broker.kafka.signs import PollSigns
from pabal.broker.port import TopicPartition
from pabal.errors import LogError, OffsetOutOfRange, UnknownTopic

_IDLE_POLL_SECONDS = 0.05
"""Bounds how long `close` waits for the thread; records and commits' answers end a poll at once."""

_STOPPED_POLL_SECONDS = 0.01
"""The same while a partition is stopped: bounds how long a resume waits."""

_WATERMARK_SECONDS = 1.0
"""How long to look for the watermarks of a partition that stands still."""


class GroupMember(threading.Thread):
    """The thread. Its public methods but `run` are the event loop's; the rest runs in the thread."""

    def __init__(
        self,
        settings: KafkaSettings,
        receiver: Receiver,
        *,
        group: str,
        topics: Sequence[str],
        instance: str | None,
    ) -> None:
        super().__init__(name=f"pabal-kafka-{group}", daemon=True)
        place = NamedPlace(clock=time.monotonic)
        self._calls = LoopCalls(receiver, group=group)
        self._signs = PollSigns(self._calls, session_seconds=settings.session_seconds)
        self._flow = Flow(receiver.handover)
        self._owned = OwnedPartitions(self._calls, self._flow, place)
        self._requests = Requests(self._calls, self._owned)
        self._membership = Membership(
            settings, self._calls, self._signs, self._owned, place, topics=topics, instance=instance
        )
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def owned(self) -> frozenset[TopicPartition]:
        """The partitions that the member owns now."""
        return self._owned.now

    @property
    def waits_for_room(self) -> bool:
        """Whether the thread waits until records are taken from the hand-over."""
        return self._flow.waits_for_room

    def seen_alive(self, *, polling: bool) -> None:
        """A poll began, or ended."""
        self._signs.seen(polling=polling)

    def made_room(self) -> None:
        """Records were taken from the hand-over."""
        self._flow.made_room()

    def commit(self, offsets: Mapping[TopicPartition, int], sent: Sent) -> None:
        """Commit the offsets of owned partitions; `sent` tells which these are, the answer comes later."""
        self._requests.commit(offsets, sent)
        self._flow.made_room()

    def seek(self, partition: TopicPartition, offset: int, sought: Sought) -> None:
        """Have the partition read on from `offset`; `sought` tells when it is."""
        self._requests.seek(partition, offset, sought)
        self._flow.made_room()

    def stop(self) -> None:
        """Revoke, commit, leave, end; `ended` is done then."""
        self._calls.end()
        self._flow.made_room()
        if not self.is_alive() and not self.ended.done():
            self.start()

    # -- the thread

    def run(self) -> None:
        """Fetch and hand over until stopped."""
        calls = self._calls
        try:
            while not calls.is_over:
                try:
                    self._step()
                except KafkaException as error:
                    calls.tell_failure(log_error(cause(error), doing=f"consumer of group {calls.group}"))
                    # It may have thrown fetched records away. A member that joins goes on from what is committed.
                    self._membership.rejoin(because=str(error))
                    time.sleep(_IDLE_POLL_SECONDS)
        except Exception as error:
            logger.exception("the consumer of group %s failed", calls.group)
            calls.tell_failure(LogError(f"the consumer of group {calls.group} failed: {error}"), for_good=True)
        finally:
            try:
                self._send_commits()
                # Calls `on_revoke` for what is still owned.
                self._membership.rd.close()
            except Exception:
                logger.exception("the consumer of group %s did not end well", calls.group)
            finally:
                self._owned.end()
                self._send_commits()
                calls.call(_resolve, self.ended)

    def _step(self) -> None:
        self._membership.settle()
        rd = self._membership.rd
        self._requests.send_commits(rd)
        self._requests.carry_out_seeks(rd)
        self._flow.resume(rd)
        if self._flow.must_wait():
            self._flow.wait(rd, self._owned.now, meanwhile=self._send_commits, is_over=self._is_over)
            return
        message = rd.poll(_STOPPED_POLL_SECONDS if self._flow.has_stopped else _IDLE_POLL_SECONDS)
        if message is not None:
            # Asking for many at once, with a timeout, would wait for that many.
            self._hand_over([message, *rd.consume(FETCH_AT_ONCE - 1, 0)])

    def _send_commits(self) -> None:
        self._requests.send_commits(self._membership.rd)

    def _is_over(self) -> bool:
        return self._calls.is_over

    def _hand_over(self, messages: list[Message]) -> None:
        owned = self._owned.now
        good: list[Message] = []
        for message in messages:
            if message.error() is not None:
                self._note_error(message)
                if not self._membership.is_joined:
                    return  # it was fatal: nothing is owned any more
            elif (message.topic(), message.partition()) in owned:
                good.append(message)
        if good:
            records = to_records(good)
            self._calls.call(self._calls.receiver.received, records)
            self._flow.handed_over(self._membership.rd, records)

    def _note_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        calls = self._calls
        topic, number = message.topic(), message.partition()
        partition = None if topic is None or number is None or number < 0 else TopicPartition(topic, number)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._membership.end_for_good(error)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None and partition in self._owned.now:
                calls.call(calls.receiver.stands_still, partition, self._out_of_range(partition, message))
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and topic is not None:
            calls.tell_failure(UnknownTopic(topic))
        elif is_final(error):
            calls.tell_failure(log_error(error, doing=f"consumer of group {calls.group}"))
        else:
            logger.info("consumer of group %s: %s", calls.group, describe(error))

    def _out_of_range(self, partition: TopicPartition, message: Message) -> OffsetOutOfRange:
        """librdkafka has stopped to fetch the partition: what is known of its position and what it keeps."""
        topic, number = partition
        offset = message.offset()
        low = high = None
        with contextlib.suppress(KafkaException):  # then it is not known
            low, high = self._membership.rd.get_watermark_offsets(
                RdTopicPartition(topic, number), timeout=_WATERMARK_SECONDS
            )
        return OffsetOutOfRange(
            f"group {self._calls.group} cannot read {topic}[{number}] from {offset}; it keeps offsets {low} to {high}",
            topic=topic,
            partition=number,
            offset=offset if offset is not None and offset >= 0 else None,
            low=low,
            high=high,
        )


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)

"""The thread that is a member of a consumer group: it owns librdkafka's consumer and serves its rebalances.

Everything librdkafka wants from a consumer happens here: fetching, pausing, the callbacks. The one call from
another thread is an asynchronous commit, which librdkafka queues: its answer comes back through this thread.

A rebalance is a handshake with the event loop. Partitions are asked back (`revoked`), with a deadline; what the
loop returns is committed before the group goes on. A loop that does not answer has lost them. Everything the
thread tells the loop goes through one queue in order, so no record of a partition comes before its assignment
or after its revocation.

Nobody polls: after the session time the thread gives the partitions up and leaves; the next poll joins again.
"""

import asyncio
import concurrent.futures
import contextlib
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Message
from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import (
    FETCH_AT_ONCE,
    KafkaSettings,
    cause,
    describe,
    is_final,
    log_error,
    logger,
    make_client,
    to_records,
)
from pabal.broker.kafka.listener import Listener, Sent, Sought
from pabal.broker.kafka.place import NamedPlace
from pabal.broker.port import TopicPartition
from pabal.errors import LogError, LogUnavailable, NotAssigned, OffsetOutOfRange, UnknownTopic

_IDLE_POLL_SECONDS = 0.05
"""Bounds how long `close` waits for the thread; records and commits' answers end a poll at once."""

_STOPPED_POLL_SECONDS = 0.01
"""The same while a partition is stopped: bounds how long a resume waits."""

_REVOKE_SECONDS = 2.0
"""How long the event loop may take to answer `revoked`; less than any session."""

_COMMITTED_SECONDS = 5.0
"""How long to look for the committed offsets of new partitions before joining anew."""

_WATERMARK_SECONDS = 1.0
"""How long to look for the watermarks of a partition that stands still."""

_NO_ROOM_SECONDS = 0.25
"""So long may the buffer be full before librdkafka is told to stop fetching."""

_FORGOTTEN_SECONDS = 30.0
"""How long after its partitions were lost a member waits to be given some: longer than librdkafka's wait for an answer
to a join (`max.poll.interval.ms` and 3 s)."""

_REJOIN_SECONDS = 0.5
"""How long to wait before asking a group again that turned us away."""

_STILL_IN_USE = KafkaError(KafkaError.UNRELEASED_INSTANCE_ID).str()

_MOST_RECORDS = 2 * FETCH_AT_ONCE
_MOST_BYTES = 8 << 20
"""What may wait between the thread and `poll`."""


class GroupMember(threading.Thread):
    """The thread. `seen_alive`, `commit` and `stop` are the loop's; the rest runs here."""

    def __init__(
        self,
        settings: KafkaSettings,
        listener: Listener,
        *,
        group: str,
        topics: Sequence[str],
        instance: str | None,
    ) -> None:
        super().__init__(name=f"pabal-kafka-{group}", daemon=True)
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._handover = listener.handover
        self._group = group
        self._topics = list(topics)
        self._session_seconds = settings.session_seconds
        self._config = settings.consumer_config(group=group, instance=instance)
        self._config["on_commit"] = self._on_commit
        self._rd: RdConsumer = make_client(RdConsumer, self._config)
        self._to_commit: deque[tuple[Mapping[TopicPartition, int], Sent]] = deque()
        self._to_seek: deque[tuple[TopicPartition, int, Sought]] = deque()
        self.owned: frozenset[TopicPartition] = frozenset()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = False
        self._subscribed = False
        self._last_sign = self._last_asked = time.monotonic()
        self._polling = False
        self._polls = 0
        self._refused_at_poll = -1
        self._rejoin_because = ""
        self._join_after = 0.0
        self._fenced = False
        self._place = NamedPlace(clock=time.monotonic)
        self._lost_at: float | None = None
        self._stopped: set[TopicPartition] = set()
        self._full = False
        self._handed = 0
        self._bound = _MOST_RECORDS
        self._room = threading.Event()
        self.waits_for_room = False

    # -- called in the event loop

    def seen_alive(self, *, polling: bool) -> None:
        """Somebody polls, or just did."""
        self._polls += polling
        self._last_sign = time.monotonic()
        self._polling = polling

    def made_room(self) -> None:
        """Records were taken from the hand-over."""
        self._room.set()

    def commit(self, offsets: Mapping[TopicPartition, int], sent: Sent) -> None:
        """Have those of the offsets committed whose partitions are owned; `sent` tells which, the answer comes later.

        The thread does it: a call from elsewhere would wait, and not give the loop back, until its poll is over.
        """
        self._to_commit.append((offsets, sent))
        self._room.set()

    def seek(self, partition: TopicPartition, offset: int, sought: Sought) -> None:
        """Have the partition read on from `offset`; `sought` tells when it is."""
        self._to_seek.append((partition, offset, sought))
        self._room.set()

    def stop(self) -> None:
        """Revoke, commit, leave, end; `ended` is done then."""
        self._stopping = True
        self._room.set()
        if not self.is_alive() and not self.ended.done():
            self.start()

    # -- the thread

    def run(self) -> None:
        """Fetch and hand over until stopped."""
        try:
            while not self._stopping:
                try:
                    self._step()
                except KafkaException as error:
                    self._tell_failure(log_error(cause(error), doing=f"consumer of group {self._group}"))
                    # It may have thrown fetched records away. Whoever joins goes on from what is committed.
                    self._rejoin_because = self._rejoin_because or str(error)
                    time.sleep(_IDLE_POLL_SECONDS)
        except Exception as error:
            logger.exception("the consumer of group %s failed", self._group)
            self._tell_failure(LogError(f"the consumer of group {self._group} failed: {error}"), for_good=True)
        finally:
            try:
                self._send_commits()
                # Calls `_on_revoke` for what is still owned.
                self._rd.close()
            except Exception:
                logger.exception("the consumer of group %s did not end well", self._group)
            finally:
                self.owned = frozenset()
                self._send_commits()
                self._call(_resolve, self.ended)

    def _step(self) -> None:
        self._place.settle()
        if self._subscribed and self._is_forgotten():
            self._begin_anew()
        silent = self._is_silent()
        if self._subscribed and (silent or self._rejoin_because):
            self._leave(because=self._rejoin_because or "nobody polls")
        elif not self._subscribed and not silent and self._may_join():
            self._join()
        self._send_commits()
        self._seek()
        self._resume_stopped()
        if self._waiting() >= self._bound and not self._full:
            self._wait_for_room()
            return
        message = self._rd.poll(_STOPPED_POLL_SECONDS if self._stopped else _IDLE_POLL_SECONDS)
        if message is not None:
            # Asking for many at once, with a timeout, would wait for that many.
            self._hand_over([message, *self._rd.consume(FETCH_AT_ONCE - 1, 0)])

    def _send_commits(self) -> None:
        while self._to_commit:
            offsets, sent = self._to_commit.popleft()
            mine = {partition: offset for partition, offset in offsets.items() if partition in self.owned}
            error: KafkaException | None = None
            if mine:
                try:
                    self._rd.commit(offsets=_to_rd(mine), asynchronous=True)
                except KafkaException as refusal:
                    error = refusal
                except RuntimeError as closed:  # the consumer ended before this was sent
                    error = KafkaException(KafkaError(KafkaError._STATE, str(closed)))
            self._call(sent, mine, error)

    def _seek(self) -> None:
        while self._to_seek:
            partition, offset, sought = self._to_seek.popleft()
            error: KafkaException | None = None
            is_owned = partition in self.owned
            if is_owned:
                try:
                    # librdkafka's own seek refuses a partition that it has stopped to fetch.
                    self._rd.incremental_unassign([RdTopicPartition(*partition)])
                    self._rd.incremental_assign([RdTopicPartition(*partition, offset)])
                except KafkaException as refusal:
                    error = refusal
            self._call(functools.partial(sought, error, is_owned=is_owned))

    def _is_silent(self) -> bool:
        """Whether nobody polls. A poll that waits in a loop that does not run is no sign of life either."""
        now = time.monotonic()
        if self._polling and now - self._last_asked > self._session_seconds / 4:
            self._last_asked = now
            self._call(self._answer_alive)
        return now - self._last_sign > self._session_seconds

    def _answer_alive(self) -> None:
        if self._polling:
            self._last_sign = time.monotonic()

    def _may_join(self) -> bool:
        return not (self._fenced or self._refused_at_poll == self._polls or time.monotonic() < self._join_after)

    def _join(self) -> None:
        for topic in self._topics:
            try:
                found = self._rd.list_topics(topic, 1.0).topics[topic]
            except KafkaException as error:
                logger.info("group %s cannot look for topic %s yet: %s", self._group, topic, error)
                return
            if found.error is not None and found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                # The next poll looks again.
                self._refused_at_poll = self._polls
                self._tell_failure(UnknownTopic(topic))
                return
        self._rd.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        self._subscribed = True

    def _leave(self, *, because: str) -> None:
        logger.warning("leaving group %s: %s", self._group, because)
        self._lose(self.owned)
        self._rejoin_because = ""
        self._subscribed = False
        self._rd.unsubscribe()

    def _waiting(self) -> int:
        return self._handed - self._handover.settled

    def _wait_for_room(self) -> None:
        """The buffer is full: give `poll` a moment, then stop fetching so that only rebalances come."""
        deadline = time.monotonic() + _NO_ROOM_SECONDS
        self.waits_for_room = True
        while not self._stopping:
            self._room.clear()
            if self._waiting() < self._bound:
                break
            if not self._room.wait(max(0.0, deadline - time.monotonic())):
                self._full = True
                self._stop_fetching(self.owned)
                break
            self._send_commits()
        self.waits_for_room = False

    def _stop_fetching(self, partitions: Iterable[TopicPartition]) -> None:
        fresh = set(partitions) - self._stopped
        if fresh:
            self._rd.pause([RdTopicPartition(*each) for each in fresh])
            self._stopped |= fresh

    def _resume_stopped(self) -> None:
        if self._full and self._waiting() <= self._bound // 2:
            self._full = False
        if self._full or not self._stopped:
            return
        resumed = self._stopped - self._handover.paused
        if resumed:
            self._rd.resume([RdTopicPartition(*each) for each in resumed])
            self._stopped -= resumed

    def _hand_over(self, messages: list[Message]) -> None:
        owned = self.owned
        good: list[Message] = []
        for message in messages:
            if message.error() is not None:
                self._note_error(message)
                if not self._subscribed:
                    return  # it was fatal: nothing is owned any more
            elif (message.topic(), message.partition()) in owned:
                good.append(message)
        if not good:
            return
        records = to_records(good)
        self._handed += len(records)
        self._call(self._listener.received, records)
        size = sum(len(record.value) for record in records if record.value is not None) // len(records)
        self._bound = max(10, min(_MOST_RECORDS, _MOST_BYTES // (size + 1)))
        paused = self._handover.paused
        if paused or self._full:
            # Only now: a pause that ends before its partition brought anything costs no refetch.
            seen = {record.topic_partition for record in records}
            self._stop_fetching(seen if self._full else seen & paused)

    def _note_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        topic, number = message.topic(), message.partition()
        partition = None if topic is None or number is None or number < 0 else TopicPartition(topic, number)
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._end_for_good(error)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:
            if partition is not None and partition in self.owned:
                self._call(self._listener.stands_still, partition, self._out_of_range(partition, message))
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART and topic is not None:
            self._tell_failure(UnknownTopic(topic))
        elif is_final(error):
            self._tell_failure(log_error(error, doing=f"consumer of group {self._group}"))
        else:
            logger.info("consumer of group %s: %s", self._group, describe(error))

    def _out_of_range(self, partition: TopicPartition, message: Message) -> OffsetOutOfRange:
        """librdkafka has stopped to fetch the partition: what is known of its position and what it keeps."""
        topic, number = partition
        offset = message.offset()
        low = high = None
        with contextlib.suppress(KafkaException):  # then it is not known
            low, high = self._rd.get_watermark_offsets(RdTopicPartition(topic, number), timeout=_WATERMARK_SECONDS)
        return OffsetOutOfRange(
            f"group {self._group} cannot read {topic}[{number}] from {offset}; it keeps offsets {low} to {high}",
            topic=topic,
            partition=number,
            offset=offset if offset is not None and offset >= 0 else None,
            low=low,
            high=high,
        )

    def _end_for_good(self, error: KafkaError) -> None:
        """librdkafka's consumer is over.

        The classic protocol has one reason: another static member of this name took the place, be it this one's
        own after it was cut off. KIP-848 turns the second one away instead, until the first one's session has
        ended; and it may refuse the whole group.
        """
        logger.warning("the consumer of group %s ended: %s", self._group, describe(error))
        self._lose(self.owned)
        self._subscribed = False
        classic = self._config["group.protocol"] == "classic"
        if classic and not self._place.may_return():
            self._fenced = True
            text = f"another member of group {self._group} took this instance's place: {error.str()}"
            self._tell_failure(NotAssigned(text), for_good=True)
            return
        if not classic and _STILL_IN_USE not in error.str():
            self._tell_failure(LogError(f"consumer of group {self._group}: {error.str()}"))
        self._renew_client()
        self._place.returned()

    def _renew_client(self) -> None:
        self._rd.close()
        self._rd = make_client(RdConsumer, self._config)
        self._stopped.clear()
        self._lost_at = None
        self._join_after = time.monotonic() + _REJOIN_SECONDS

    def _is_forgotten(self) -> bool:
        """Whether its partitions were lost long ago and librdkafka has not joined again.

        Seen with librdkafka 2.16: a coordinator that moved while it was asked never answered, and was not asked again.
        """
        patience = max(_FORGOTTEN_SECONDS, 3 * self._session_seconds)
        return self._lost_at is not None and time.monotonic() - self._lost_at > patience

    def _begin_anew(self) -> None:
        logger.warning("group %s: lost its partitions and was given none since; a new client joins", self._group)
        self._lose(self.owned)
        self._subscribed = False
        self._renew_client()

    # -- librdkafka's callbacks: in the thread, inside poll, consume or close; none may raise

    def _on_assign(self, rd: RdConsumer, partitions: list[RdTopicPartition]) -> None:
        # Without an assign here the binding makes it, at the offsets it finds; nothing of it is owned then.
        if not self._subscribed or self._stopping:
            return
        self._lost_at = None
        try:
            rd.incremental_assign(self._starts(rd, partitions))
            # librdkafka keeps a pause beyond the revocation of its partition.
            rd.resume(partitions)
        except KafkaException as error:
            self._rejoin_because = f"assignment failed: {error}"
            return
        mine = _from_rd(partitions)
        self._stopped -= mine
        self.owned |= mine
        self._place.joined()
        self._call(self._listener.assigned, sorted(mine))

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
                if self._stopping or time.monotonic() > deadline:
                    raise
                time.sleep(_IDLE_POLL_SECONDS)

    def _on_revoke(self, _rd: RdConsumer, partitions: list[RdTopicPartition]) -> None:
        mine = _from_rd(partitions) & self.owned
        if not mine:
            return
        offsets = self._ask_back(mine)
        if offsets:
            # Queued before the revocation: librdkafka sends it, and waits for it, before it joins again.
            with contextlib.suppress(KafkaException):  # then they are read again: at least once
                self._rd.commit(offsets=_to_rd(offsets), asynchronous=True)
        self.owned -= mine
        self._stopped -= mine

    def _on_lost(self, _rd: RdConsumer, partitions: list[RdTopicPartition]) -> None:
        self._place.lost()
        self._lost_at = time.monotonic()
        self._lose(_from_rd(partitions) & self.owned)

    def _on_commit(self, error: KafkaError | None, partitions: list[RdTopicPartition]) -> None:
        self._call(self._listener.committed, error, partitions)

    def _lose(self, partitions: frozenset[TopicPartition]) -> None:
        if not partitions:
            return
        self.owned -= partitions
        self._stopped -= partitions
        self._call(self._listener.lost, sorted(partitions))

    def _ask_back(self, partitions: frozenset[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Ask the loop for these partitions; the offsets to commit, none if it does not answer in time."""
        answer: concurrent.futures.Future[Mapping[TopicPartition, int]] = concurrent.futures.Future()

        def ask() -> None:
            if not answer.set_running_or_notify_cancel():
                self._listener.lost(sorted(partitions))
                return
            try:
                answer.set_result(self._listener.revoked(sorted(partitions)))
            except Exception as error:
                answer.set_exception(error)

        if not self._call(ask):
            return {}
        try:
            # The second wait is for an answer that began within the deadline; `revoked` returns quickly.
            with contextlib.suppress(TimeoutError):
                return answer.result(_REVOKE_SECONDS)
            if answer.cancel():
                logger.warning("group %s: the event loop did not give partitions back in time", self._group)
                return {}
            return answer.result(_REVOKE_SECONDS)
        except Exception:
            logger.exception("group %s: giving partitions back failed; nothing is committed", self._group)
            return {}

    # -- towards the loop

    def _tell_failure(self, error: LogError, *, for_good: bool = False) -> None:
        if isinstance(error, LogUnavailable):
            # `poll` waits through an outage; whoever needs to know asks an admin client.
            logger.info("%s", error)
            return
        self._call(lambda: self._listener.failed(error, for_good=for_good))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop was closed without closing this consumer: nobody will poll again.
            self._stopping = True
            return False
        return True


def _to_rd(offsets: Mapping[TopicPartition, int]) -> list[RdTopicPartition]:
    return [RdTopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]


def _from_rd(partitions: Iterable[RdTopicPartition]) -> frozenset[TopicPartition]:
    return frozenset(TopicPartition(each.topic, each.partition) for each in partitions)


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)

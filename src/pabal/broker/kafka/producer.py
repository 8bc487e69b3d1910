"""Appending to Kafka: librdkafka's producer with one thread of its own.

The thread only waits for delivery reports. It gathers the reports that arrive together and hands them to the event
loop in one call; each `append` is one future however many records it has. Nothing hops threads per record.

librdkafka ends an idempotent producer for good (a *fatal error*) when it can no longer prove the order or the
uniqueness of what it sends. Records that timed out are no such case: it skips them and goes on under a new
epoch. After a fatal error the records under way fail with `LogUnavailable` and the next append gets a new producer.
"""

import asyncio
import functools
import threading
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as RdProducer

from pabal.broker.kafka.client import (
    KafkaSettings,
    cause,
    describe,
    is_refusal,
    is_to_blame,
    log_error,
    logger,
    make_client,
    size_of,
)
from pabal.broker.port import NewRecord, Position
from pabal.errors import Closed, LogError, LogUnavailable, RecordRefused, UnknownTopic

_POLL_SECONDS = 0.03
"""Bounds how long `close` waits for the thread to look up; reports end the poll at once."""

_CONNECT_SECONDS = 0.005


class KafkaProducer:
    """See `pabal.broker.port.Producer`. A handle: the work is done by a producer it shares with others."""

    def __init__(self, shared: "SharedProducer") -> None:
        self._shared = shared
        self._under_way = 0
        self._idle = asyncio.Event()
        self._closed = False

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """See `Producer.append`."""
        if self._closed:
            raise Closed("this producer was closed")
        self._under_way += 1
        try:
            return await self._shared.append(records)
        finally:
            self._under_way -= 1
            if self._closed and not self._under_way:
                self._idle.set()

    async def close(self) -> None:
        """See `Producer.close`."""
        self._closed = True
        if self._under_way:
            await self._idle.wait()


class SharedProducer:
    """The producer of one broker object for one deadline."""

    def __init__(self, settings: KafkaSettings, *, deadline_seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._deadline_seconds = deadline_seconds
        self._config = settings.producer_config(deadline_seconds=deadline_seconds)
        self._engine = self._new_engine()
        self._batch_bytes = int(self._config["batch.size"])
        self._partition_counts: dict[str, int] = {}
        self._lookups: dict[str, asyncio.Task[int]] = {}
        self._closing: asyncio.Task[None] | None = None

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """See `Producer.append`."""
        if not records:
            return []
        append = _Append(records, self._loop.create_future(), batch_bytes=self._batch_bytes)
        try:
            if self._produce_at_once(append):
                # librdkafka reports within the deadline, one way or the other: the common way needs no timer of ours.
                return await append.answer
            async with asyncio.timeout(self._deadline_seconds):
                for record in records:
                    if not self._is_known(record):
                        await self._look_up(record)
                await self._send(append)
                return await append.answer
        except TimeoutError:
            raise LogUnavailable(f"Kafka did not acknowledge within {self._deadline_seconds:g} s") from None
        except UnknownTopic as error:
            self._partition_counts.pop(error.topic, None)
            raise

    def is_alive(self) -> bool:
        """Whether appends are answered."""
        return self._engine.is_alive()

    async def close(self) -> None:
        """Let what is under way finish within the deadline, then end."""
        if self._closing is None:
            self._closing = self._loop.create_task(self._engine.close(within_seconds=self._deadline_seconds))
        await asyncio.shield(self._closing)

    def _produce_at_once(self, append: "_Append") -> bool:
        """Whether every record could be given to librdkafka without looking anything up or waiting for room."""
        if self._closing is not None or not all(self._is_known(record) for record in append.records):
            return False
        try:
            self._engine.produce(append)
        except (BufferError, KafkaException):
            return False  # what is left goes the long way, which says what is wrong
        return True

    def _is_known(self, record: NewRecord) -> bool:
        count = self._partition_counts.get(record.topic, 0)
        return count > 0 and (record.partition is None or record.partition < count)

    async def _send(self, append: "_Append") -> None:
        """Give every record to librdkafka; wait for room in its queue if there is none."""
        while append.produced < len(append.records):
            if self._closing is not None:
                raise Closed("this producer was closed")
            try:
                self._engine.produce(append)
            except BufferError:
                await self._engine.wait_for_room()
            except KafkaException as error:
                if not self._engine.has_failed(cause(error)):
                    raise append.error(cause(error), append.produced, is_alone=True) from error
                if append.produced:
                    raise LogUnavailable("the producer failed in the middle of this append") from error
                self._replace_engine(cause(error))

    def _new_engine(self) -> "_Engine":
        return _Engine(make_client(RdProducer, self._config), self._loop)

    def _replace_engine(self, error: KafkaError) -> None:
        logger.warning("the idempotent producer ended, starting a new one: %s", error.str())
        self._engine.abandon()
        self._engine = self._new_engine()

    async def _look_up(self, record: NewRecord) -> None:
        """Learn how many partitions the record's topic has; refuse what does not exist.

        Sending to a topic that is not there would keep the record until its timeout.
        """
        lookup = self._lookups.get(record.topic)
        if lookup is None:
            lookup = self._lookups[record.topic] = self._loop.create_task(self._count_partitions(record.topic))
        # Shielded: other appends wait for the same answer.
        count = await asyncio.shield(lookup)
        if record.partition is not None and record.partition >= count:
            raise LogError(f"topic {record.topic!r} has no partition {record.partition}")

    async def _count_partitions(self, topic: str) -> int:
        try:
            count = await asyncio.to_thread(self._engine.count_partitions, topic, self._deadline_seconds)
        except KafkaException as error:
            raise log_error(cause(error), doing=f"cannot look up topic {topic!r}", topic=topic) from error
        finally:
            del self._lookups[topic]
        self._partition_counts[topic] = count
        return count


class _Append:
    """One call of `append`: its records, and the reports that came back so far."""

    __slots__ = ("answer", "batch_bytes", "failure", "positions", "produced", "records", "refused", "reported")

    def __init__(
        self, records: Sequence[NewRecord], answer: asyncio.Future[Sequence[Position]], *, batch_bytes: int
    ) -> None:
        self.records = records
        self.answer = answer
        self.batch_bytes = batch_bytes
        self.produced = 0
        self.refused: list[int] = []
        self.reported = 0
        self.positions: list[Position] = [_NOWHERE] * len(records)
        self.failure: LogError | None = None

    def report(self, index: int, error: KafkaError | None, message: Message) -> bool:
        """Note one delivery report; True when it was the last. Never raises: a report that is lost would never come
        again, and its append would wait for ever."""
        try:
            self._note(index, error, message)
        except Exception as defect:
            logger.exception("a delivery report of Kafka's cannot be understood")
            self.failure = self.failure or LogUnavailable(f"it is not known whether Kafka has taken it: {defect}")
        self.reported += 1
        return self.reported == len(self.records)

    def _note(self, index: int, error: KafkaError | None, message: Message) -> None:
        if error is None:
            topic = self.records[index].topic
            self.positions[index] = Position(topic, message.partition(), message.offset())  # type: ignore[arg-type]
            return
        failure = self.error(error, index)
        # The first failure is told, but what can never be written before what may be tried again.
        if self.failure is None or (isinstance(failure, RecordRefused) and not self.refused):
            self.failure = failure
        if isinstance(failure, RecordRefused):
            self.refused.append(index)

    def error(self, error: KafkaError, index: int, *, is_alone: bool = False) -> LogError:
        """`error` about the record at `index`, in the port's words. `is_alone`: it shares the error with no other."""
        record = self.records[index]
        if error.code() == KafkaError._UNKNOWN_PARTITION:
            return LogError(f"topic {record.topic!r} has no partition {record.partition}")
        if is_refusal(error):
            what = f"topic {record.topic!r} does not take a record of {size_of(record)} bytes: {describe(error)}"
            if is_alone or is_to_blame(record, error, batch_bytes=self.batch_bytes):
                return RecordRefused(what, indexes=[index])
            return LogUnavailable(f"{what}, or one in the same batch")
        return log_error(error, doing=f"cannot append to {record.topic!r}", topic=record.topic)

    def settle(self) -> None:
        """Answer the caller, if it still waits. In the loop."""
        if self.answer.done():
            return
        if self.refused:
            self.answer.set_exception(RecordRefused(str(self.failure), indexes=sorted(self.refused)))
        elif self.failure is not None:
            self.answer.set_exception(self.failure)
        else:
            self.answer.set_result(self.positions)


_NOWHERE = Position("", -1, -1)


class _Engine:
    """One librdkafka producer and the thread that takes its reports."""

    def __init__(self, rd: RdProducer, loop: asyncio.AbstractEventLoop) -> None:
        self._rd = rd
        self._loop = loop
        self._finished: list[_Append] = []
        self._room: asyncio.Future[None] | None = None
        self._waits_for_room = False
        self._is_new = True
        self._flush_seconds: float | None = None
        self._ended = loop.create_future()
        self._thread = threading.Thread(target=self._run, name="pabal-kafka-producer", daemon=True)
        self._thread.start()

    def produce(self, append: _Append) -> None:
        """Queue the records of `append` from the first that is not yet.

        Raises:
            BufferError: the queue is full.
            KafkaException: the record at `append.produced` cannot be taken.
        """
        produce, report = self._rd.produce, self._report
        for index in range(append.produced, len(append.records)):
            record = append.records[index]
            partition = -1 if record.partition is None else record.partition
            on_delivery = functools.partial(report, append, index)
            headers = list(record.headers) if record.headers else None
            # By position: topic, value, key, partition, callback, on_delivery, timestamp, headers.
            produce(record.topic, record.value, record.key, partition, on_delivery, None, 0, headers)  # type: ignore[arg-type]
            append.produced = index + 1

    async def wait_for_room(self) -> None:
        """Return when some reports came in, or to look again soon: the last may have come before this call."""
        if self._room is None or self._room.done():
            self._room = self._loop.create_future()
        self._waits_for_room = True
        await asyncio.wait((self._room,), timeout=_POLL_SECONDS)

    def count_partitions(self, topic: str, timeout_seconds: float) -> int:
        """How many partitions a topic has. Blocks; call it in a thread.

        Raises:
            KafkaException: there is no such topic, or no answer.
        """
        found = self._rd.list_topics(topic, timeout_seconds).topics[topic]
        if self._is_new:
            # librdkafka asks for its producer id whenever metadata arrive and a broker is connected, else every
            # half second: the first answer comes before the connection, so a second one saves that wait.
            self._is_new = False
            time.sleep(_CONNECT_SECONDS)
            found = self._rd.list_topics(topic, timeout_seconds).topics[topic]
        # Just made, leaders not chosen yet: the topic exists.
        if found.error is not None and found.error.code() != KafkaError.LEADER_NOT_AVAILABLE:
            raise KafkaException(found.error)
        return len(found.partitions)

    def is_alive(self) -> bool:
        """Whether reports are still taken; also true after an end that was asked for."""
        return self._thread.is_alive() or self._flush_seconds is not None

    def has_failed(self, error: KafkaError) -> bool:
        """Whether this producer is over (and not only this record)."""
        return error.fatal() or error.code() == KafkaError._FATAL

    def abandon(self) -> None:
        """Fail what is under way and end, without waiting for it."""
        self._flush_seconds = 0.0

    async def close(self, *, within_seconds: float) -> None:
        """Let what is under way finish, fail what is left then, end the thread."""
        self._flush_seconds = within_seconds
        await asyncio.shield(self._ended)

    def _report(self, append: _Append, index: int, error: KafkaError | None, message: Message) -> None:
        # In the thread, inside poll.
        if append.report(index, error, message):
            self._finished.append(append)

    def _run(self) -> None:
        poll = self._rd.poll
        while self._flush_seconds is None:
            try:
                if poll(_POLL_SECONDS):
                    self._hand_over()
            except Exception:
                # The other reports must go on coming.
                logger.exception("taking Kafka's delivery reports failed")
                time.sleep(_POLL_SECONDS)
        try:
            self._rd.flush(self._flush_seconds)
            self._rd.purge(in_queue=True, in_flight=True)
            self._rd.close()
        except Exception:
            logger.exception("ending a Kafka producer failed")
        finally:
            self._hand_over()
            self._call(_resolve, self._ended)

    def _hand_over(self) -> None:
        if self._finished:
            finished, self._finished = self._finished, []
            self._call(self._settle, finished)
        elif self._waits_for_room:
            self._call(self._settle, ())

    def _settle(self, finished: Sequence[_Append]) -> None:
        for append in finished:
            append.settle()
        if self._waits_for_room and self._room is not None:
            self._waits_for_room = False
            _resolve(self._room)

    def _call(self, function: object, argument: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, argument)  # type: ignore[arg-type]
        except RuntimeError:
            # The loop is closed: no task waits any more.
            logger.debug("the event loop ended before its Kafka producer")


def _resolve(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)

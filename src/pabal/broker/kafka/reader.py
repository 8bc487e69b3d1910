"""Reading Kafka without a group: a range of one partition, by offset or time."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from confluent_kafka import Consumer as RdConsumer
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import TopicPartition as RdTopicPartition

from pabal.broker.kafka.client import FETCH_AT_ONCE, KafkaSettings, cause, log_error, make_client, to_records
from pabal.broker.port import Record, TopicPartition
from pabal.errors import Closed, LogUnavailable, OffsetOutOfRange, UnknownTopic

_ANSWER_SECONDS = 5.0
"""How long one question, or the next batch, may take."""

T = TypeVar("T")


class KafkaReader:
    """See `pabal.broker.port.Reader`. Several `read`s may run at once, each on a client of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._clients: set[_Client] = set()
        self._idle: list[_Client] = []
        self._closed = False

    async def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """See `Reader.read`."""
        self._check_open()
        client = self._take_client()
        try:
            first, end = await client.run(client.open_range, partition, start, stop)
            while first < end:
                records, first = await client.run(client.next_batch, partition, first, end)
                self._check_open()
                if records:
                    yield records
        except KafkaException as error:
            doing = f"cannot read {partition.topic}[{partition.partition}]"
            raise log_error(cause(error), doing=doing, topic=partition.topic) from error
        finally:
            self._give_back(client)

    async def close(self) -> None:
        """See `Reader.close`."""
        self._closed = True
        self._idle.clear()
        clients, self._clients = self._clients, set()
        await asyncio.gather(*(client.close() for client in clients))

    def _take_client(self) -> "_Client":
        if self._idle:
            return self._idle.pop()
        client = _Client(self._settings)
        self._clients.add(client)
        return client

    def _give_back(self, client: "_Client") -> None:
        # Queued behind a call that a cancelled reader left running.
        client.release()
        if client in self._clients:
            self._idle.append(client)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this reader was closed")


class _Client:
    """One librdkafka consumer without a group, and the thread that uses it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._rd: RdConsumer = make_client(RdConsumer, settings.reader_config())
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pabal-kafka-reader")

    async def run(self, function: Callable[..., T], *arguments: object) -> T:
        """Run a blocking call in the thread."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, functools.partial(function, *arguments))
        except RuntimeError as error:
            # librdkafka's and the executor's way to say it; `close` came while a read was under way.
            raise Closed("this reader was closed") from error

    def release(self) -> None:
        """Stop fetching, so that the client can be used again."""
        try:
            self._thread.submit(self._unassign)
        except RuntimeError:
            return  # closed meanwhile

    async def close(self) -> None:
        """End the client and its thread."""
        closed = self._thread.submit(self._rd.close)
        self._thread.shutdown(wait=False)
        await asyncio.wrap_future(closed)

    # -- in the thread

    def open_range(self, partition: TopicPartition, start: int | datetime | None, stop: int | None) -> tuple[int, int]:
        """Begin to fetch from `start`; the first offset and the end of the range.

        Raises:
            KafkaException, UnknownTopic, OffsetOutOfRange
        """
        found = self._rd.list_topics(partition.topic, _ANSWER_SECONDS).topics[partition.topic]
        if found.error is not None:
            raise KafkaException(found.error)
        if partition.partition not in found.partitions:
            raise UnknownTopic(f"{partition.topic}[{partition.partition}]")
        where = RdTopicPartition(*partition)
        watermarks = self._rd.get_watermark_offsets(where, timeout=_ANSWER_SECONDS)
        if watermarks is None:
            raise LogUnavailable(f"no answer about the watermarks of {partition.topic}")
        low, high = watermarks
        end = high if stop is None else min(stop, high)
        match start:
            case None:
                first = low
            case datetime():
                first = self._first_since(where, start, otherwise=high)
            case _:
                first = start
        if first < low:
            text = f"offset {first} of {partition.topic}[{partition.partition}] was deleted; the first kept is {low}"
            topic, number = partition
            raise OffsetOutOfRange(text, topic=topic, partition=number, offset=first, low=low, high=high)
        if first < end:
            where.offset = first
            self._rd.assign([where])
        return first, end

    def next_batch(self, partition: TopicPartition, first: int, end: int) -> tuple[list[Record], int]:
        """The next records of the range and where to go on: at `end` when there are no more."""
        message = self._rd.poll(_ANSWER_SECONDS)
        if message is None:
            raise LogUnavailable(f"no records of {partition.topic}[{partition.partition}] from {first} came in time")
        messages = [message, *self._rd.consume(FETCH_AT_ONCE - 1, 0)]
        good: list[Message] = []
        for each in messages:
            error, offset = each.error(), each.offset()
            if each.topic() is not None and (each.topic(), each.partition()) != partition:
                continue  # what a former read left behind
            if error is None and offset is not None:
                if first <= offset < end:
                    good.append(each)
                first = max(first, min(offset + 1, end))
            elif error is not None and error.code() == KafkaError._PARTITION_EOF:
                # Nothing more: compaction or a transaction's mark took the last offsets.
                first = end
            elif error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                topic, number = partition
                raise OffsetOutOfRange(f"{topic}[{number}]: {error.str()}", topic=topic, partition=number, offset=first)
            elif error is not None and error.code() != KafkaError._ALL_BROKERS_DOWN:
                raise KafkaException(error)
        return to_records(good), first

    def _first_since(self, where: RdTopicPartition, time: datetime, *, otherwise: int) -> int:
        where.offset = int(time.timestamp() * 1000)
        [found] = self._rd.offsets_for_times([where], timeout=_ANSWER_SECONDS)
        if found.error is not None:
            raise KafkaException(found.error)
        return found.offset if found.offset >= 0 else otherwise

    def _unassign(self) -> None:
        self._rd.unassign()

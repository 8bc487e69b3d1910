"""The log in one SQLite file: for one host, nothing to install, durable.

`SqliteBroker` implements `pabal.broker.port.Broker`. Several processes may open one file at once. What it promises
and what not is on one page, `docs/log.md`; how it works is told where it happens:

* `storage.py` the file · `batches.py` how records lie in it · `topics.py` shaping topics
* `writer.py` group commit · `database_thread` threads beside a busy event loop
* `groups.py` members, leases, fencing · `sharing.py` who gets what · `consumer.py` polling
* `membership.py`, `owned.py`, `signs.py`, `waker.py` the parts of a consumer
* `view.py` what is known without asking the disk · `doorbell.py` waking other processes
* `cleaning.py` retention and compaction · `keeper.py` leases and upkeep · `log.py` holds it together
"""

import asyncio
import itertools
import math
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self, TypeVar
from weakref import WeakSet

from pabal.broker.port import (
    Assignment,
    Cluster,
    GroupMembers,
    NewRecord,
    Position,
    Record,
    TopicPartition,
    TopicSpec,
    Watermarks,
)
from pabal.broker.sqlite import groups, topics
from pabal.broker.sqlite.batches import Span
from pabal.broker.sqlite.cleaning import try_to_write
from pabal.broker.sqlite.consumer import SqliteConsumer
from pabal.broker.sqlite.log import OpenLog
from pabal.broker.sqlite.storage import Storage
from pabal.clock import Clock
from pabal.errors import Closed, LogUnavailable, OffsetOutOfRange, UnknownTopic
from pabal.private_files import make_private_file, make_private_folder

_READ_BYTES = 1 << 20

_C = TypeVar("_C", bound="_LogClient")


class SqliteBroker:
    """See `pabal.broker.port.Broker`. Make one with `open`, in the event loop it is to live in."""

    def __init__(self, log: OpenLog) -> None:
        self._log = log
        self._consumers: set[SqliteConsumer] = set()
        """Kept until they are closed: a consumer that was forgotten would hold its partitions until its lease ends."""
        self._clients: WeakSet[_LogClient] = WeakSet()
        """These need no closing if they are forgotten."""
        self._closing: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, *, clock: Clock, session_seconds: float = 6.0) -> Self:
        """Open the log in `path`; make it if there is none (its directory too).

        Args:
            path: the file. SQLite keeps `-wal` and `-shm` beside it, and the log a directory `-wake`.
            clock: for timestamps, retention and leases.
            session_seconds: how long a member of a group may give no sign of life. The same in all processes.

        Raises:
            LogError: the file is something else, or a log of another version.
            LogUnavailable: it cannot be opened.
        """
        try:
            storage = await asyncio.to_thread(_prepare, path, clock)
            return cls(OpenLog(storage, clock=clock, session_seconds=session_seconds))
        except (OSError, ValueError) as error:
            raise LogUnavailable(f"the log {path} cannot be opened: {error}") from error

    def producer(self, *, deadline_seconds: float = 5.0) -> "SqliteProducer":
        """See `Broker.producer`."""
        return self._keep(SqliteProducer(self._log, deadline_seconds=deadline_seconds))

    def consumer(
        self, group: str, topics: Sequence[str], assignment: Assignment, *, instance: str | None = None
    ) -> SqliteConsumer:
        """See `Broker.consumer`."""
        self._check_open()
        closed = self._consumers.discard
        consumer = SqliteConsumer(self._log, group, topics, assignment, instance=instance, closed=closed)
        self._consumers.add(consumer)
        return consumer

    def reader(self) -> "SqliteReader":
        """See `Broker.reader`."""
        return self._keep(SqliteReader(self._log))

    def admin(self) -> "SqliteAdmin":
        """See `Broker.admin`."""
        return self._keep(SqliteAdmin(self._log))

    def ailments(self) -> Sequence[str]:
        """See `Broker.ailments`."""
        return [] if self._closing is not None else self._log.ailments()

    async def clean(self) -> None:
        """Apply retention and compaction now. It happens by itself about once a minute."""
        self._check_open()
        await self._log.clean(is_due_only=False)

    async def close(self) -> None:
        """See `Broker.close`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        clients = [client.close() for client in self._clients]
        await asyncio.gather(*clients, *[consumer.close() for consumer in self._consumers])
        await self._log.close()

    def _keep(self, client: _C) -> _C:
        self._check_open()
        self._clients.add(client)
        return client

    def _check_open(self) -> None:
        if self._closing is not None:
            raise Closed("this broker was closed")


class _LogClient:
    """What the clients have in common: after `close` they refuse."""

    def __init__(self, log: OpenLog) -> None:
        self._log = log
        self._is_closed = False

    async def close(self) -> None:
        """Let go."""
        self._is_closed = True

    def _check_open(self) -> None:
        if self._is_closed:
            raise Closed(f"this {type(self).__name__} was closed")


class SqliteProducer(_LogClient):
    """See `pabal.broker.port.Producer`."""

    def __init__(self, log: OpenLog, *, deadline_seconds: float) -> None:
        super().__init__(log)
        self._deadline_seconds = deadline_seconds
        self._turns = itertools.count()

    async def append(self, records: Sequence[NewRecord]) -> Sequence[Position]:
        """See `Producer.append`."""
        self._check_open()
        if not records:
            return ()
        try:
            partitions = self._place(records)
        except UnknownTopic:
            # Another process may have made it a moment ago.
            await self._log.learn_catalogue()
            partitions = self._place(records)
        offsets = await self._log.writer.append(partitions, records, deadline_seconds=self._deadline_seconds)
        names = self._log.view.partitions
        return [Position(*names[partition], offset) for partition, offset in zip(partitions, offsets, strict=True)]

    async def close(self) -> None:
        """See `Producer.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._log.writer.run(lambda _: None, deadline_seconds=self._deadline_seconds)
        except LogUnavailable:
            return  # the tasks that wait for their appends are told; there is nothing else to let go

    def _place(self, records: Sequence[NewRecord]) -> list[int]:
        """The partition of each record: as told, by its key, or one for all of this call without either."""
        turn = next(self._turns)
        places = []
        for record in records:
            identifiers = self._log.view.identifiers(record.topic)
            if record.partition is not None:
                name = TopicPartition(record.topic, record.partition)
                places.append(self._log.view.identifier(name))
            else:
                # librdkafka's default for keys, so that a log moved to Kafka keeps its keys' company.
                number = turn if record.key is None else zlib.crc32(record.key)
                places.append(identifiers[number % len(identifiers)])
        return places


class SqliteReader(_LogClient):
    """See `pabal.broker.port.Reader`."""

    async def read(
        self, partition: TopicPartition, *, start: int | datetime | None = None, stop: int | None = None
    ) -> AsyncIterator[Sequence[Record]]:
        """See `Reader.read`."""
        self._check_open()
        identifier = await self._log.find(partition)
        low, high = await self._log.read(partial(_watermarks, identifier=identifier))
        stop = high if stop is None else min(stop, high)
        if start is None:
            start = low
        elif isinstance(start, datetime):
            start = await self._log.read(partial(_find_offset, identifier=identifier, at=start))
        elif start < low:
            text = f"{partition.topic}/{partition.partition} begins at {low}, not {start}"
            topic, number = partition
            raise OffsetOutOfRange(text, topic=topic, partition=number, offset=start, low=low, high=high)
        while start < stop:
            self._check_open()
            query = partial(_read, identifier=identifier, name=partition, start=start, stop=stop)
            span = await self._log.read(query)
            start = span.next
            if span.records:
                yield span.records


class SqliteAdmin(_LogClient):
    """See `pabal.broker.port.Admin`."""

    async def topics(self) -> Mapping[str, TopicSpec]:
        """See `Admin.topics`."""
        self._check_open()
        return (await self._log.learn_catalogue()).topics

    async def create_topic(self, spec: TopicSpec) -> bool:
        """See `Admin.create_topic`."""
        self._check_open()
        is_new = await self._log.write(partial(topics.create_topic, spec=spec))
        await self._log.learn_catalogue()
        return is_new

    async def add_partitions(self, topic: str, *, total: int) -> None:
        """See `Admin.add_partitions`."""
        self._check_open()
        await self._log.write(partial(topics.add_partitions, topic=topic, total=total))
        await self._log.learn_catalogue()

    async def configure_topic(self, spec: TopicSpec) -> None:
        """See `Admin.configure_topic`."""
        self._check_open()
        await self._log.write(partial(topics.configure_topic, spec=spec))

    async def watermarks(self, *topics: str) -> Mapping[TopicPartition, Watermarks]:
        """See `Admin.watermarks`."""
        self._check_open()
        marks = (await self._log.read(Storage.pulse)).watermarks
        names = await self._names(marks)
        known = {name.topic for name in names.values()}
        for topic in topics:
            if topic not in known:
                raise UnknownTopic(topic)
        wanted = set(topics)
        return {name: marks[identifier] for identifier, name in names.items() if name.topic in wanted}

    async def check_writable(self, topics: Collection[str]) -> None:
        """See `Admin.check_writable`: something small is written, with all that a commit takes."""
        self._check_open()
        known = (await self._log.learn_catalogue()).topics
        for topic in topics:
            if topic not in known:
                raise UnknownTopic(topic)
        await self._log.write(try_to_write)

    async def committed(self, group: str, topics: Collection[str] | None = None) -> Mapping[TopicPartition, int]:
        """See `Admin.committed`."""
        self._check_open()
        offsets = await self._log.read(partial(_committed, group=group))
        names = await self._names(offsets)
        return {
            names[identifier]: offset
            for identifier, offset in offsets.items()
            if topics is None or names[identifier].topic in topics
        }

    async def members(self, groups: Collection[str]) -> Mapping[str, GroupMembers]:
        """See `Admin.members`. A member whose lease has ended is none, although no process has evicted it yet."""
        self._check_open()
        found = await self._log.read(Storage.members)
        names = await self._names([identifier for _, _, owned in found for identifier in owned])
        counts: Counter[str] = Counter()
        owners: dict[str, dict[TopicPartition, str]] = {group: {} for group in groups}
        for group, member, owned in found:
            if group in owners:
                counts[group] += 1
                owners[group].update({names[identifier]: member for identifier in owned})
        return {group: GroupMembers(members=counts[group], owners=owners[group]) for group in groups}

    async def cluster(self) -> Cluster:
        """See `Admin.cluster`: the file is named by its path."""
        self._check_open()
        return Cluster(id=f"sqlite:{self._log.path}", brokers=0, replicas={})

    async def _names(self, identifiers: Iterable[int]) -> Mapping[int, TopicPartition]:
        """The partition of each id, from memory unless another process made one since."""
        names = self._log.view.partitions
        if all(identifier in names for identifier in identifiers):
            return names
        return (await self._log.learn_catalogue()).partitions

    async def reset_offsets(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """See `Admin.reset_offsets`."""
        self._check_open()
        identified = {await self._log.find(name): offset for name, offset in offsets.items()}
        await self._log.write(partial(groups.reset_offsets, group=group, offsets=identified))


def _prepare(path: Path, clock: Clock) -> Storage:
    make_private_folder(path.parent)
    make_private_file(path)
    storage = Storage(path, clock=clock)
    try:
        storage.prepare()
    except BaseException:
        storage.close()
        raise
    return storage


def _read(storage: Storage, *, identifier: int, name: TopicPartition, start: int, stop: int) -> Span:
    return storage.read(identifier, name, start=start, stop=stop, size=_READ_BYTES)


def _watermarks(storage: Storage, *, identifier: int) -> Watermarks:
    return storage.watermarks(identifier)


def _find_offset(storage: Storage, *, identifier: int, at: datetime) -> int:
    return storage.find_offset(identifier, appended_ms=math.ceil(at.timestamp() * 1000))


def _committed(storage: Storage, *, group: str) -> dict[int, int]:
    return storage.committed(group)

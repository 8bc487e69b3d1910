"""The embedded log's file: its schema, its one kind of transaction, and reading from it.

A record is not a row. A group commit writes one *batch* per partition: a row whose id is the partition's id and
the first offset in one integer, so that a partition lies in one stretch of one B-tree and a range of offsets is
a range of ids. The payload is msgpack: the offsets within the batch (None while it is dense; compaction leaves
gaps), and key, value and headers of each record.

Nothing here knows the event loop: `_sqlite_thread` calls it from its threads, one connection in each.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from pabal.broker.port import Headers, NewRecord, Record, TopicPartition, TopicSpec, Watermarks
from pabal.clock import Clock
from pabal.errors import LogError, LogUnavailable, OffsetOutOfRange

OFFSET_BITS = 40
"""A batch's id is `partition << OFFSET_BITS | first offset`: a million million records per partition."""

_OFFSET_MASK = (1 << OFFSET_BITS) - 1
_APPLICATION_ID = 0x70616261  # "paba", so that `file` and a wrong path can be told (SQLite's application_id)
_SCHEMA_VERSION = 1
_SCHEMA = """
    CREATE TABLE topics (
        name TEXT PRIMARY KEY, retention_seconds INTEGER, compacted INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE partitions (
        id INTEGER PRIMARY KEY, topic TEXT NOT NULL, number INTEGER NOT NULL,
        low INTEGER NOT NULL DEFAULT 0, high INTEGER NOT NULL DEFAULT 0,
        appended_ms INTEGER NOT NULL DEFAULT 0,
        compacted_to INTEGER NOT NULL DEFAULT 0, compacted_ms INTEGER NOT NULL DEFAULT 0,
        UNIQUE (topic, number)
    );
    CREATE TABLE batches (
        id INTEGER PRIMARY KEY, span INTEGER NOT NULL, appended_ms INTEGER NOT NULL, payload BLOB NOT NULL
    );
    CREATE TABLE consumer_groups (name TEXT PRIMARY KEY, generation INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE members (
        id INTEGER PRIMARY KEY AUTOINCREMENT, group_name TEXT NOT NULL, instance TEXT, topics TEXT NOT NULL,
        process TEXT NOT NULL, boot_id TEXT NOT NULL, lease_ends REAL NOT NULL
    );
    CREATE TABLE progress (
        group_name TEXT NOT NULL, partition INTEGER NOT NULL, committed INTEGER,
        owner INTEGER, target INTEGER, epoch INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (group_name, partition)
    ) WITHOUT ROWID;
    CREATE TABLE chores (name TEXT PRIMARY KEY, done_ms INTEGER NOT NULL) WITHOUT ROWID;
"""

T = TypeVar("T")
Fields = tuple[bytes | None, bytes | None, Headers]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[int] | None, list[Fields]]).decode

_decode_ends = msgspec.json.Decoder(dict[int, int]).decode
_decode_generations = msgspec.json.Decoder(dict[str, int]).decode


class Append(NamedTuple):
    """What one call of `Producer.append` wants written: `partitions[i]` is the id of where `records[i]` goes."""

    partitions: Sequence[int]
    records: Sequence[NewRecord]


class Chunk(NamedTuple):
    """A batch just written, as its writer remembers it."""

    id: int
    appended_ms: int
    size: int
    records: Sequence[NewRecord]


class Written(NamedTuple):
    """What one transaction did."""

    offsets: Sequence[Sequence[int]]
    """Of each append, in order."""
    results: Sequence[Any]
    """Of each operation, in order: what it returned, or the error it raised."""
    chunks: Sequence[Chunk]
    generations: Mapping[str, int]
    """Groups whose members or shares changed."""
    has_new_partitions: bool


class Span(NamedTuple):
    """Records read from one partition: they, and whatever is missing, end right before offset `next`."""

    records: list[Record]
    next: int
    high: int
    """The partition's high watermark."""


class Catalogue(NamedTuple):
    """Every topic and partition, with all that changes about them, at one moment."""

    topics: Mapping[str, TopicSpec]
    partitions: Mapping[int, TopicPartition]
    watermarks: Mapping[int, Watermarks]
    generations: Mapping[str, int]


class Pulse(NamedTuple):
    """Every partition's high watermark and every group's generation."""

    ends: Mapping[int, int]
    generations: Mapping[str, int]


class Batch(NamedTuple):
    """A stored batch, decoded."""

    id: int
    span: int
    appended_ms: int
    size: int
    offsets: Sequence[int]
    fields: Sequence[Fields]

    @property
    def first(self) -> int:
        """The first offset it was written with."""
        return self.id & _OFFSET_MASK

    @property
    def end(self) -> int:
        """The offset after its last, whether that is still there or not."""
        return self.first + self.span


class Transaction:
    """The write transaction under way: what an operation may do."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self.clock = clock
        self.generations: dict[str, int] = {}
        self.has_new_partitions = False

    @property
    def now_ms(self) -> int:
        """The wall clock in milliseconds since the Unix epoch."""
        return _milliseconds(self.clock)

    def select(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self._connection.execute(sql, parameters).fetchall()

    def change(self, sql: str, *parameters: object) -> int:
        """Execute a change; how many rows it touched."""
        return self._connection.execute(sql, parameters).rowcount

    def change_many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """Execute a change for each row of parameters."""
        self._connection.executemany(sql, rows)

    def insert(self, sql: str, *parameters: object) -> int:
        """Insert one row; its id."""
        identifier = self._connection.execute(sql, parameters).lastrowid
        assert identifier is not None
        return identifier

    def bump_generation(self, group: str) -> int:
        """Note that a group's members or shares changed, so that its members look again."""
        [(generation,)] = self.select(
            "INSERT INTO consumer_groups VALUES (?, 1)"
            " ON CONFLICT DO UPDATE SET generation = generation + 1 RETURNING generation",
            group,
        )
        self.generations[group] = generation
        return int(generation)


Operation = Callable[[Transaction], T]


class Storage:
    """One connection to the log's file. Used by one thread at a time."""

    def __init__(self, path: Path, *, clock: Clock, busy_seconds: float = 0.25) -> None:
        self.path = path.absolute()
        self._clock = clock
        with self._translated():
            self._connection = sqlite3.connect(
                path, timeout=busy_seconds, isolation_level=None, check_same_thread=False
            )
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA journal_size_limit = 67108864")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def prepare(self) -> None:
        """Make a new file a log, or check that an old one is. Safe when several processes do it at once."""
        with self._translated():
            self._connection.execute("PRAGMA busy_timeout = 10000")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("BEGIN IMMEDIATE")
            [[application]] = self._connection.execute("PRAGMA application_id")
            [[version]] = self._connection.execute("PRAGMA user_version")
            [[tables]] = self._connection.execute("SELECT count(*) FROM sqlite_schema")
            if tables == 0:
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
            elif (application, version) != (_APPLICATION_ID, _SCHEMA_VERSION):
                self._connection.execute("ROLLBACK")
                raise LogError(f"{self.path} is not a log of this version of Pabal (or not a log at all)")
            self._connection.execute("COMMIT")
            self._connection.execute("PRAGMA busy_timeout = 250")

    def write(
        self,
        appends: Sequence[Append],
        operations: Sequence[Operation[Any]],
        *,
        is_abandoned: Callable[[], bool] = lambda: False,
    ) -> Written:
        """Do all of it in one durable transaction.

        Waits for other processes' transactions until `is_abandoned()`. An operation that raises a `LogError`
        is undone alone and its error is its result.

        Raises:
            LogUnavailable: nothing of it was written (the disk is full, the file cannot be written).
        """
        self._begin(is_abandoned)
        transaction = Transaction(self._connection, self._clock)
        with self._translated():
            offsets, chunks = self._append(appends, transaction)
            results = [self._operate(operation, transaction) for operation in operations]
            self._connection.execute("COMMIT")
        return Written(offsets, results, chunks, transaction.generations, transaction.has_new_partitions)

    def _begin(self, is_abandoned: Callable[[], bool]) -> None:
        while True:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if _is_busy(error) and not is_abandoned():
                    continue
                raise LogUnavailable(f"the log {self.path} is not available: {error}") from error
            return

    def _operate(self, operation: Operation[Any], transaction: Transaction) -> Any:
        self._connection.execute("SAVEPOINT operation")
        try:
            return operation(transaction)
        except LogError as error:
            self._connection.execute("ROLLBACK TO operation")
            return error
        finally:
            self._connection.execute("RELEASE operation")

    def _append(self, appends: Sequence[Append], transaction: Transaction) -> tuple[list[list[int]], list[Chunk]]:
        if not appends:
            return [], []
        records: dict[int, list[NewRecord]] = {}
        places: list[list[tuple[int, int]]] = []
        for append in appends:
            mine = []
            for partition, record in zip(append.partitions, append.records, strict=True):
                there = records.setdefault(partition, [])
                mine.append((partition, len(there)))
                there.append(record)
            places.append(mine)
        ends = transaction.select(
            "SELECT id, high, appended_ms FROM partitions WHERE id IN (SELECT value FROM json_each(?))",
            msgspec.json.encode(list(records)).decode(),
        )
        now = transaction.now_ms
        first: dict[int, int] = {}
        chunks = []
        rows = []
        for partition, high, appended_ms in ends:
            first[partition] = high
            # The wall clock may be set back; within a partition time must not (reading by time relies on it).
            at = max(now, appended_ms)
            payload = _encode((None, [(each.key, each.value, each.headers) for each in records[partition]]))
            rows.append((partition << OFFSET_BITS | high, len(records[partition]), at, payload))
            chunks.append(Chunk(partition << OFFSET_BITS | high, at, len(payload), records[partition]))
        transaction.change_many("INSERT INTO batches VALUES (?, ?, ?, ?)", rows)
        transaction.change_many(
            "UPDATE partitions SET high = high + ?, appended_ms = ? WHERE id = ?",
            [(span, at, identifier >> OFFSET_BITS) for identifier, span, at, _ in rows],
        )
        return [[first[partition] + index for partition, index in mine] for mine in places], chunks

    def read(self, partition: int, name: TopicPartition, *, start: int, stop: int | None = None, size: int) -> Span:
        """Records from offset `start`, about `size` bytes of them but at least one batch; to the end if no `stop`.

        Raises:
            OffsetOutOfRange: `start` is not between the watermarks.
        """
        records: list[Record] = []
        with self._snapshot():
            low, high = self._watermarks(partition)
            if not low <= start <= high:
                raise OffsetOutOfRange(
                    f"{name.topic}/{name.partition} keeps offsets {low} to {high}; {start} is not among them"
                )
            stop = high if stop is None else min(stop, high)
            for batch in self._batches(partition, start=start, stop=stop):
                records += _records(batch, name, start=start, stop=stop)
                size -= batch.size
                if size <= 0 and records:
                    return Span(records, min(batch.end, stop), high)
        return Span(records, max(start, stop), high)

    def find_offset(self, partition: int, *, appended_ms: int) -> int:
        """The first offset appended at that time or later; the high watermark if there is none.

        Bisects, since time never goes back within a partition."""
        with self._snapshot():
            base = partition << OFFSET_BITS
            low, high = self._watermarks(partition)
            while low < high:
                middle = (low + high) // 2
                row = self._connection.execute(
                    "SELECT id, span, appended_ms FROM batches WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
                    (base | low, base | middle),
                ).fetchone()
                if row is None:
                    low = middle + 1
                elif row[2] >= appended_ms:
                    high = row[0] & _OFFSET_MASK
                else:
                    low = max(middle + 1, (row[0] & _OFFSET_MASK) + row[1])
            return low

    def batches(self, partition: int, *, start: int, size: int) -> list[Batch]:
        """Stored batches from offset `start`, about `size` bytes of them."""
        batches = []
        with self._snapshot():
            for batch in self._batches(partition, start=start, stop=_OFFSET_MASK):
                batches.append(batch)
                size -= batch.size
                if size <= 0:
                    break
        return batches

    def catalogue(self) -> Catalogue:
        """What there is."""
        with self._snapshot():
            partitions = self._connection.execute(
                "SELECT id, topic, number, low, high FROM partitions ORDER BY topic, number"
            ).fetchall()
            topics = self._connection.execute("SELECT name, retention_seconds, compacted FROM topics").fetchall()
            generations = self._connection.execute("SELECT name, generation FROM consumer_groups").fetchall()
        counts = Counter(topic for _, topic, *_ in partitions)
        return Catalogue(
            {
                name: TopicSpec(
                    name=name, partitions=counts[name], retention_seconds=seconds, compacted=bool(compacted)
                )
                for name, seconds, compacted in topics
            },
            {identifier: TopicPartition(topic, number) for identifier, topic, number, _, _ in partitions},
            {identifier: Watermarks(low, high) for identifier, _, _, low, high in partitions},
            dict(generations),
        )

    def pulse(self) -> Pulse:
        """What changes most, in one step: asked whenever another process has committed something."""
        with self._translated():
            [(ends, generations)] = self._connection.execute(
                "SELECT (SELECT json_group_object(id, high) FROM partitions),"
                " (SELECT json_group_object(name, generation) FROM consumer_groups)"
            )
            return Pulse(_decode_ends(ends), _decode_generations(generations))

    def committed(self, group: str) -> dict[int, int]:
        """A group's committed offsets by partition id."""
        with self._translated():
            return dict(
                self._connection.execute(
                    "SELECT partition, committed FROM progress WHERE group_name = ? AND committed IS NOT NULL",
                    (group,),
                )
            )

    def watermarks(self, partition: int) -> Watermarks:
        """Of one partition."""
        with self._translated():
            return self._watermarks(partition)

    def _watermarks(self, partition: int) -> Watermarks:
        row = self._connection.execute("SELECT low, high FROM partitions WHERE id = ?", (partition,)).fetchone()
        return Watermarks(*row)

    def _batches(self, partition: int, *, start: int, stop: int) -> Iterator[Batch]:
        base = partition << OFFSET_BITS
        # The batch that holds `start` may begin before it.
        rows = self._connection.execute(
            "SELECT id, span, appended_ms, payload FROM batches WHERE id + span > ?2 AND id < ?3 AND id >="
            " coalesce((SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2), ?2) ORDER BY id",
            (base, base | start, base | stop),
        )
        try:
            for identifier, span, appended_ms, payload in rows:
                offsets, fields = _decode(payload)
                first = identifier & _OFFSET_MASK
                yield Batch(
                    id=identifier,
                    span=span,
                    appended_ms=appended_ms,
                    size=len(payload),
                    offsets=range(first, first + span) if offsets is None else [first + each for each in offsets],
                    fields=fields,
                )
        finally:
            rows.close()

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """Queries inside see one moment."""
        with self._translated():
            self._connection.execute("BEGIN")
            yield
            self._connection.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """End a transaction that fails; SQLite's errors become the log's."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise LogUnavailable(f"the log {self.path} is not available: {error}") from error
        except sqlite3.Error as error:
            raise LogError(f"the log {self.path} failed: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.rollback()


def encode_batch(batch: Batch) -> bytes:
    """The payload of a batch whose offsets have gaps."""
    return _encode(([each - batch.first for each in batch.offsets], batch.fields))


def _records(batch: Batch, name: TopicPartition, *, start: int, stop: int) -> Iterator[Record]:
    timestamp = batch.appended_ms / 1000
    for offset, (key, value, headers) in zip(batch.offsets, batch.fields, strict=True):
        if start <= offset < stop:
            yield Record(
                topic=name.topic,
                partition=name.partition,
                offset=offset,
                timestamp=timestamp,
                key=key,
                value=value,
                headers=headers,
            )


def _milliseconds(clock: Clock) -> int:
    return int(clock.now().timestamp() * 1000)


def _is_busy(error: sqlite3.OperationalError) -> bool:
    """Whether another process holds the write lock (SQLITE_BUSY and its extended codes)."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY

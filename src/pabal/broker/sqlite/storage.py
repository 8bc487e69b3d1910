"""The embedded log's file: its schema, its one kind of write transaction, and its queries.

The only module that knows SQLite's interface. Nothing here knows the event loop: `database_thread` calls it from
its threads, one `Storage`, which is one connection, in each.
"""

import fcntl
import os
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from pabal.broker.port import Record, TopicPartition, TopicSpec, Watermarks
from pabal.broker.sqlite.batches import Batch, NewBatch, Span, batch_id, first_offset, unpack_batch
from pabal.clock import Clock
from pabal.database_reading import open_read_only
from pabal.errors import LogError, LogUnavailable, OffsetOutOfRange

_APPLICATION_ID = 0x70616261  # "paba" (SQLite's application_id): tells a log from another program's database
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

_BUSY_SECONDS = 0.25
"""How long SQLite waits for a lock before it is asked whether anyone still wants to wait."""

T = TypeVar("T")
_decode_watermarks = msgspec.json.Decoder(dict[int, Watermarks]).decode
_decode_generations = msgspec.json.Decoder(dict[str, int]).decode
_decode_ids = msgspec.json.Decoder(list[int]).decode


class Changes(NamedTuple):
    """What a transaction changed: what ends waits in this process and in others."""

    batches: list[NewBatch]
    generations: dict[str, int]
    """Of groups whose members or shares changed."""
    lows: dict[int, int]
    """Low watermarks that rose, by partition id."""
    new_partitions: set[int]


class Written(NamedTuple):
    """A durable transaction."""

    results: Sequence[Any]
    """Of each operation, in order: what it returned, or the error it raised."""
    changes: Changes


class Pulse(NamedTuple):
    """Partitions' watermarks by id, and groups' generations."""

    watermarks: Mapping[int, Watermarks]
    generations: Mapping[str, int]


class Catalogue(NamedTuple):
    """Every topic and partition at one moment."""

    topics: Mapping[str, TopicSpec]
    partitions: Mapping[int, TopicPartition]
    pulse: Pulse


class WriteTransaction:
    """The write transaction under way: what an operation may do."""

    def __init__(self, connection: sqlite3.Connection, clock: Clock) -> None:
        self._connection = connection
        self.clock = clock
        self.changes = Changes([], {}, {}, set())

    @property
    def now_ms(self) -> int:
        """The wall clock in milliseconds since the Unix epoch."""
        return int(self.clock.now().timestamp() * 1000)

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


Operation = Callable[[WriteTransaction], T]


class Storage:
    """One connection to the log's file. Used by one thread at a time."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self.path = path.absolute()
        self._clock = clock
        try:
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        except sqlite3.OperationalError as error:
            raise LogUnavailable(f"the log {self.path} cannot be opened: {error}") from error
        try:
            with self._translated():
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute("PRAGMA journal_size_limit = 67108864")  # 64 MiB of -wal after a flood
                self._line: int | None = os.open(f"{self.path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def to_look_at(cls, path: Path, *, clock: Clock) -> Self:
        """A connection that changes nothing, to a file that is a log. Raises LogUnavailable, LogError."""
        storage = cls.__new__(cls)
        storage.path, storage._clock, storage._line = path.absolute(), clock, None
        try:
            storage._connection = open_read_only(path)
        except sqlite3.OperationalError as error:
            raise LogUnavailable(f"the log {storage.path} cannot be opened: {error}") from error
        try:
            with storage._translated():
                storage._check_kind()
        except BaseException:
            storage.close()
            raise
        return storage

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
        if self._line is not None:
            os.close(self._line)

    def prepare(self) -> None:
        """Make a new file a log, or check that an old one is. Safe when several processes do it at once.

        Raises:
            LogError: it is another program's, or a log of another version.
        """
        with self._translated(), self._turn():
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("BEGIN IMMEDIATE")
            [[tables]] = self._connection.execute("SELECT count(*) FROM sqlite_schema")
            if tables == 0:
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
                for statement in _SCHEMA.split(";"):
                    self._connection.execute(statement)
            else:
                self._check_kind()
            self._connection.execute("COMMIT")

    def _check_kind(self) -> None:
        [[application]] = self._connection.execute("PRAGMA application_id")
        [[version]] = self._connection.execute("PRAGMA user_version")
        if application != _APPLICATION_ID:
            raise LogError(f"{self.path} is a database of another program, not a log")
        if version != _SCHEMA_VERSION:
            raise LogError(f"{self.path} is a log of version {version}; this Pabal reads {_SCHEMA_VERSION}")

    # Writing

    def write(
        self, operations: Sequence[Operation[Any]], *, is_abandoned: Callable[[], bool] = lambda: False
    ) -> Written:
        """Do all of it in one durable transaction, when the other processes' let it, or until `is_abandoned()`.

        An operation that raises a `LogError` is undone alone, and its error is its result.

        Raises:
            LogUnavailable: nothing of it was written (the disk is full, the file cannot be written).
        """
        with self._translated(), self._turn():
            self._begin(is_abandoned)
            transaction = WriteTransaction(self._connection, self._clock)
            results = [self._operate(operation, transaction) for operation in operations]
            self._connection.execute("COMMIT")
        return Written(results, transaction.changes)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait in line with the other processes' transactions.

        SQLite's own lock keeps the file whole, but waits for it by sleeping, up to 100 ms at a time, in no order.
        Measured with three processes appending one by one: 99 of 100 appends within 34 ms, with this within 4 ms.
        """
        assert self._line is not None, "opened only to look at"
        fcntl.flock(self._line, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._line, fcntl.LOCK_UN)

    def _begin(self, is_abandoned: Callable[[], bool]) -> None:
        while not is_abandoned():
            try:
                self._connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                # Another program than this may hold the lock; an extended code's low byte is the code.
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
            else:
                break
        if is_abandoned():
            raise LogUnavailable(f"the log {self.path} was not free before the deadline")

    def _operate(self, operation: Operation[Any], transaction: WriteTransaction) -> Any:
        self._connection.execute("SAVEPOINT operation")
        try:
            result = operation(transaction)
        except LogError as error:
            self._connection.execute("ROLLBACK TO operation")
            result = error
        self._connection.execute("RELEASE operation")
        return result

    # Reading

    def read(self, partition: int, name: TopicPartition, *, start: int, stop: int | None = None, size: int) -> Span:
        """Records from offset `start`, about `size` bytes but at least one batch; to the end without `stop`.

        Raises:
            OffsetOutOfRange: `start` is not between the watermarks.
        """
        records: list[Record] = []
        with self._snapshot():
            watermarks = self._watermarks(partition)
            low, high = watermarks
            if not low <= start <= high:
                raise OffsetOutOfRange(
                    f"{name.topic}/{name.partition} keeps offsets {low} to {high}; {start} is not among them",
                    topic=name.topic,
                    partition=name.partition,
                    offset=start,
                    low=low,
                    high=high,
                )
            stop = high if stop is None else min(stop, high)
            for batch in self._batches(partition, start=start, stop=stop):
                records += batch.records(name, start=start, stop=stop)
                size -= batch.size
                if size <= 0 and records:
                    return Span(records, min(batch.end, stop), watermarks)
        return Span(records, max(start, stop), watermarks)

    def batches(self, partition: int, *, start: int, size: int) -> list[Batch]:
        """Batches from offset `start`, about `size` bytes of them."""
        batches = []
        with self._snapshot():
            for batch in self._batches(partition, start=start, stop=self._watermarks(partition).high):
                batches.append(batch)
                size -= batch.size
                if size <= 0:
                    break
        return batches

    def find_offset(self, partition: int, *, appended_ms: int) -> int:
        """The first offset appended at that time or later; the high watermark if there is none.

        Bisects, since time never goes back within a partition."""
        with self._snapshot():
            low, high = self._watermarks(partition)
            while low < high:
                middle = (low + high) // 2
                row = self._connection.execute(
                    "SELECT id, span, appended_ms FROM batches WHERE id BETWEEN ? AND ? ORDER BY id DESC LIMIT 1",
                    (batch_id(partition, low), batch_id(partition, middle)),
                ).fetchone()
                if row is None:
                    low = middle + 1
                elif row[2] >= appended_ms:
                    high = first_offset(row[0])
                else:
                    low = max(middle + 1, first_offset(row[0]) + row[1])
            return low

    def catalogue(self) -> Catalogue:
        """What there is."""
        with self._snapshot():
            pulse = self._pulse()
            topics = self._connection.execute("SELECT name, retention_seconds, compacted FROM topics").fetchall()
            partitions = {
                identifier: TopicPartition(topic, number)
                for identifier, topic, number in self._connection.execute(
                    "SELECT id, topic, number FROM partitions ORDER BY topic, number"
                )
            }
        counts = Counter(name.topic for name in partitions.values())
        specs = {
            name: TopicSpec(name=name, partitions=counts[name], retention_seconds=seconds, compacted=bool(compacted))
            for name, seconds, compacted in topics
        }
        return Catalogue(specs, partitions, pulse)

    def pulse(self) -> Pulse:
        """What changes most, in one step: asked whenever another process has committed something."""
        with self._translated():
            return self._pulse()

    def committed(self, group: str) -> dict[int, int]:
        """A group's committed offsets by partition id."""
        with self._translated():
            return dict(
                self._connection.execute(
                    "SELECT partition, committed FROM progress WHERE group_name = ? AND committed IS NOT NULL",
                    (group,),
                )
            )

    def members(self) -> list[tuple[str, str, list[int]]]:
        """Every member whose lease holds: its group, its name, the partitions that it owns (ids)."""
        with self._translated():
            rows = self._connection.execute(
                "SELECT group_name, coalesce(instance, 'member-' || id),"
                " (SELECT json_group_array(partition) FROM progress AS owned"
                "  WHERE owned.group_name = members.group_name AND owner = members.id)"
                " FROM members WHERE boot_id = ? AND lease_ends > ?",
                (self._clock.boot_id, self._clock.boot_seconds()),
            )
            return [(group, name, _decode_ids(owned)) for group, name, owned in rows]

    def watermarks(self, partition: int) -> Watermarks:
        """Of one partition."""
        with self._translated():
            return self._watermarks(partition)

    def _pulse(self) -> Pulse:
        [(watermarks, generations)] = self._connection.execute(
            "SELECT (SELECT json_group_object(id, json_array(low, high)) FROM partitions),"
            " (SELECT json_group_object(name, generation) FROM consumer_groups)"
        )
        return Pulse(_decode_watermarks(watermarks), _decode_generations(generations))

    def _watermarks(self, partition: int) -> Watermarks:
        [row] = self._connection.execute("SELECT low, high FROM partitions WHERE id = ?", (partition,))
        return Watermarks(*row)

    def _batches(self, partition: int, *, start: int, stop: int) -> Iterator[Batch]:
        # The batch that holds `start` may begin before it.
        rows = self._connection.execute(
            "SELECT id, span, appended_ms, payload FROM batches WHERE id < ?3 AND id + span > ?2 AND id >="
            " coalesce((SELECT max(id) FROM batches WHERE id BETWEEN ?1 AND ?2), ?2) ORDER BY id",
            (batch_id(partition, 0), batch_id(partition, start), batch_id(partition, stop)),
        )
        try:
            for row in rows:
                yield unpack_batch(*row)
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
        """SQLite's errors become the log's; a transaction that fails is undone."""
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise LogUnavailable(f"the log {self.path} is not available: {error}") from error
        except sqlite3.Error as error:
            raise LogError(f"the log {self.path} failed: {error}") from error
        finally:
            if self._connection.in_transaction:
                self._connection.rollback()

"""Retention and compaction of the embedded log, in transactions small enough for appends to slip between.

Reading is done on the reading connection and deciding outside any transaction; only deletions and rewrites are
operations of the writer. Batches are immutable but for this, and cleaning twice changes nothing, so it does not
matter if two processes do it at once.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

from pabal.broker.sqlite.batches import Batch, batch_id, first_offset
from pabal.broker.sqlite.storage import Operation, Storage, WriteTransaction
from pabal.clock import Clock

TOMBSTONE_SECONDS = 86_400
"""How long a tombstone stays at least, so that slow readers see it (Kafka's delete.retention.ms)."""

COMPACT_AFTER_RECORDS = 1_000
COMPACT_AFTER_SECONDS = 3_600
"""A compacted partition is cleaned after so many new records, or after so long."""

_DELETE_BATCHES = 500
_READ_BYTES = 1 << 20

T = TypeVar("T")


class Runner(Protocol):
    """Where cleaning gets its work done."""

    def read(self, query: Callable[[Storage], T]) -> Awaitable[T]:
        """Run a query on the reading connection."""
        ...

    def write(self, operation: Operation[T]) -> Awaitable[T]:
        """Run an operation in a write transaction."""
        ...


async def clean(runner: Runner, *, clock: Clock, is_due_only: bool) -> None:
    """Delete what retention lets go and compact what is worth it (everything, unless `is_due_only`)."""
    now_ms = int(clock.now().timestamp() * 1000)
    for identifier, keep_seconds in await runner.write(_retained):
        while await runner.write(partial(_expire, partition=identifier, before_ms=now_ms - keep_seconds * 1000)):
            pass
    for identifier in await runner.write(partial(_compactable, is_due_only=is_due_only)):
        await _compact(runner, identifier, tombstones_before_ms=now_ms - TOMBSTONE_SECONDS * 1000)


def claim_chore(transaction: WriteTransaction, *, name: str, every_seconds: float) -> bool:
    """Whether it is this process's turn: no process has done it for so long."""
    now = transaction.now_ms
    return bool(
        transaction.change(
            "INSERT INTO chores VALUES (?1, ?2) ON CONFLICT DO UPDATE SET done_ms = ?2"
            " WHERE done_ms NOT BETWEEN ?2 - ?3 AND ?2",
            name,
            now,
            int(every_seconds * 1000),
        )
    )


def try_to_write(transaction: WriteTransaction) -> None:
    """Change a row, so that the transaction has something to make durable: one that changes nothing succeeds on a full
    disk."""
    transaction.change(
        "INSERT INTO chores VALUES ('ready', ?1) ON CONFLICT DO UPDATE SET done_ms = ?1", transaction.now_ms
    )


def _retained(transaction: WriteTransaction) -> list[tuple[int, int]]:
    """Partitions with a retention, and that in seconds."""
    return [
        (identifier, seconds)
        for identifier, seconds in transaction.select(
            "SELECT id, retention_seconds FROM partitions JOIN topics ON name = topic"
            " WHERE retention_seconds IS NOT NULL AND NOT compacted AND low < high"
        )
    ]


def _expire(transaction: WriteTransaction, *, partition: int, before_ms: int) -> bool:
    """Delete some of the batches appended before then; whether there may be more."""
    begin, end = batch_id(partition, 0), batch_id(partition + 1, 0)
    rows = transaction.select(
        "SELECT id, span, appended_ms FROM batches WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
        begin,
        end,
        _DELETE_BATCHES,
    )
    old = [(identifier, span) for identifier, span, appended_ms in rows if appended_ms < before_ms]
    if not old:
        return False
    identifier, span = old[-1]
    low = first_offset(identifier) + span
    transaction.change("DELETE FROM batches WHERE id BETWEEN ? AND ?", begin, identifier)
    transaction.change("UPDATE partitions SET low = ? WHERE id = ?", low, partition)
    transaction.changes.lows[partition] = low
    return len(old) == _DELETE_BATCHES


def _compactable(transaction: WriteTransaction, *, is_due_only: bool) -> list[int]:
    after_records, after_ms = (COMPACT_AFTER_RECORDS, COMPACT_AFTER_SECONDS * 1000) if is_due_only else (0, 0)
    return [
        identifier
        for (identifier,) in transaction.select(
            "SELECT id FROM partitions JOIN topics ON name = topic"
            " WHERE compacted AND (high - compacted_to >= ? OR compacted_ms + ? <= ?)",
            after_records,
            after_ms,
            transaction.now_ms,
        )
    ]


async def _compact(runner: Runner, partition: int, *, tombstones_before_ms: int) -> None:
    """Keep the last record of each key (records without a key are all kept); drop old tombstones."""
    last: dict[bytes, int] = {}
    end = 0
    while batches := await _read(runner, partition, end):
        for batch in batches:
            last.update((key, at) for at, (key, *_) in zip(batch.offsets, batch.fields, strict=True) if key is not None)
        end = batches[-1].end
    start = 0
    while batches := await _read(runner, partition, start):
        changes = [
            (batch, kept)
            for batch in batches
            if len(kept := _surviving(batch, last, tombstones_before_ms)) < len(batch.fields)
        ]
        if changes:
            await runner.write(partial(_rewrite, changes=changes))
        start = batches[-1].end
    await runner.write(partial(_mark_compacted, partition=partition, end=end))


def _read(runner: Runner, partition: int, start: int) -> Awaitable[list[Batch]]:
    return runner.read(lambda storage: storage.batches(partition, start=start, size=_READ_BYTES))


def _surviving(batch: Batch, last: dict[bytes, int], tombstones_before_ms: int) -> list[int]:
    """Indexes of the records of a batch that stay."""
    drops_tombstones = batch.appended_ms < tombstones_before_ms
    return [
        index
        for index, (offset, (key, value, _)) in enumerate(zip(batch.offsets, batch.fields, strict=True))
        if key is None or (last.get(key, offset) <= offset and not (value is None and drops_tombstones))
    ]


def _rewrite(transaction: WriteTransaction, *, changes: Sequence[tuple[Batch, list[int]]]) -> None:
    """Store the batches with these records only; without any, delete them."""
    for batch, kept in changes:
        if kept:
            transaction.change("UPDATE batches SET payload = ? WHERE id = ?", batch.keep(kept), batch.id)
        else:
            transaction.change("DELETE FROM batches WHERE id = ?", batch.id)


def _mark_compacted(transaction: WriteTransaction, *, partition: int, end: int) -> None:
    transaction.change(
        "UPDATE partitions SET compacted_to = ?, compacted_ms = ? WHERE id = ?", end, transaction.now_ms, partition
    )

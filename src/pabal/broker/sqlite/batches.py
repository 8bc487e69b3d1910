"""How records lie in the embedded log's file: in batches.

A record is not a row. A group commit writes one batch per partition: a row whose id is the partition's id and the
batch's first offset in one integer, so that a partition is one stretch of one B-tree and a range of offsets a
range of ids. The payload is msgpack: the offsets within the batch (None while it is dense; compaction leaves
gaps), then key, value and headers of each record. A batch is read whole, and never changes but by compaction.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from pabal.broker.port import Headers, NewRecord, Record, TopicPartition, Watermarks

_OFFSET_BITS = 40
"""A million million records per partition, eight million partitions."""

_OFFSET_MASK = (1 << _OFFSET_BITS) - 1

_MOST_RECORDS = 1_000
_MOST_BYTES = 1 << 20
"""A batch has no more than so many records, and no more bytes unless in one record."""

Fields = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers of a record."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[int] | None, list[Fields]]).decode


def batch_id(partition: int, offset: int) -> int:
    """The id of the batch of that partition that begins with that offset."""
    return partition << _OFFSET_BITS | offset


def first_offset(identifier: int) -> int:
    """The offset that the batch of that id begins with."""
    return identifier & _OFFSET_MASK


class NewBatch(NamedTuple):
    """A batch as its writer knows it. Without gaps."""

    partition: int
    first: int
    appended_ms: int
    payload: bytes
    records: Sequence[NewRecord]

    @property
    def id(self) -> int:
        """Its row's."""
        return batch_id(self.partition, self.first)


class Batch(NamedTuple):
    """A batch read from the file."""

    id: int
    span: int
    """How many offsets it was written with."""
    appended_ms: int
    size: int
    """Of its payload, in bytes."""
    offsets: Sequence[int]
    fields: Sequence[Fields]

    @property
    def first(self) -> int:
        """The first offset it was written with."""
        return first_offset(self.id)

    @property
    def end(self) -> int:
        """The offset after its last, whether that is still there or not."""
        return self.first + self.span

    def keep(self, indexes: Sequence[int]) -> bytes:
        """The payload with only the records at these indexes."""
        return _encode(([self.offsets[each] - self.first for each in indexes], [self.fields[each] for each in indexes]))

    def records(self, name: TopicPartition, *, start: int, stop: int) -> Iterator[Record]:
        """Its records with offsets from `start` up to but without `stop`."""
        for offset, (key, value, headers) in zip(self.offsets, self.fields, strict=True):
            if start <= offset < stop:
                yield Record(
                    topic=name.topic,
                    partition=name.partition,
                    offset=offset,
                    timestamp=self.appended_ms / 1000,
                    key=key,
                    value=value,
                    headers=headers,
                )


class Span(NamedTuple):
    """What was read from one partition: `records`, and whatever is missing, end right before offset `next`."""

    records: list[Record]
    next: int
    watermarks: Watermarks


def pack_records(records: Sequence[NewRecord], *, partition: int, first: int, appended_ms: int) -> Iterator[NewBatch]:
    """Batches of `records`, from offset `first` on."""
    start = size = 0
    for index, record in enumerate(records):
        size += len(record.value or b"")
        if index - start >= _MOST_RECORDS or (size > _MOST_BYTES and index > start):
            yield _pack(records[start:index], partition, first + start, appended_ms)
            start, size = index, len(record.value or b"")
    yield _pack(records[start:], partition, first + start, appended_ms)


def unpack_batch(identifier: int, span: int, appended_ms: int, payload: bytes) -> Batch:
    """The batch in a row."""
    gaps, fields = _decode(payload)
    first = first_offset(identifier)
    offsets = range(first, first + span) if gaps is None else [first + each for each in gaps]
    return Batch(identifier, span, appended_ms, len(payload), offsets, fields)


def _pack(records: Sequence[NewRecord], partition: int, first: int, appended_ms: int) -> NewBatch:
    payload = _encode((None, [(each.key, each.value, each.headers) for each in records]))
    return NewBatch(partition, first, appended_ms, payload, records)

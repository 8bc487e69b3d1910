"""Records that a group passed over: its committed offset was moved beyond them, and no worker worked on them.

An offset is committed once every record before it has ended, and what has ended has a row in the ledger. So the last
records before a committed offset are known to the ledger, unless a person moved the offset (a group reset to latest
with a backlog). Asked once, whenever a worker is assigned a partition; not about what has expired, cannot be read, or
is older than the ledger: such records have no row for other reasons.
"""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

import msgspec

from pabal.broker.port import NewRecord, Reader, Record, TopicPartition
from pabal.codec import SCHEMA_HEADER, check_schema, decoded, read_delivery
from pabal.errors import DecodeError
from pabal.notification import OPS_TOPIC, Instant, Offset, deliveries_topic
from pabal.offsets.ranges import OffsetRange, check_place, key_of
from pabal.offsets.seeks import Seek

PASSED_SCHEMA: Final = b"passed-over/1"
_KEY_PREFIX: Final = b"passed-over/"

LOOK_AT: Final = 20
"""How many records before the committed offset are looked at first."""

_STEP: Final = 500
_MOST: Final = 100_000
"""How many offsets are looked at further back, once something was passed over."""


class PassedOver(OffsetRange, frozen=True, kw_only=True):
    """Deliveries that a group has passed over (schema `passed-over/1`): `count` of them, from offset `from_` up to
    `to`, which was committed. A tombstone says that they were decided about."""

    count: Offset
    at: Instant


_decode = msgspec.json.Decoder(PassedOver).decode


class Knows(Protocol):
    """What is asked of the ledger."""

    async def known(self, deliveries: Collection[UUID]) -> Collection[UUID]:
        """See `pabal.ledger.port.Ledger.known`."""
        ...


def passed_key(group: str, partition: TopicPartition) -> bytes:
    """The key of its record in `pabal.ops`."""
    return key_of(_KEY_PREFIX, group, partition)


def passed_record(passed: PassedOver) -> NewRecord:
    """The record that says it."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=passed_key(passed.group, passed.topic_partition),
        value=msgspec.json.encode(passed),
        headers=((SCHEMA_HEADER, PASSED_SCHEMA),),
    )


def decided_record(group: str, partition: TopicPartition) -> NewRecord:
    """The record that says that it was decided about."""
    return NewRecord(topic=OPS_TOPIC, key=passed_key(group, partition), value=None)


def is_about_passing(record: Record) -> bool:
    """Whether a record of `pabal.ops` is one of these."""
    return record.key is not None and record.key.startswith(_KEY_PREFIX)


def read_passed(record: Record) -> PassedOver | None:
    """What such a record says; None: it was decided about. Raises DecodeError."""
    if record.value is None:
        return None
    check_schema(record, PASSED_SCHEMA)
    passed = decoded(_decode, record.value, what="what was passed over")
    check_place(passed, at=passed.at, prefix=_KEY_PREFIX, key=record.key, what="not")
    return passed


def rewind_of(passed: PassedOver, *, at: datetime, by: str, reason: str) -> Seek:
    """A person's word that the group reads after all what it passed over."""
    return Seek(
        group=passed.group,
        topic=passed.topic,
        partition=passed.partition,
        from_=passed.to,
        to=passed.from_,
        at=at,
        by=by,
        reason=reason,
        rewinds=True,
    )


async def find_passed_over(
    reader: Reader,
    ledger: Knows,
    partition: TopicPartition,
    *,
    group: str,
    low: int,
    committed: int,
    since: datetime | None,
    now: datetime,
) -> PassedOver | None:
    """What the group passed over right before `committed`; None: nothing that is known of.

    `since`: when the log came to belong to this ledger. Raises LogError, LedgerUnavailable.
    """
    first, count, end, step = committed, 0, committed, LOOK_AT
    lowest = max(low, committed - _MOST)
    while end > lowest:
        start = max(lowest, end - step)
        owed = {
            record.offset: delivery
            async for record in _records(reader, partition, start=start, stop=end)
            if (delivery := _delivery_owed(record, since=since, now=now)) is not None
        }
        if not owed:
            break
        known = set(await ledger.known(owed.values()))
        last_known = max((offset for offset, delivery in owed.items() if delivery in known), default=-1)
        passed = [offset for offset in owed if offset > last_known]
        if step == LOOK_AT and last_known >= 0:
            return None
        count += len(passed)
        first = min([first, *passed])
        if last_known >= 0:
            break
        end, step = start, _STEP
    if not count:
        return None
    topic, number = partition
    return PassedOver(group=group, topic=topic, partition=number, from_=first, to=committed, count=count, at=now)


async def _records(reader: Reader, partition: TopicPartition, *, start: int, stop: int) -> AsyncIterator[Record]:
    async for batch in reader.read(partition, start=start, stop=stop):
        for record in batch:
            yield record


def _delivery_owed(record: Record, *, since: datetime | None, now: datetime) -> UUID | None:
    """The delivery of a record that the ledger must know if the record was worked on; None: it need not."""
    if since is not None and record.timestamp <= since.timestamp():
        return None
    try:
        delivery = read_delivery(record)
    except DecodeError:
        return None
    is_at_home = deliveries_topic(delivery.channel, delivery.class_) == record.topic
    return delivery.id if is_at_home and delivery.expires_at > now.astimezone(UTC) else None

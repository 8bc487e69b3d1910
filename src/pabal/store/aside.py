"""What is set aside, in SQL."""

from collections.abc import Collection, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from pabal.store import schema
from pabal.store.port import RecordPlace, SetAside
from pabal.store.projection import instant, stored_text

_COLUMNS = schema.set_aside.c


def set_aside(connection: sa.Connection, records: Collection[SetAside]) -> None:
    """See `Store.set_aside`. In the order of their keys, so that two recorders never wait in a circle."""
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    insert = make(schema.set_aside)
    rows = {(each.topic, each.partition, each.offset): each for each in records}
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=["topic", "partition", "offset"], set_={"error": insert.excluded.error}
        ),
        [
            {
                "topic": each.topic,
                "partition": each.partition,
                "offset": each.offset,
                "at": each.at.timestamp(),
                "error": stored_text(each.error),
                "size": each.size,
                "start": each.start,
            }
            for _, each in sorted(rows.items())
        ],
    )


def take_up(connection: sa.Connection, places: Collection[RecordPlace]) -> int:
    """See `Store.take_up`."""
    if not connection.scalar(sa.select(sa.exists(sa.select(_COLUMNS.offset)))):
        return 0
    by_partition: dict[tuple[str, int], list[int]] = {}
    for topic, partition, offset in places:
        by_partition.setdefault((topic, partition), []).append(offset)
    taken = 0
    for (topic, partition), offsets in sorted(by_partition.items()):
        kept = sa.select(_COLUMNS.offset).where(
            _COLUMNS.topic == topic,
            _COLUMNS.partition == partition,
            _COLUMNS.offset.between(min(offsets), max(offsets)),
        )
        for offset in sorted(set(connection.scalars(kept)) & set(offsets)):
            here = (_COLUMNS.topic == topic) & (_COLUMNS.partition == partition) & (_COLUMNS.offset == offset)
            taken += connection.execute(sa.delete(schema.set_aside).where(here)).rowcount
    return taken


def aside(connection: sa.Connection, *, limit: int) -> Sequence[SetAside]:
    """See `Store.aside`."""
    query = sa.select(schema.set_aside).order_by(_COLUMNS.at, _COLUMNS.topic, _COLUMNS.partition, _COLUMNS.offset)
    return [
        SetAside(
            topic=row.topic,
            partition=row.partition,
            offset=row.offset,
            at=instant(row.at),
            error=row.error,
            size=row.size,
            start=bytes(row.start),
        )
        for row in connection.execute(query.limit(limit))
    ]

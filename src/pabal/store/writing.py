"""What a fold writes: `projection.merge` in SQL, so that no row is read to be written."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg

from pabal.notification import Receipt
from pabal.store import schema
from pabal.store.projection import Gathered, Projected, stored_text

T = TypeVar("T")
Upsert = sqlite.Insert | postgresql.Insert

IN_ONE_QUERY: Final = 500
"""Values that a query is asked with; SQLite's oldest bound is 999 in all."""

_RECEIPTS_LOCK: Final = 0x70616272
"""An advisory lock of PostgreSQL: senders share it, receipts that look for their send have it alone."""

_encode = msgspec.json.Encoder().encode
read_receipt = msgspec.json.Decoder(Receipt).decode


class Statements:
    """The upserts, compiled once and run as text: SQLAlchemy's own way of binding rows was an eighth of the CPU."""

    def __init__(self, dialect: str) -> None:
        self.is_postgresql = dialect == "postgresql"
        insert: Callable[[sa.Table], Upsert] = postgresql.insert if self.is_postgresql else sqlite.insert
        target = psycopg.dialect() if self.is_postgresql else sqlite.dialect(paramstyle="named")  # type: ignore[no-untyped-call]

        def text(statement: Upsert) -> str:
            keys = [column.name for column in statement.table.columns if column.name not in ("number", "delivery")]
            # Inline: no RETURNING of the number that a row gets.
            return str(statement.inline().compile(dialect=target, column_keys=keys))

        everything, progress = _upsert_deliveries(insert(schema.deliveries))
        self.deliveries, self.progress = text(everything), text(progress)
        number = sa.select(schema.deliveries.c.number).where(schema.deliveries.c.id == sa.bindparam("delivery_id"))
        timeline = insert(schema.timeline).values(delivery=number.scalar_subquery())
        earlier = sa.tuple_(timeline.excluded.at, timeline.excluded.entry) < sa.tuple_(
            schema.timeline.c.at, schema.timeline.c.entry
        )
        self.timeline = text(
            timeline.on_conflict_do_update(
                index_elements=["delivery", "id"],
                set_={"at": timeline.excluded.at, "entry": timeline.excluded.entry},
                where=earlier,
            )
        )
        tags = insert(schema.tags).values(delivery=number.scalar_subquery())
        self.tags = text(
            tags.on_conflict_do_update(
                index_elements=["delivery", "tenant", "tag"],
                set_={"accepted_at": tags.excluded.accepted_at},
                where=tags.excluded.accepted_at < schema.tags.c.accepted_at,
            )
        )
        self.sent_as = text(insert(schema.sent_as).on_conflict_do_nothing())
        self.receipts = text(insert(schema.receipts).on_conflict_do_nothing())
        self.dead_letters = text(insert(schema.dead_letters).on_conflict_do_nothing())


def write(connection: sa.Connection, statements: Statements, gathered: Gathered) -> None:
    """Write a batch. Rows are written in the order of their keys, so that two recorders never wait in a circle."""
    named = [receipt for receipt in gathered.receipts.values() if receipt.delivery_id is None]
    if statements.is_postgresql and (named or gathered.sent_as):
        lock = sa.func.pg_advisory_xact_lock if named else sa.func.pg_advisory_xact_lock_shared
        connection.execute(sa.select(lock(_RECEIPTS_LOCK)))
    _run(connection, statements.receipts, _receipt_rows(gathered))
    _run(
        connection,
        statements.sent_as,
        [
            {"provider": provider, "provider_id": provider_id, "delivery_id": delivery}
            for provider, provider_id, delivery in sorted(gathered.sent_as)
        ],
    )
    for receipt, delivery in list(_brought_together(connection, gathered, named)):
        gathered.add_receipt(receipt, delivery=delivery)
    _write_deliveries(connection, statements, [row for _, row in sorted(gathered.deliveries.items())])
    _run(
        connection,
        statements.timeline,
        [
            {"delivery_id": delivery, "id": id_, "at": happened.at, "entry": happened.entry}
            for (delivery, id_), happened in sorted(gathered.timeline.items())
        ],
    )
    _run(
        connection,
        statements.tags,
        [
            {"delivery_id": delivery, "tenant": tenant, "tag": tag, "accepted_at": accepted_at}
            for (delivery, tenant, tag), accepted_at in sorted(gathered.tags.items())
        ],
    )
    _run(connection, statements.dead_letters, _dead_letter_rows(gathered))


def has_receipts(connection: sa.Connection) -> bool:
    """Whether there are any at all: most installations have none to look for."""
    return bool(connection.scalar(sa.select(sa.exists(sa.select(schema.receipts.c.id)))))


def in_pieces(values: Iterable[T]) -> Iterator[Sequence[T]]:
    """As many at a time as a query may be asked with."""
    rest = iter(values)
    while piece := list(islice(rest, IN_ONE_QUERY)):
        yield piece


def _write_deliveries(connection: sa.Connection, statements: Statements, rows: Sequence[Projected]) -> None:
    if statements.is_postgresql:
        # One statement in one order: two recorders whose batches meet must not wait in a circle.
        _run(connection, statements.deliveries, [_columns(row) for row in rows])
        return
    told = [_columns(row) for row in rows if row.accepted_at is None]
    if _run(connection, statements.progress, told) < len(told):
        _run(connection, statements.deliveries, told)
    _run(connection, statements.deliveries, [_columns(row) for row in rows if row.accepted_at is not None])


def _columns(row: Projected) -> dict[str, Any]:
    columns: dict[str, Any] = msgspec.to_builtins(row, builtin_types=(bytes,))
    return columns


def _run(connection: sa.Connection, statement: str, rows: Sequence[dict[str, Any]]) -> int:
    """Run a statement for each row; how many rows it wrote."""
    return connection.exec_driver_sql(statement, rows).rowcount if rows else 0


def _brought_together(
    connection: sa.Connection, gathered: Gathered, named: Collection[Receipt]
) -> Iterator[tuple[Receipt, bytes]]:
    """Receipts that name a delivery by its provider's id, with every delivery that was sent as that."""
    sent_as, receipts = schema.sent_as, schema.receipts
    by_name: dict[tuple[str, str], list[Receipt]] = {}
    for receipt in named:
        by_name.setdefault((stored_text(receipt.provider), stored_text(receipt.provider_id or "")), []).append(receipt)
    for piece in in_pieces({provider_id for _, provider_id in by_name}):
        wanted = sent_as.c.provider_id.in_(piece)
        for provider, provider_id, delivery in connection.execute(
            sa.select(sent_as.c.provider, sent_as.c.provider_id, sent_as.c.delivery_id).where(wanted)
        ):
            for receipt in by_name.get((provider, provider_id), ()):
                yield receipt, delivery
    if not gathered.sent_as or not has_receipts(connection):
        return
    sent: dict[tuple[str, str], list[bytes]] = {}
    for provider, provider_id, delivery in gathered.sent_as:
        sent.setdefault((provider, provider_id), []).append(delivery)
    for piece in in_pieces({provider_id for _, provider_id in sent}):
        held = receipts.c.delivery_id.is_(None) & receipts.c.provider_id.in_(piece)
        for provider, provider_id, text in connection.execute(
            sa.select(receipts.c.provider, receipts.c.provider_id, receipts.c.receipt).where(held)
        ):
            for delivery in sent.get((provider, provider_id), ()):
                yield read_receipt(text), delivery


def _receipt_rows(gathered: Gathered) -> Sequence[dict[str, Any]]:
    return [
        {
            "id": id_,
            "at": at,
            "provider": stored_text(receipt.provider),
            "provider_id": receipt.provider_id and stored_text(receipt.provider_id),
            "delivery_id": receipt.delivery_id.bytes if receipt.delivery_id else None,
            "receipt": _encode(receipt).decode(),
        }
        for (id_, at), receipt in sorted(gathered.receipts.items())
    ]


def _dead_letter_rows(gathered: Gathered) -> Sequence[dict[str, Any]]:
    return [
        {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "at": dead.at.timestamp(),
            "error_class": stored_text(dead.error_class),
            "message": stored_text(dead.message),
            "delivery_id": dead.delivery.id.bytes if dead.delivery else None,
        }
        for (topic, partition, offset), dead in sorted(gathered.dead_letters.items())
    ]


class _Rows:
    """A delivery's row as it is (`old`) and as it is told now (`new`), in the words of `projection.merge`."""

    def __init__(self, insert: Upsert) -> None:
        self.old, self.new = schema.deliveries.c, insert.excluded

    def when(self, condition: sa.ColumnElement[bool], *names: str) -> dict[str, sa.ColumnElement[Any]]:
        """These columns are as they are told now, on a condition."""
        return {name: sa.case((condition, self.new[name]), else_=self.old[name]) for name in names}

    def earliest(self, name: str) -> dict[str, sa.ColumnElement[Any]]:
        """Of two times that are known the earlier one."""
        return self.when(self.old[name].is_(None) | sa.type_coerce(self.new[name] < self.old[name], sa.Boolean), name)

    def is_later(self, name: str) -> sa.ColumnElement[bool]:
        """Whether the time told now is known first, or later than the one before."""
        return self.old[name].is_(None) | sa.type_coerce(self.new[name] > self.old[name], sa.Boolean)


def _upsert_deliveries(insert: Upsert) -> tuple[Upsert, Upsert]:
    """`projection.merge`, column by column; and the part of it that an event of a known delivery can change.

    SQLite writes an index anew for every column that a statement names, changed or not. All but two indexes are on
    columns that the second does not name; it leaves alone (and does not count) rows of which it cannot be sure.
    """
    rows = _Rows(insert)
    old, new, progress = rows.old, rows.new, _progress(rows)
    is_same = (
        old.accepted_at.is_not(None)
        & new.accepted_at.is_(None)
        & (new.notification_id == old.notification_id)
        & (new.address == old.address)
        & (new["class"] == old["class"])
    )
    return (
        insert.on_conflict_do_update(index_elements=["id"], set_={**progress, **_identity(rows)}),
        insert.on_conflict_do_update(index_elements=["id"], set_=progress, where=is_same),
    )


def _progress(rows: _Rows) -> dict[str, sa.ColumnElement[Any]]:
    """How far it is: what every event may change."""
    old, new = rows.old, rows.new
    ahead = (new.standing > old.standing) | (
        (new.standing == old.standing) & rows.is_later("next_due") & new.next_due.is_not(None)
    )
    return {
        **rows.when(ahead, "standing", "status", "next_due"),
        **rows.when(new.attempt > old.attempt, "attempt"),
        **rows.when(new.updated_at > old.updated_at, "updated_at"),
        **rows.earliest("first_dead_lettered_at"),
        **rows.earliest("succeeded_at"),
        **rows.earliest("discarded_at"),
    }


def _identity(rows: _Rows) -> dict[str, sa.ColumnElement[Any]]:
    """Tenant, address, class and times of a delivery: the delivery's own record knows them better than an event."""
    old, new = rows.old, rows.new
    newer = sa.tuple_(new.attempt, new.address, new["class"]) > sa.tuple_(old.attempt, old.address, old["class"])
    neither_known = new.accepted_at.is_(None) & old.accepted_at.is_(None)
    own = new.accepted_at.is_not(None) & (
        old.accepted_at.is_(None) | (sa.tuple_(new.accepted_at, new.tags) < sa.tuple_(old.accepted_at, old.tags))
    )
    ending = (neither_known & (new.ends_by > old.ends_by)) | (
        new.accepted_at.is_not(None) & (old.accepted_at.is_(None) | (new.ends_by > old.ends_by))
    )
    return {
        **rows.when(new.notification_id > old.notification_id, "notification_id"),
        **rows.when(new.tenant > old.tenant, "tenant"),
        **rows.when(new.channel > old.channel, "channel"),
        **rows.when(newer, "address", "class"),
        **rows.when(own, "accepted_at", "tags"),
        **rows.when(own | (neither_known & (new.listed_at < old.listed_at)), "listed_at"),
        **rows.when(ending, "ends_by"),
        **rows.when(rows.is_later("send_at"), "send_at"),
    }

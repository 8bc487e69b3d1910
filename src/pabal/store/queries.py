"""What the store is asked: one delivery, lists of them by keyset, what is unaccounted, what can be forgotten.

Lists are sorted by time of acceptance and number, newest first, and a page goes on after the last row of the one
before: no page counts rows it does not show. Each filter has an index in that order (`pabal.store.schema`).
"""

import hashlib
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from pabal.errors import InvalidCursor
from pabal.notification import Delivery, DeliveryEvent, Receipt
from pabal.store import schema
from pabal.store.port import DeliveryFilter, DeliveryPage, DeliveryView, StoredFact, TimelineEntry
from pabal.store.projection import OPEN_STATUSES, instant, is_unaccounted, read_entry, read_tags, stored_text
from pabal.store.writing import has_receipts, in_pieces, read_receipt

_COLUMNS = schema.deliveries.c
_PLACE = struct.Struct(">dq8s")

_MOST_UNACCOUNTED = 100_000
"""More losses than this at once are not listed; the oldest are."""


def notification(connection: sa.Connection, notification: UUID, *, tenant: str, cutoff: float) -> list[DeliveryView]:
    """The deliveries of a notification."""
    return _views(
        connection,
        sa.select(schema.deliveries)
        .where(_COLUMNS.notification_id == notification.bytes, _COLUMNS.tenant == tenant)
        .order_by(_COLUMNS.channel, _COLUMNS.address, _COLUMNS.id),
        cutoff=cutoff,
    )


def delivery(connection: sa.Connection, delivery: UUID, *, tenant: str, cutoff: float) -> DeliveryView | None:
    """One delivery with its timeline."""
    row = connection.execute(
        sa.select(schema.deliveries).where(_COLUMNS.id == delivery.bytes, _COLUMNS.tenant == tenant)
    ).first()
    if row is None:
        return None
    happened = connection.execute(
        sa.select(schema.timeline.c.entry)
        .where(schema.timeline.c.delivery == row.number)
        .order_by(schema.timeline.c.at, schema.timeline.c.id)
    )
    return _view(row, cutoff=cutoff, timeline=tuple(read_entry(entry) for (entry,) in happened))


def deliveries(
    connection: sa.Connection, wanted: DeliveryFilter, *, tenant: str, limit: int, cursor: str | None, cutoff: float
) -> DeliveryPage:
    """A page of deliveries. Raises InvalidCursor."""
    query, at, number = _list(wanted, tenant=tenant, cutoff=cutoff)
    seal = _seal(wanted, tenant=tenant)
    if cursor is not None:
        query = query.where(sa.tuple_(at, number) < _read_cursor(cursor, seal=seal))
    rows = connection.execute(
        query.add_columns(at.label("_at")).order_by(at.desc(), number.desc()).limit(limit + 1)
    ).all()
    page = rows[:limit]
    return DeliveryPage(
        deliveries=tuple(_view(row, cutoff=cutoff) for row in page),
        next_cursor=_write_cursor(page[-1]._at, page[-1].number, seal=seal) if len(rows) > limit and page else None,
    )


def unaccounted(connection: sa.Connection, *, limit: int, cutoff: float) -> list[DeliveryView]:
    """What should have ended, oldest expiry first."""
    query = sa.select(schema.deliveries).where(_is_unaccounted(cutoff), _COLUMNS.tenant != "")
    return _views(connection, query.order_by(_COLUMNS.ends_by, _COLUMNS.id).limit(limit), cutoff=cutoff)


def dead_letters_open(connection: sa.Connection) -> dict[str, int]:
    """By channel."""
    is_open = sa.and_(_COLUMNS.first_dead_lettered_at.is_not(None), _COLUMNS.status == "dead_lettered")
    counted = sa.select(_COLUMNS.channel, sa.func.count()).where(is_open).group_by(_COLUMNS.channel)
    return {row[0]: row[1] for row in connection.execute(counted)}


def reported(
    connection: sa.Connection, facts: Sequence[StoredFact], *, cutoff: float
) -> list[tuple[Receipt, DeliveryView]]:
    """Receipts that facts make known, each with its delivery."""
    pairs = dict.fromkeys(_speaking_of(connection, facts))
    if not pairs:
        return []
    views: dict[bytes, DeliveryView] = {}
    for piece in in_pieces(sorted({delivery for _, delivery in pairs})):
        query = sa.select(schema.deliveries).where(_COLUMNS.id.in_(piece), _COLUMNS.tenant != "")
        views.update((view.id.bytes, view) for view in _views(connection, query, cutoff=cutoff))
    return [(receipt, views[delivery]) for receipt, delivery in pairs if delivery in views]


def prune(connection: sa.Connection, *, before: float, limit: int) -> int:
    """Forget up to `limit` deliveries, and receipts and dead letters as old; how many deliveries it were."""
    old = connection.execute(
        sa.select(_COLUMNS.number, _COLUMNS.id)
        .where(_COLUMNS.ends_by < before, _COLUMNS.updated_at < before)
        .order_by(_COLUMNS.ends_by)
        .limit(limit)
    ).all()
    for piece in in_pieces(old):
        numbers, ids = [row.number for row in piece], [row.id for row in piece]
        connection.execute(sa.delete(schema.timeline).where(schema.timeline.c.delivery.in_(numbers)))
        connection.execute(sa.delete(schema.tags).where(schema.tags.c.delivery.in_(numbers)))
        connection.execute(sa.delete(schema.sent_as).where(schema.sent_as.c.delivery_id.in_(ids)))
        connection.execute(sa.delete(schema.deliveries).where(_COLUMNS.number.in_(numbers)))
    if len(old) < limit:
        connection.execute(sa.delete(schema.receipts).where(schema.receipts.c.at < before))
        connection.execute(sa.delete(schema.dead_letters).where(schema.dead_letters.c.at < before))
        connection.execute(sa.delete(schema.set_aside).where(schema.set_aside.c.at < before))
    return len(old)


def _list(
    wanted: DeliveryFilter, *, tenant: str, cutoff: float
) -> tuple[sa.Select[Any], sa.ColumnElement[float], sa.ColumnElement[int]]:
    """The query, and the columns that the list is sorted by."""
    rows: sa.FromClause = schema.deliveries
    if wanted.status == "unaccounted":
        # A subquery with a limit is not merged into the query around it: this keeps to the index of what is open.
        lost = sa.select(rows).where(_is_unaccounted(cutoff)).order_by(_COLUMNS.ends_by)
        rows = lost.limit(_MOST_UNACCOUNTED).subquery()
    columns = rows.c
    query = sa.select(rows)
    at: sa.ColumnElement[float] = columns.listed_at
    number: sa.ColumnElement[int] = columns.number
    if wanted.tag is None:
        query = query.where(columns.tenant == tenant)
    else:
        tags = schema.tags.c
        query = query.join(schema.tags, tags.delivery == columns.number)
        query = query.where(tags.tenant == tenant, tags.tag == stored_text(wanted.tag))
        at, number = tags.accepted_at, tags.delivery
    if wanted.recipient is not None:
        query = query.where(columns.address == stored_text(wanted.recipient))
    if wanted.status is not None and wanted.status != "unaccounted":
        query = query.where(columns.status == wanted.status)
        if wanted.status in OPEN_STATUSES:
            query = query.where(sa.or_(columns.ends_by >= cutoff, columns.updated_at >= cutoff))
    if wanted.channel is not None:
        query = query.where(columns.channel == wanted.channel)
    if wanted.class_ is not None:
        query = query.where(columns["class"] == wanted.class_)
    if wanted.since is not None:
        query = query.where(at >= wanted.since.timestamp())
    return query, at, number


def _is_unaccounted(cutoff: float) -> sa.ColumnElement[bool]:
    return sa.and_(schema.IS_OPEN, _COLUMNS.ends_by < cutoff, _COLUMNS.updated_at < cutoff)


def _views(connection: sa.Connection, query: sa.Select[Any], *, cutoff: float) -> list[DeliveryView]:
    return [_view(row, cutoff=cutoff) for row in connection.execute(query)]


def _view(row: sa.Row[Any], *, cutoff: float, timeline: tuple[TimelineEntry, ...] = ()) -> DeliveryView:
    is_known = row.accepted_at is not None
    is_lost = is_unaccounted(status=row.status, ends_by=row.ends_by, updated_at=row.updated_at, cutoff=cutoff)
    return DeliveryView(
        id=UUID(bytes=bytes(row.id)),
        notification_id=UUID(bytes=bytes(row.notification_id)),
        tenant=row.tenant,
        channel=row.channel,
        address=row.address,
        class_=row._mapping["class"],
        status="unaccounted" if is_lost else row.status,
        updated_at=instant(row.updated_at),
        attempt=row.attempt,
        accepted_at=instant(row.accepted_at) if is_known else None,
        expires_at=instant(row.ends_by) if is_known else None,
        send_at=None if row.send_at is None else instant(row.send_at),
        next_due=None if row.next_due is None else instant(row.next_due),
        tags=read_tags(row.tags),
        timeline=timeline,
    )


def _speaking_of(connection: sa.Connection, facts: Sequence[StoredFact]) -> Iterator[tuple[Receipt, bytes]]:
    """Every receipt among the facts, or held until one of them, with the delivery it speaks of."""
    named: dict[str, list[Receipt]] = {}
    sent: dict[str, list[DeliveryEvent]] = {}
    begun: set[bytes] = set()
    for fact in facts:
        if isinstance(fact, Receipt):
            if fact.delivery_id is not None:
                yield fact, fact.delivery_id.bytes
            elif fact.provider_id:
                named.setdefault(stored_text(fact.provider_id), []).append(fact)
        elif isinstance(fact, DeliveryEvent) and fact.kind == "sent":
            begun.add(fact.delivery_id.bytes)
            if fact.provider and fact.provider_id:
                sent.setdefault(stored_text(fact.provider_id), []).append(fact)
        elif isinstance(fact, Delivery) and fact.attempt == 1:
            begun.add(fact.id.bytes)
    sent_as, receipts = schema.sent_as.c, schema.receipts.c
    for piece in in_pieces(named):
        query = sa.select(sent_as.provider_id, sent_as.provider, sent_as.delivery_id)
        for name, provider, delivery in connection.execute(query.where(sent_as.provider_id.in_(piece))):
            yield from ((each, delivery) for each in named[name] if stored_text(each.provider) == provider)
    if not has_receipts(connection):
        return
    for piece in in_pieces(sent):
        held = receipts.delivery_id.is_(None) & receipts.provider_id.in_(piece)
        for receipt in _receipts(connection, held):
            for event in sent[stored_text(receipt.provider_id or "")]:
                if event.provider == receipt.provider:
                    yield receipt, event.delivery_id.bytes
    for ids in in_pieces(begun):
        for receipt in _receipts(connection, receipts.delivery_id.in_(ids)):
            assert receipt.delivery_id is not None
            yield receipt, receipt.delivery_id.bytes


def _receipts(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> Collection[Receipt]:
    """Told several times, a receipt stands there several times; the first is enough."""
    receipts = schema.receipts.c
    told = connection.execute(sa.select(receipts.id, receipts.receipt).where(condition).order_by(receipts.at.desc()))
    return {id_: read_receipt(text) for id_, text in told}.values()


def _seal(wanted: DeliveryFilter, *, tenant: str) -> bytes:
    """A cursor goes on with the list that it came from and no other."""
    return hashlib.blake2b(repr((tenant, wanted)).encode(), digest_size=8).digest()


def _write_cursor(at: float, number: int, *, seal: bytes) -> str:
    return urlsafe_b64encode(_PLACE.pack(at, number, seal)).rstrip(b"=").decode()


def _read_cursor(cursor: str, *, seal: bytes) -> sa.Tuple:
    try:
        at, number, found = _PLACE.unpack(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, struct.error):
        raise InvalidCursor("no list gave out this cursor") from None
    if found != seal:
        raise InvalidCursor("this cursor goes on with another list: repeat its filters as they were")
    return sa.tuple_(sa.literal(at, sa.Double), sa.literal(number, sa.BigInteger))

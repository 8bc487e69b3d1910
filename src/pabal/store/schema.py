"""The store's tables, the same in SQLite and PostgreSQL.

Ids are 16 bytes and instants seconds since 1970, so that both databases compare them alike and quickly; docs/store.md
shows how to read them in a shell. Text is compared by its bytes (PostgreSQL: collation "C").

A change here needs a migration in `pabal.store.migrations`; a test compares the two.
"""

from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

REVISION: Final = "0002"
"""The newest migration. Kept here so that a start that has nothing to migrate need not load Alembic."""

_Text = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


class _Bytes(sa.LargeBinary):
    """Bytes as they are: both drivers take them, and SQLAlchemy's wrapping costs a call per value."""

    cache_ok = True

    def bind_processor(self, dialect: sa.Dialect) -> None:
        """None needed."""
        del dialect


_Id = _Bytes()
_Seconds: sa.Double[float] = sa.Double()

metadata = sa.MetaData(naming_convention={"pk": "%(table_name)s_key"})

IS_OPEN: Final = sa.text("status IN ('accepted', 'scheduled', 'deferred')")
"""As the partial index says it: neither database would recognise it with bound parameters."""

_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("number", _Number, sa.Identity(), primary_key=True),
    sa.Column("id", _Id, nullable=False),
    sa.Column("notification_id", _Id, nullable=False),
    sa.Column("tenant", _Text, nullable=False),
    sa.Column("channel", _Text, nullable=False),
    sa.Column("address", _Text, nullable=False),
    sa.Column("class", _Text, nullable=False),
    sa.Column("tags", _Text, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("standing", sa.BigInteger, nullable=False),
    sa.Column("status", _Text, nullable=False),
    sa.Column("next_due", _Seconds),
    sa.Column("accepted_at", _Seconds),
    sa.Column("send_at", _Seconds),
    sa.Column("listed_at", _Seconds, nullable=False),
    sa.Column("ends_by", _Seconds, nullable=False),
    sa.Column("updated_at", _Seconds, nullable=False),
    sa.Column("first_dead_lettered_at", _Seconds),
    sa.Column("succeeded_at", _Seconds),
    sa.Column("discarded_at", _Seconds),
)
"""A row per delivery; see `pabal.store.projection.Projected`. `number` counts them in the order in which they were
first heard of: ids are random, and what is filed under one touches a page of its own."""
sa.Index("deliveries_by_id", deliveries.c.id, unique=True)
sa.Index("deliveries_by_notification", deliveries.c.notification_id)

# One index for each thing a list can be narrowed by; all of them in the order of the list.
sa.Index("deliveries_by_time", deliveries.c.tenant, deliveries.c.listed_at)
for _name in ("address", "status", "channel", "class"):
    sa.Index(f"deliveries_by_{_name}", deliveries.c.tenant, deliveries.c[_name], deliveries.c.listed_at)
sa.Index("deliveries_by_end", deliveries.c.ends_by)
sa.Index("deliveries_open_by_end", deliveries.c.ends_by, sqlite_where=IS_OPEN, postgresql_where=IS_OPEN)
sa.Index(
    "deliveries_dead_lettered",
    deliveries.c.first_dead_lettered_at,
    sqlite_where=deliveries.c.first_dead_lettered_at.is_not(None),
    postgresql_where=deliveries.c.first_dead_lettered_at.is_not(None),
)

timeline = sa.Table(
    "timeline",
    metadata,
    sa.Column("delivery", _Number, primary_key=True, autoincrement=False),
    sa.Column("id", _Id, primary_key=True),
    sa.Column("at", _Seconds, nullable=False),
    sa.Column("entry", _Text, nullable=False),
    sqlite_with_rowid=False,
)
"""What happened, one row per event or receipt; `delivery` is a number, `entry` a TimelineEntry in JSON."""

tags = sa.Table(
    "tags",
    metadata,
    sa.Column("delivery", _Number, primary_key=True, autoincrement=False),
    sa.Column("tenant", _Text, primary_key=True),
    sa.Column("tag", _Text, primary_key=True),
    sa.Column("accepted_at", _Seconds, nullable=False),
    sqlite_with_rowid=False,
)
sa.Index("tags_by_time", tags.c.tenant, tags.c.tag, tags.c.accepted_at, tags.c.delivery)

sent_as = sa.Table(
    "sent_as",
    metadata,
    sa.Column("provider_id", _Text, primary_key=True),
    sa.Column("provider", _Text, primary_key=True),
    sa.Column("delivery_id", _Id, primary_key=True),
)
"""What providers call the deliveries they took."""
sa.Index("sent_as_by_delivery", sent_as.c.delivery_id)

receipts = sa.Table(
    "receipts",
    metadata,
    sa.Column("id", _Id, primary_key=True),
    sa.Column("at", _Seconds, primary_key=True),
    sa.Column("provider", _Text, nullable=False),
    sa.Column("provider_id", _Text),
    sa.Column("delivery_id", _Id),
    sa.Column("receipt", _Text, nullable=False),
)
"""Receipts as they came. A receipt without `delivery_id` belongs to every delivery that was sent under its name."""
sa.Index("receipts_by_name", receipts.c.provider_id, receipts.c.provider)
sa.Index("receipts_by_delivery", receipts.c.delivery_id)
sa.Index("receipts_by_time", receipts.c.at)

dead_letters = sa.Table(
    "dead_letters",
    metadata,
    sa.Column("topic", _Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("at", _Seconds, nullable=False),
    sa.Column("error_class", _Text, nullable=False),
    sa.Column("message", _Text, nullable=False),
    sa.Column("delivery_id", _Id),
)
"""Records of the dead topics. A record that cannot be read has no `delivery_id`."""
sa.Index("dead_letters_by_time", dead_letters.c.at)

set_aside = sa.Table(
    "set_aside",
    metadata,
    sa.Column("topic", _Text, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True),
    sa.Column("at", _Seconds, nullable=False),
    sa.Column("error", _Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("start", sa.LargeBinary, nullable=False),
)
"""Records that could be neither decoded nor folded; `start` is the first 4 KB of a value of `size` bytes."""
sa.Index("set_aside_by_time", set_aside.c.at)

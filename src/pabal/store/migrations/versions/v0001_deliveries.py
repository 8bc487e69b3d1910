"""Deliveries, their timelines, tags, receipts and dead letters."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

_Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Text = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "dead_letters",
        sa.Column("topic", _Text, nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("error_class", _Text, nullable=False),
        sa.Column("message", _Text, nullable=False),
        sa.Column("delivery_id", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name="dead_letters_key"),
    )
    op.create_index("dead_letters_by_time", "dead_letters", ["at"])
    op.create_table(
        "deliveries",
        sa.Column("number", _Number, sa.Identity(), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("notification_id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant", _Text, nullable=False),
        sa.Column("channel", _Text, nullable=False),
        sa.Column("address", _Text, nullable=False),
        sa.Column("class", _Text, nullable=False),
        sa.Column("tags", _Text, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("standing", sa.BigInteger(), nullable=False),
        sa.Column("status", _Text, nullable=False),
        sa.Column("next_due", sa.Double(), nullable=True),
        sa.Column("accepted_at", sa.Double(), nullable=True),
        sa.Column("send_at", sa.Double(), nullable=True),
        sa.Column("listed_at", sa.Double(), nullable=False),
        sa.Column("ends_by", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("first_dead_lettered_at", sa.Double(), nullable=True),
        sa.Column("succeeded_at", sa.Double(), nullable=True),
        sa.Column("discarded_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="deliveries_key"),
    )
    op.create_index("deliveries_by_address", "deliveries", ["tenant", "address", "listed_at"])
    op.create_index("deliveries_by_channel", "deliveries", ["tenant", "channel", "listed_at"])
    op.create_index("deliveries_by_class", "deliveries", ["tenant", "class", "listed_at"])
    op.create_index("deliveries_by_end", "deliveries", ["ends_by"])
    op.create_index("deliveries_by_id", "deliveries", ["id"], unique=True)
    op.create_index("deliveries_by_notification", "deliveries", ["notification_id"])
    op.create_index("deliveries_by_status", "deliveries", ["tenant", "status", "listed_at"])
    op.create_index("deliveries_by_time", "deliveries", ["tenant", "listed_at"])
    op.create_index(
        "deliveries_dead_lettered",
        "deliveries",
        ["first_dead_lettered_at"],
        sqlite_where=sa.text("first_dead_lettered_at IS NOT NULL"),
        postgresql_where=sa.text("first_dead_lettered_at IS NOT NULL"),
    )
    op.create_index(
        "deliveries_open_by_end",
        "deliveries",
        ["ends_by"],
        sqlite_where=sa.text("status IN ('accepted', 'scheduled', 'deferred')"),
        postgresql_where=sa.text("status IN ('accepted', 'scheduled', 'deferred')"),
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("provider", _Text, nullable=False),
        sa.Column("provider_id", _Text, nullable=True),
        sa.Column("delivery_id", sa.LargeBinary(), nullable=True),
        sa.Column("receipt", _Text, nullable=False),
        sa.PrimaryKeyConstraint("id", "at", name="receipts_key"),
    )
    op.create_index("receipts_by_delivery", "receipts", ["delivery_id"])
    op.create_index("receipts_by_name", "receipts", ["provider_id", "provider"])
    op.create_index("receipts_by_time", "receipts", ["at"])
    op.create_table(
        "sent_as",
        sa.Column("provider_id", _Text, nullable=False),
        sa.Column("provider", _Text, nullable=False),
        sa.Column("delivery_id", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("provider_id", "provider", "delivery_id", name="sent_as_key"),
    )
    op.create_index("sent_as_by_delivery", "sent_as", ["delivery_id"])
    op.create_table(
        "tags",
        sa.Column("delivery", _Number, autoincrement=False, nullable=False),
        sa.Column("tenant", _Text, nullable=False),
        sa.Column("tag", _Text, nullable=False),
        sa.Column("accepted_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("delivery", "tenant", "tag", name="tags_key"),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_by_time", "tags", ["tenant", "tag", "accepted_at", "delivery"])
    op.create_table(
        "timeline",
        sa.Column("delivery", _Number, autoincrement=False, nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("entry", _Text, nullable=False),
        sa.PrimaryKeyConstraint("delivery", "id", name="timeline_key"),
        sqlite_with_rowid=False,
    )

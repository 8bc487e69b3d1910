"""What the store is asked for the reprocessing report."""

from datetime import datetime

import sqlalchemy as sa

from pabal.store import schema
from pabal.store.port import Reprocessed
from pabal.store.projection import instant

_COLUMNS = schema.deliveries.c


def reprocessed(connection: sa.Connection, *, since: datetime, until: datetime) -> list[Reprocessed]:
    """The deliveries that were first dead-lettered in [`since`, `until`), by the index on that time."""
    first = _COLUMNS.first_dead_lettered_at
    rows = connection.execute(
        sa.select(_COLUMNS.channel, first, _COLUMNS.succeeded_at, _COLUMNS.discarded_at)
        .where(first.is_not(None), first >= since.timestamp(), first < until.timestamp())
        .order_by(first)
    )
    return [
        Reprocessed(
            channel=channel,
            first_dead_lettered_at=instant(dead_at),
            sent_at=None if sent_at is None else instant(sent_at),
            discarded_at=None if discarded_at is None else instant(discarded_at),
        )
        for channel, dead_at, sent_at, discarded_at in rows
    ]

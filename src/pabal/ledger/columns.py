"""A ledger row as the values of a table's columns, the same on every database."""

from typing import Any, Final

import msgspec

from pabal.ledger.protocol import Row

COLUMNS: Final = (
    "attempt",
    "source_attempt",
    "source_parks",
    "state",
    "owner",
    "token",
    "lease_until",
    "provider",
    "verdict",
    "outcome",
    "settled",
    "accepted",
    "takeovers",
    "prune_after",
    "cancelled",
)
"""The columns of `deliveries` after its id. `verdict` and `outcome` are JSON."""

_encode = msgspec.json.Encoder().encode


def to_columns(key: bytes, row: Row) -> list[Any]:
    """A row as the values of its columns, the id first. Raises what an outcome's text may that is no text."""
    return [
        key,
        row.attempt,
        row.source.attempt,
        row.source.parks,
        row.state,
        row.owner,
        row.token,
        row.lease_until,
        row.provider,
        None if row.verdict is None else _encode(row.verdict).decode(),
        None if row.outcome is None else _encode(row.outcome).decode(),
        row.settled,
        row.accepted,
        row.takeovers,
        row.prune_after,
        row.cancelled,
    ]

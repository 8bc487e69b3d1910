"""The ledger's SQL on SQLite: the statements that read and write many rows at once, and the values they carry.

Statements exist for a few sizes only, and shorter groups are padded, so that each stays prepared. A read answers with
one JSON text: it is one step of SQLite, and the interpreter is given up at every step.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pabal.ledger.columns import COLUMNS
from pabal.ledger.protocol import Row, Source
from pabal.ledger.steps import MOST_ROWS
from pabal.outcome import Outcome, Verdict

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, MOST_ROWS)

SCHEMA: Final = (
    """
    CREATE TABLE deliveries (
      number INTEGER PRIMARY KEY,
      id BLOB NOT NULL UNIQUE,
      attempt INTEGER NOT NULL,
      source_attempt INTEGER NOT NULL,
      source_parks INTEGER NOT NULL,
      state TEXT NOT NULL,
      owner INTEGER NOT NULL,
      token INTEGER NOT NULL,
      lease_until REAL NOT NULL,
      provider TEXT NOT NULL,
      verdict TEXT,
      outcome TEXT,
      settled INTEGER NOT NULL,
      accepted INTEGER NOT NULL,
      takeovers INTEGER NOT NULL,
      prune_after REAL NOT NULL,
      cancelled INTEGER NOT NULL
    )
    """,
    "CREATE TABLE suppressions (recipient BLOB PRIMARY KEY) WITHOUT ROWID",
    """
    CREATE TABLE owners (
      owner INTEGER PRIMARY KEY AUTOINCREMENT,
      worker TEXT NOT NULL,
      pid INTEGER NOT NULL,
      boot_id TEXT NOT NULL,
      opened_at TEXT NOT NULL,
      ended TEXT
    )
    """,
    "CREATE TABLE ledger (id BLOB NOT NULL)",
    "INSERT INTO ledger VALUES (randomblob(16))",
)
"""`number` counts deliveries as they come, so that rows written together lie together: with the random `id` as the
table's own key a claim costs twice as much. `owners.ended` says why an owner's leases have ended (NULL: they have
not)."""

SELECT_GATE: Final = "SELECT EXISTS (SELECT 1 FROM suppressions), (SELECT ended FROM owners WHERE owner = ?)"
"""Whether anybody is suppressed, and why the leases of an owner have ended (NULL: they have not)."""

SUPPRESS: Final = "INSERT OR IGNORE INTO suppressions VALUES (?)"
UNSUPPRESS: Final = "DELETE FROM suppressions WHERE recipient = ?"

LAST_OF_STEP: Final = "SELECT max(number) FROM (SELECT number FROM deliveries WHERE number > ? ORDER BY number LIMIT ?)"
PRUNE: Final = (
    "DELETE FROM deliveries WHERE number > ? AND number <= ? AND prune_after < ? "
    "AND NOT (state = 'claimed' AND lease_until > ?)"
)
"""What need not be kept of the rows between two numbers, at a time, on the lease clock's."""

_StoredRow = tuple[
    str, int, int, int, str, int, int, float, str, Verdict | None, Outcome | None, int, int, int, float, int
]
_decode_rows = msgspec.json.Decoder(list[_StoredRow]).decode


def select(keys: Sequence[bytes]) -> tuple[str, list[Any]]:
    """A statement that reads the rows of these ids (at most MOST_ROWS) as one text for `decode`, and its values."""
    return _padded(_SELECTS, keys)


def decode(text: str) -> dict[bytes, Row]:
    """The rows that a `select` found, by id."""
    return {bytes.fromhex(stored[0]): _row(stored) for stored in _decode_rows(text)}


def upsert(rows: Sequence[list[Any]]) -> tuple[str, list[Any]]:
    """A statement that writes these rows (`to_columns`; at most MOST_ROWS), and its values."""
    size = _size_for(len(rows))
    values = [value for row in rows for value in row]
    values += rows[-1] * (size - len(rows))  # once more changes nothing
    return _UPSERTS[size], values


def settle(keys: Sequence[bytes]) -> tuple[str, list[Any]]:
    """A statement that notes that the verdicts' records of these ids (at most MOST_ROWS) are in the log."""
    return _padded(_SETTLES, keys)


def select_suppressed(recipients: Sequence[bytes]) -> tuple[str, list[Any]]:
    """A statement that reads which of these recipients (at most MOST_ROWS) must not be written to."""
    return _padded(_SUPPRESSED, recipients)


def _padded(statements: Mapping[int, str], keys: Sequence[bytes]) -> tuple[str, list[Any]]:
    size = _size_for(len(keys))
    return statements[size], [*keys, *[b""] * (size - len(keys))]


def _row(stored: _StoredRow) -> Row:
    return Row(
        attempt=stored[1],
        source=Source(stored[2], stored[3]),
        state=stored[4],  # type: ignore[arg-type]
        owner=stored[5],
        token=stored[6],
        lease_until=stored[7],
        provider=stored[8],
        verdict=stored[9],
        outcome=stored[10],
        settled=bool(stored[11]),
        accepted=stored[12],
        takeovers=stored[13],
        prune_after=stored[14],
        cancelled=bool(stored[15]),
    )


def _select(size: int) -> str:
    columns = ", ".join(f"json({name})" if name in ("verdict", "outcome") else name for name in COLUMNS)
    return (
        f"SELECT json_group_array(json_array(hex(id), {columns})) "  # noqa: S608 - constants only
        f"FROM deliveries WHERE id IN ({', '.join('?' * size)})"
    )


def _upsert(size: int) -> str:
    row = f"(?{', ?' * len(COLUMNS)})"
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS)
    return (
        f"INSERT INTO deliveries (id, {', '.join(COLUMNS)}) VALUES {', '.join([row] * size)} "  # noqa: S608 - constants only
        f"ON CONFLICT (id) DO UPDATE SET {updates}"
    )


_SELECTS = {size: _select(size) for size in _SIZES}
_UPSERTS = {size: _upsert(size) for size in _SIZES}
_SETTLES = {size: f"UPDATE deliveries SET settled = 1 WHERE id IN ({', '.join('?' * size)})" for size in _SIZES}  # noqa: S608 - constants only
_SUPPRESSED = {
    size: f"SELECT recipient FROM suppressions WHERE recipient IN ({', '.join('?' * size)})"  # noqa: S608 - constants only
    for size in _SIZES
}


def _size_for(count: int) -> int:
    return next(size for size in _SIZES if size >= count)

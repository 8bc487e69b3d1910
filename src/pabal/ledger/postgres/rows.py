"""The ledger's SQL on PostgreSQL: its tables, and the statements that read and write many rows at once.

Ids go as text (`{hex,…}`) and come back as bytes; instants are floats here and timestamps in the tables, so that a
person can read them.
"""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from pabal.ledger.columns import COLUMNS
from pabal.ledger.protocol import Row, Source
from pabal.outcome import Outcome, Verdict

SCHEMA_VERSION: Final = 1

SCHEMA: Final = """
CREATE SCHEMA IF NOT EXISTS pabal_ledger;
CREATE TABLE pabal_ledger.ledger (id uuid NOT NULL, version integer NOT NULL);
CREATE TABLE pabal_ledger.deliveries (
  id uuid PRIMARY KEY,
  attempt integer NOT NULL,
  source_attempt integer NOT NULL,
  source_parks integer NOT NULL,
  state text NOT NULL,
  owner bigint NOT NULL,
  token bigint NOT NULL,
  lease_until timestamptz NOT NULL,
  provider text NOT NULL,
  verdict json,
  outcome json,
  settled boolean NOT NULL,
  accepted integer NOT NULL,
  takeovers integer NOT NULL,
  prune_after timestamptz NOT NULL,
  cancelled boolean NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE pabal_ledger.suppressions (recipient bytea PRIMARY KEY);
CREATE TABLE pabal_ledger.owners (
  owner bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  worker text NOT NULL,
  host text NOT NULL,
  pid integer NOT NULL,
  opened_at timestamptz NOT NULL,
  ended text
);
"""
"""A row is written about three times. With half of each page left free for that, a changed row stays on its page, and
the index does not change with it (a "heap-only tuple"). A schema of their own, so that the tables may lie in any
database, also in the store's."""

_TYPES: Final = {
    "attempt": "integer",
    "source_attempt": "integer",
    "source_parks": "integer",
    "state": "text",
    "owner": "bigint",
    "token": "bigint",
    "lease_until": "double precision",
    "provider": "text",
    "verdict": "text",
    "outcome": "text",
    "settled": "boolean",
    "accepted": "integer",
    "takeovers": "integer",
    "prune_after": "double precision",
    "cancelled": "boolean",
}
_ARRAYS = ", ".join(["%s::uuid[]", *(f"%s::{_TYPES[name]}[]" for name in COLUMNS)])


def _stored(name: str) -> str:
    match name:
        case "lease_until" | "prune_after":
            return f"to_timestamp(given.{name})"
        case "verdict" | "outcome":
            return f"given.{name}::json"
        case _:
            return f"given.{name}"


def _read(name: str) -> str:
    match name:
        case "lease_until" | "prune_after":
            return f"date_part('epoch', {name})"
        case "verdict" | "outcome":
            return f"{name}::text"
        case _:
            return name


READ: Final = (
    "SELECT date_part('epoch', clock_timestamp()), "  # noqa: S608 - constants only
    "(SELECT coalesce(ended, '') FROM owners WHERE owner = %s), "
    "ARRAY(SELECT recipient FROM suppressions WHERE recipient = ANY(%s::bytea[])), "
    "(SELECT ended IS NULL FROM owners WHERE owners.owner = deliveries.owner), "
    f"deliveries.xmin::text, uuid_send(id), {', '.join(map(_read, COLUMNS))} "
    "FROM (SELECT 1) AS once LEFT JOIN deliveries ON id = ANY(%s::uuid[])"
)
"""All that a group needs. The same in each row: the lease clock; why the leases of this owner have ended (empty: they
have not; NULL: there is no such owner); which of some recipients are suppressed. Then, for each of some ids that has a
row (one row of NULLs if none has): whether its owner's leases hold, its version, and itself (`to_row`).

A row's version is the transaction that wrote it, which PostgreSQL keeps with it (`xmin`)."""

_INSERT = (
    f"INSERT INTO deliveries (id, {', '.join(COLUMNS)}) "  # noqa: S608 - constants only
    f"SELECT given.id, {', '.join(map(_stored, COLUMNS))} FROM unnest({_ARRAYS}) AS given (id, {', '.join(COLUMNS)})"
)
_UPDATE = (
    f"UPDATE deliveries SET {', '.join(f'{name} = {_stored(name)}' for name in COLUMNS)} "  # noqa: S608 - constants only
    f"FROM unnest({_ARRAYS}, %s::text[]) AS given (id, {', '.join(COLUMNS)}, version) "
    "WHERE deliveries.id = given.id AND deliveries.xmin = given.version::xid RETURNING 1"
)
_SETTLE = (
    "UPDATE deliveries SET settled = true FROM unnest(%s::uuid[], %s::text[]) AS given (id, version) "
    "WHERE deliveries.id = given.id AND deliveries.xmin = given.version::xid RETURNING 1"
)
_GATE = (
    "EXISTS (SELECT 1 FROM owners WHERE owner = %s AND ended IS NULL) "
    "AND NOT EXISTS (SELECT 1 FROM suppressions WHERE recipient = ANY(%s::bytea[]))"
)
"""What a permission to call rests on besides its row: the owner was not written off, and no recipient is suppressed.
The statement that stores the permission asks both again."""

KNOWN: Final = "SELECT id FROM deliveries WHERE id = ANY(%s::uuid[])"
ALL_SUPPRESSED: Final = "SELECT recipient FROM suppressions"
SUPPRESS: Final = "INSERT INTO suppressions SELECT unnest(%s::bytea[]) ON CONFLICT DO NOTHING"
UNSUPPRESS: Final = "DELETE FROM suppressions WHERE recipient = ANY(%s::bytea[])"

BLOCKS: Final = "SELECT pg_relation_size('deliveries') / current_setting('block_size')::int"
PRUNE: Final = """
DELETE FROM deliveries WHERE id = ANY(ARRAY(
  SELECT id FROM deliveries WHERE ctid >= %s::tid AND ctid < %s::tid
  AND prune_after < to_timestamp(%s) AND NOT (state = 'claimed' AND lease_until > clock_timestamp())
  FOR UPDATE SKIP LOCKED))
"""
"""What need not be kept of the rows in a range of blocks, the blocks being read once and in order."""

_decode_verdict = msgspec.json.Decoder(Verdict).decode
_decode_outcome = msgspec.json.Decoder(Outcome).decode


def id_array(keys: Iterable[bytes]) -> str:
    """Ids as the text of a `uuid[]`."""
    return f"{{{','.join(key.hex() for key in keys)}}}"


def write(
    new: Collection[Sequence[Any]],
    changed: Collection[Sequence[Any]],
    settled: Collection[bytes],
    *,
    versions: Mapping[bytes, str],
    owner: int,
    permitted: Collection[bytes],
) -> tuple[str, list[Any]]:
    """A statement that stores rows (`to_columns`), some of which only became settled, and its values.

    `permitted`: the recipients that these rows permit calls to, by this `owner` (empty: they permit none).

    It stores all or nothing: it fails with a unique violation if one of the `new` is there by now, and with a division
    by zero if one of the others has no longer the version that was read, one of the recipients is suppressed, or the
    owner was written off.
    """
    values: list[Any] = []
    if changed:
        ids, *columns = _by_column(changed)
        values += [id_array(ids), *columns, [versions[key] for key in ids]]
    if settled:
        ids = sorted(settled)
        values += [id_array(ids), [versions[key] for key in ids]]
    if new:
        ids, *columns = _by_column(new)
        values += [id_array(ids), *columns]
    values.append(len(changed) + len(settled))
    if permitted:
        values += [owner, list(permitted)]
    return _WRITES[bool(changed), bool(settled), bool(new), bool(permitted)], values


def _write(*, changed: bool, settled: bool, new: bool, permits: bool) -> str:
    steps = {
        name: statement
        for name, statement, is_wanted in (
            ("changed", _UPDATE, changed),
            ("settled", _SETTLE, settled),
            ("new", _INSERT, new),
        )
        if is_wanted
    }
    counted = [f"(SELECT count(*) FROM {name})" for name in steps if name != "new"]  # noqa: S608 - constants only
    together = ", ".join(f"{name} AS ({statement})" for name, statement in steps.items())
    holds = f"{' + '.join(counted) or '0'} = %s{f' AND {_GATE}' if permits else ''}"
    return f"WITH {together} SELECT 1 / ({holds})::int"


_WRITES = {
    (changed, settled, new, permits): _write(changed=changed, settled=settled, new=new, permits=permits)
    for changed, settled, new, permits in itertools.product((False, True), repeat=4)
    if changed or settled or new
}


def _by_column(rows: Collection[Sequence[Any]]) -> list[list[Any]]:
    return [list(column) for column in zip(*sorted(rows, key=_id_of), strict=True)]


def _id_of(row: Sequence[Any]) -> bytes:
    key: bytes = row[0]
    return key


def to_row(stored: Sequence[Any]) -> Row:
    """A row as READ found it, from its id on."""
    return Row(
        attempt=stored[1],
        source=Source(stored[2], stored[3]),
        state=stored[4],
        owner=stored[5],
        token=stored[6],
        lease_until=stored[7],
        provider=stored[8],
        verdict=None if stored[9] is None else _decode_verdict(stored[9]),
        outcome=None if stored[10] is None else _decode_outcome(stored[10]),
        settled=stored[11],
        accepted=stored[12],
        takeovers=stored[13],
        prune_after=stored[14],
        cancelled=stored[15],
    )

"""Which ledger a log belongs to, by the records under `ledger/id` in `pabal.ops`. Pure.

The *first* record holds. Two first workers at once, on two ledgers: the earlier record holds. A record displaces
another only when a person adopts its ledger. It is named by its time, which is later than that of the record it
displaces: an older adoption that is put back changes nothing.

A later record that no person adopted, a record that cannot be read, and a tombstone (Pabal writes none here) displace
nothing. Compaction would keep the last of them alone: so a worker that starts and finds one there puts the record that
holds back on top of it (`ledger_binding.py`).
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.notification import LAST_INSTANT, OPS_TOPIC, Fact, Instant, is_reckoned

LEDGER_SCHEMA: Final = b"ledger/1"
LEDGER_KEY: Final = b"ledger/id"


class LedgerRecord(Fact, frozen=True, kw_only=True):
    """The value under `ledger/id`. `adopted`: a person put it in another's place."""

    id: UUID
    recorded_at: Instant
    adopted: bool = False


_decode = msgspec.json.Decoder(LedgerRecord).decode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of its ledger: the record that `holds`, if any can be read; whether compaction would keep that
    record (`is_on_top`); and what is `wrong` with the last record that cannot be read."""

    holds: LedgerRecord | None = None
    is_on_top: bool = True
    wrong: str | None = None


class Identity:
    """The fold: the first record holds, unless a later one was adopted. `recorded` is what holds now."""

    prefix = LEDGER_KEY

    def __init__(self) -> None:
        self.recorded = Recorded()

    def take(self, records: Sequence[Record]) -> None:
        """See `Fold.take`. Records under other keys change nothing."""
        holds, is_on_top, wrong = self.recorded.holds, self.recorded.is_on_top, self.recorded.wrong
        for record in records:
            if record.key != LEDGER_KEY:
                continue
            try:
                value = _read(record)
            except DecodeError as error:
                is_on_top, wrong = False, f"{record.topic}/{record.partition}@{record.offset}: {error}"
                continue
            if holds is None or (value.adopted and value.recorded_at > holds.recorded_at):
                holds = value
            is_on_top = value == holds
        self.recorded = Recorded(holds=holds, is_on_top=is_on_top, wrong=wrong)


def ledger_record(value: LedgerRecord) -> NewRecord:
    """The record that says so."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=LEDGER_KEY,
        value=msgspec.json.encode(value),
        headers=((SCHEMA_HEADER, LEDGER_SCHEMA),),
    )


def _read(record: Record) -> LedgerRecord:
    if record.value is None:
        raise DecodeError("a tombstone", error_class="undecodable")
    check_schema(record, LEDGER_SCHEMA)
    value = decoded(_decode, record.value, what="a ledger's record")
    if not is_reckoned(value.recorded_at) or value.recorded_at > LAST_INSTANT - timedelta(days=1):
        raise DecodeError("a time beyond all reckoning", error_class="undecodable")
    return value

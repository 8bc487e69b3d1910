"""Which ledger a log belongs to: recorded in the log, so that no worker sends by another's book.

A worker on the wrong ledger (a mistyped path, an empty file on a new host, a database from a backup) would find nothing
of what was sent, and send again what it reads again. So the first worker records its ledger's id in `pabal.ops`, under
`ledger/id`, and from then on whoever opens another ledger refuses to start. Changing the ledger is a person's decision:
`pabal ledger adopt`.

Two first workers at once, on two ledgers: the earlier record holds. What was recorded later and adopted by nobody, what
cannot be read, and a tombstone (Pabal writes none here) displace nothing. Compaction would keep the last of them alone,
so whoever starts and finds one there puts the record that holds back on top of it. An adoption is named by its time,
which is later than that of the record it displaces: put back, an older one changes nothing.

If nothing that stands there can be read, the log had a ledger, and nobody can tell which: a start is refused.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final
from uuid import UUID

import msgspec

from pabal.broker.port import Admin, NewRecord, Producer, Reader, Record
from pabal.clock import Clock
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import ConfigError, DecodeError, LedgerUnavailable
from pabal.notification import LAST_INSTANT, OPS_TOPIC, Fact, Instant, is_reckoned

logger = logging.getLogger(__name__)

LEDGER_SCHEMA: Final = b"ledger/1"
LEDGER_KEY: Final = b"ledger/id"


class LedgerRecord(Fact, frozen=True, kw_only=True):
    """The value under `ledger/id`. `adopted`: a person put it in another's place."""

    id: UUID
    recorded_at: Instant
    adopted: bool = False


async def _knows_none() -> bool:
    return False


_decode = msgspec.json.Decoder(LedgerRecord).decode


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """What the log says of its ledger: the record that `holds`, if any can be read; whether that is what compaction
    would keep (`is_on_top`); and what is `wrong` with the last record that cannot be read."""

    holds: LedgerRecord | None = None
    is_on_top: bool = True
    wrong: str | None = None


class LedgerIdentity:
    """Reads and writes which ledger a log belongs to. Raises LogUnavailable, UnknownTopic."""

    def __init__(self, *, producer: Producer, reader: Reader, admin: Admin, clock: Clock) -> None:
        self._producer = producer
        self._reader = reader
        self._admin = admin
        self._clock = clock

    async def recorded(self) -> Recorded:
        """The ledger that the log belongs to."""
        records = [
            record
            for partition in await self._admin.watermarks(OPS_TOPIC)
            async for batch in self._reader.read(partition)
            for record in batch
        ]
        return fold(records)

    async def check(
        self,
        ledger_id: UUID,
        *,
        place: str,
        may_be_first: bool = True,
        knows_deliveries: Callable[[], Awaitable[bool]] = _knows_none,
    ) -> None:
        """Record this ledger as the log's if there is none. `place` says where it is, for the error.

        Raises:
            ConfigError: the log belongs to another ledger, or what says to which cannot be read; or to none, and this
                one knows deliveries, so that it served another log (`knows_deliveries` is asked only then).
            LedgerUnavailable: it belongs to none yet, and this one may not be the first.
        """
        recorded = await self.recorded()
        if recorded.holds is None and recorded.wrong is not None:
            raise ConfigError(
                f"which ledger the log belongs to cannot be read ({recorded.wrong}). Is {place} the one that it was "
                "sent by, stop every worker and run: pabal ledger adopt"
            )
        if recorded.holds is None and not may_be_first:
            raise LedgerUnavailable("no worker has opened a ledger for this log yet")
        if recorded.holds is None and await knows_deliveries():
            raise ConfigError(
                f"this log has had no ledger, but {place} knows deliveries of another log: was the log deleted, or is "
                "another one named? If it is meant to begin anew with this ledger, run: pabal ledger adopt (with the "
                "same --log, --config or --data)"
            )
        if recorded.holds is None:
            await self._record(LedgerRecord(id=ledger_id, recorded_at=self._clock.now()))
            recorded = await self.recorded()
        found = recorded.holds
        assert found is not None
        if not recorded.is_on_top:
            logger.warning(
                "%s: the record that holds is put back on top%s",
                LEDGER_KEY.decode(),
                f" of one that cannot be read: {recorded.wrong}" if recorded.wrong else "",
            )
            await self._record(found)
        if found.id != ledger_id:
            raise ConfigError(
                f"the log belongs to ledger {found.id}, since {found.recorded_at:%Y-%m-%d %H:%M} UTC, but {place} is "
                f"ledger {ledger_id}, which does not know what was sent. Use the log's own; only if that is lost for "
                "good, stop every worker and run: pabal ledger adopt"
            )

    async def adopt(self, ledger_id: UUID) -> None:
        """From now on the log belongs to this ledger, whatever it belonged to."""
        now, holds = self._clock.now(), (await self.recorded()).holds
        if holds is not None:
            now = max(now, holds.recorded_at + timedelta(microseconds=1))
        await self._record(LedgerRecord(id=ledger_id, recorded_at=now, adopted=True))

    async def _record(self, value: LedgerRecord) -> None:
        record = NewRecord(
            topic=OPS_TOPIC,
            key=LEDGER_KEY,
            value=msgspec.json.encode(value),
            headers=((SCHEMA_HEADER, LEDGER_SCHEMA),),
        )
        await self._producer.append([record])


def fold(records: Iterable[Record]) -> Recorded:
    """What the records of `pabal.ops`, in order, say of the log's ledger: the first holds, unless one was adopted."""
    holds, is_on_top, wrong = None, True, None
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
    return Recorded(holds=holds, is_on_top=is_on_top, wrong=wrong)


def _read(record: Record) -> LedgerRecord:
    if record.value is None:
        raise DecodeError("a tombstone", error_class="undecodable")
    check_schema(record, LEDGER_SCHEMA)
    value = decoded(_decode, record.value, what="a ledger's record")
    if not is_reckoned(value.recorded_at) or value.recorded_at > LAST_INSTANT - timedelta(days=1):
        raise DecodeError("a time beyond all reckoning", error_class="undecodable")
    return value

"""Which ledger a log belongs to: recorded in the log, so that no worker sends by another's book.

A worker on the wrong ledger (a mistyped path, an empty file on a new host, a database from a backup) would find nothing
of what was sent, and send again what it reads again. So the first worker records its ledger's id in `pabal.ops`, under
`ledger/id`, and from then on whoever opens another ledger refuses to start. Changing the ledger is a person's decision:
`pabal ledger adopt`.

Two first workers at once, on two ledgers: the earlier record holds. Who finds that its own came second puts the earlier
one back on top, because compaction keeps only the last, and refuses.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from uuid import UUID

import msgspec

from pabal.broker.port import Admin, NewRecord, Producer, Reader, Record
from pabal.clock import Clock
from pabal.codec import SCHEMA_HEADER
from pabal.errors import ConfigError, LedgerUnavailable
from pabal.notification import OPS_TOPIC, Fact, Instant

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


class LedgerIdentity:
    """Reads and writes which ledger a log belongs to. Raises LogUnavailable, UnknownTopic."""

    def __init__(self, *, producer: Producer, reader: Reader, admin: Admin, clock: Clock) -> None:
        self._producer = producer
        self._reader = reader
        self._admin = admin
        self._clock = clock

    async def recorded(self) -> LedgerRecord | None:
        """The ledger that the log belongs to; None: nobody has worked on it yet."""
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
            ConfigError: the log belongs to another ledger; or to none, and this one knows deliveries, so that it served
                another log (`knows_deliveries` is asked only then).
            LedgerUnavailable: it belongs to none yet, and this one may not be the first.
        """
        found = await self.recorded()
        if found is None and not may_be_first:
            raise LedgerUnavailable("no worker has opened a ledger for this log yet")
        if found is None and await knows_deliveries():
            raise ConfigError(
                f"this log has had no ledger, but {place} knows deliveries of another log: was the log deleted, or is "
                "another one named? If it is meant to begin anew with this ledger, run: pabal ledger adopt (with the "
                "same --log, --config or --data)"
            )
        if found is None:
            await self._record(LedgerRecord(id=ledger_id, recorded_at=self._clock.now()))
            found = await self.recorded()
            assert found is not None
            if found.id != ledger_id:
                await self._record(found)
        if found.id != ledger_id:
            raise ConfigError(
                f"the log belongs to ledger {found.id}, since {found.recorded_at:%Y-%m-%d %H:%M} UTC, but {place} is "
                f"ledger {ledger_id}, which does not know what was sent. Use the log's own; only if that is lost for "
                "good, stop every worker and run: pabal ledger adopt"
            )

    async def adopt(self, ledger_id: UUID) -> None:
        """From now on the log belongs to this ledger, whatever it belonged to."""
        await self._record(LedgerRecord(id=ledger_id, recorded_at=self._clock.now(), adopted=True))

    async def _record(self, value: LedgerRecord) -> None:
        record = NewRecord(
            topic=OPS_TOPIC,
            key=LEDGER_KEY,
            value=msgspec.json.encode(value),
            headers=((SCHEMA_HEADER, LEDGER_SCHEMA),),
        )
        await self._producer.append([record])


def fold(records: Iterable[Record]) -> LedgerRecord | None:
    """Which ledger the records of `pabal.ops`, in order, make the log's own: the first, unless another was adopted."""
    holds: LedgerRecord | None = None
    for record in records:
        if record.key != LEDGER_KEY:
            continue
        if record.value is None:
            holds = None
        elif record.header(SCHEMA_HEADER) == LEDGER_SCHEMA:
            value = _decode(record.value)
            holds = value if holds is None or value.adopted else holds
    return holds

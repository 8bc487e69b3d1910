"""Binds a log to its ledger: no worker sends by another log's book.

A worker on the wrong ledger (a mistyped path, an empty file on a new host, a database from a backup) would find nothing
of what was sent, and send again what it reads again. So the first worker records its ledger's id in `pabal.ops`, and
from then on a worker that opens another ledger refuses to start. Changing the ledger is a person's decision:
`pabal ledger adopt`. Which record holds is decided in `ledger_identity.py`.

If no record that stands there can be read, the log had a ledger, and nothing tells which: a start is refused.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

from pabal.broker.port import Admin, Producer, Reader
from pabal.clock import Clock
from pabal.errors import ConfigError, LedgerUnavailable
from pabal.notification import OPS_TOPIC
from pabal.ops.ledger_identity import LEDGER_KEY, Identity, LedgerRecord, Recorded, ledger_record

logger = logging.getLogger(__name__)


async def _knows_none() -> bool:
    return False


class LedgerBinding:
    """Reads and writes which ledger a log belongs to. Raises LogUnavailable, UnknownTopic."""

    def __init__(self, *, producer: Producer, reader: Reader, admin: Admin, clock: Clock) -> None:
        self._producer = producer
        self._reader = reader
        self._admin = admin
        self._clock = clock

    async def recorded(self) -> Recorded:
        """The ledger that the log belongs to."""
        identity = Identity()
        for partition in await self._admin.watermarks(OPS_TOPIC):
            async for records in self._reader.read(partition):
                identity.take(records)
        return identity.recorded

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
        await self._producer.append([ledger_record(value)])

"""Stored verdicts become true: their records are appended, their claims settled, their deeds observed."""

import logging
from collections.abc import Sequence

from pabal.broker.port import Producer
from pabal.codec import cut_record
from pabal.errors import RecordRefused
from pabal.ledger.port import Ledger
from pabal.runtime import insist
from pabal.worker.deed import Observer
from pabal.worker.errand import End

logger = logging.getLogger(__name__)


class Teller:
    """Tells ends: append → settle → observe."""

    def __init__(self, *, producer: Producer, ledger: Ledger, observers: Sequence[Observer] = ()) -> None:
        self._producer = producer
        self._ledger = ledger
        self._observers = observers

    async def tell(self, ends: Sequence[End]) -> None:
        """Append what the ends mean. From then on everything about their records is in the log: their offsets count."""
        records = [record for end in ends for record in end.records]
        try:
            await insist(lambda: self._producer.append(records))
        except RecordRefused as error:
            if len(ends) > 1:
                for end in ends:
                    await self.tell([end])
                return
            logger.error("cut short what the log does not take: %s", error)
            cut = [cut_record(record) for record in records]
            await insist(lambda: self._producer.append(cut))
        for end in ends:
            if end.claim is not None:
                self._ledger.settle(end.claim.delivery, owner=end.claim.owner, token=end.claim.token)
        if self._observers:
            self._let_observe(ends)

    def _let_observe(self, ends: Sequence[End]) -> None:
        for deed in [end.deed for end in ends if end.deed is not None]:
            for observe in self._observers:
                try:
                    observe(deed)
                except Exception:
                    # Counting must not end sending.
                    logger.exception("an observer failed on %s", deed)

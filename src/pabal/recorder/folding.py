"""From records to the store: decode, fold, and find what can be neither decoded nor folded."""

import logging
from collections.abc import Iterable, Sequence

from pabal.broker.port import Record
from pabal.errors import DecodeError, StoreRefused
from pabal.recorder.reading import read_fact
from pabal.store.port import Store, StoredFact

logger = logging.getLogger(__name__)


class Folder:
    """Folds records into a store; counts what it has skipped: `undecodable` records and `refused` facts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.undecodable = 0
        self.refused = 0

    def decode(self, records: Iterable[Record]) -> list[StoredFact]:
        """The facts of the records that can be read."""
        facts: list[StoredFact] = []
        unread: list[tuple[Record, DecodeError]] = []
        for record in records:
            try:
                facts.append(read_fact(record))
            except DecodeError as error:
                unread.append((record, error))
        if unread:
            self.undecodable += len(unread)
            first, why = unread[0]
            logger.warning(
                "%d records cannot be read and are not recorded; the first is %s/%d@%d: %s",
                len(unread),
                *first.topic_partition,
                first.offset,
                why,
            )
        return facts

    async def fold(self, facts: Sequence[StoredFact]) -> None:
        """Fold facts; those that the store will never take are skipped. Raises StoreUnavailable."""
        try:
            await self._store.fold(facts)
        except StoreRefused as error:
            if len(facts) > 1:
                middle = len(facts) // 2
                await self.fold(facts[:middle])
                await self.fold(facts[middle:])
                return
            self.refused += 1
            logger.error("not recorded: %s (%r)", error, facts[0])

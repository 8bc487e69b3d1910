"""From records to the store: decode, fold, and find the records that can be neither decoded nor folded.

A record is to blame when pure code cannot decode or merge it, or when the database will never take its values. When the
store, the log or the system fails, no record is to blame: the recorder waits, or the role ends.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pabal.broker.port import Record
from pabal.errors import DecodeError, StoreRefused
from pabal.recorder.reading import read_fact
from pabal.store.port import RecordPlace, SetAside, Store, StoredFact

logger = logging.getLogger(__name__)

Follow = Callable[[Sequence[StoredFact]], Awaitable[None]]

KEPT_BYTES: Final = 4096
"""Of the value of a record that is set aside."""

_KEPT_CHARACTERS: Final = 1000


class Poison(NamedTuple):
    """A record that can be neither decoded nor folded, and why."""

    record: Record
    why: str


class _Decoded(NamedTuple):
    record: Record
    fact: StoredFact


class Folder:
    """Folds records into a store, and has `follow` act on what was folded."""

    def __init__(self, store: Store, *, follow: Follow | None = None) -> None:
        self._store = store
        self._follow = follow

    async def fold(self, records: Iterable[Record]) -> list[Poison]:
        """Fold records, and return the records that cannot be folded; all others are folded and followed.

        Raises StoreUnavailable, and what `follow` raises: it is unknown what was folded, folding again is safe.
        """
        told, poison = _decode(records)
        poison += await self._narrow(self._store.fold, told)
        if self._follow is not None and told:
            refused = {place(each.record) for each in poison}
            poison += await self._narrow(self._follow, [each for each in told if place(each.record) not in refused])
        return poison

    async def _narrow(
        self, take: Callable[[Sequence[StoredFact]], Awaitable[None]], told: Sequence[_Decoded]
    ) -> list[Poison]:
        """Take all facts but the refused ones, which are found by halving: some twenty tries for one in a thousand."""
        if not told:
            return []
        try:
            await take([each.fact for each in told])
        except StoreRefused as error:
            if len(told) == 1:
                return [Poison(told[0].record, str(error))]
            middle = len(told) // 2
            return [*await self._narrow(take, told[:middle]), *await self._narrow(take, told[middle:])]
        return []


def place(record: Record) -> RecordPlace:
    """Where a record stands."""
    return RecordPlace(record.topic, record.partition, record.offset)


def set_aside(poison: Poison) -> SetAside:
    """What is kept of it."""
    record, value = poison.record, poison.record.value or b""
    return SetAside(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        at=datetime.fromtimestamp(record.timestamp, UTC),
        error=poison.why[:_KEPT_CHARACTERS],
        size=len(value),
        start=value[:KEPT_BYTES],
    )


def _decode(records: Iterable[Record]) -> tuple[list[_Decoded], list[Poison]]:
    told: list[_Decoded] = []
    poison: list[Poison] = []
    for record in records:
        try:
            told.append(_Decoded(record, read_fact(record)))
        except DecodeError as error:
            poison.append(Poison(record, str(error)))
        except MemoryError:
            raise
        except Exception as error:  # Decoding is pure: it fails by these bytes, and others are read all the same.
            logger.exception("%s/%d@%d met a defect", *place(record))
            poison.append(Poison(record, f"{type(error).__name__}: {error}"))
    return told, poison

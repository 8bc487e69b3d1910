"""What a fold of `pabal.ops` is, and the kind of which the last word of each key holds. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from pabal.broker.port import Record
from pabal.errors import DecodeError
from pabal.unreadable import Unreadable

T = TypeVar("T")


class Fold(Protocol):
    """State that stands in `pabal.ops` under the keys of one prefix."""

    @property
    def prefix(self) -> bytes:
        """What the keys of its records begin with."""
        ...

    def take(self, records: Sequence[Record]) -> None:
        """Take in records in log order, with their times. After a compaction, records come again that were taken.

        Raises nothing because of a record: a record that cannot be read is passed over, and counted (`Unreadable`).
        """
        ...


class LastWins(Generic[T]):
    """A fold in which the last word of each key that can be read holds: `last` has it by key.

    Not for state in which the first word holds, or the order of words: that needs each record (`Fold`).
    """

    def __init__(
        self,
        prefix: bytes,
        *,
        read: Callable[[Record], T | None],
        name: str,
        tell: Callable[[Mapping[bytes, T]], None] | None = None,
    ) -> None:
        """`read` says what a record means, None where it means nothing, and raises DecodeError. `name` is the fold's in
        warnings. `tell` is given the words that are new, the last of each key."""
        self.prefix = prefix
        self.unreadable = Unreadable(name)
        self.last: dict[bytes, T] = {}
        self._read = read
        self._tell = tell

    def take(self, records: Sequence[Record]) -> None:
        """See `Fold.take`."""
        new: dict[bytes, T] = {}
        for record in records:
            try:
                word = self._read(record)
            except DecodeError as error:
                self.unreadable.note(record, error)
                continue
            if word is not None and record.key is not None:
                new[record.key] = word
        self.last.update(new)
        if new and self._tell is not None:
            self._tell(new)

"""Who waits in memory for which callee, first come, first served; and which lines are worth another look. Pure."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pabal.guard import Callee

Item = TypeVar("Item")


class Lines(Generic[Item]):
    """A line per callee. A line is *stirred* when its callee may have room again, until that proves wrong."""

    def __init__(self) -> None:
        self._lines: dict[Callee, deque[Item]] = {}
        # A dict for its order: lines are looked at in turn.
        self.stirred: dict[Callee, None] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self._lines)

    def total(self) -> int:
        """How many wait, for whomever."""
        return sum(map(len, self._lines.values()))

    def length(self, callee: Callee) -> int:
        """How many wait for it."""
        line = self._lines.get(callee)
        return len(line) if line is not None else 0

    def join(self, callee: Callee, item: Item) -> None:
        """Wait at the end of a line."""
        self._lines.setdefault(callee, deque()).append(item)

    def stir(self, callee: Callee) -> None:
        """It may have room again."""
        if callee in self._lines:
            self.stirred[callee] = None

    def stir_all(self) -> None:
        """Time has passed: any may have room again."""
        self.stirred = dict.fromkeys(self._lines)

    def next_head(self) -> tuple[Callee, Item] | None:
        """The first of the line whose turn it is among those that were stirred."""
        for callee in self.stirred:
            return callee, self._lines[callee][0]
        return None

    def take_head(self, callee: Callee) -> None:
        """The first of a line goes; another line is next."""
        line = self._lines[callee]
        line.popleft()
        was_stirred = callee in self.stirred
        self.stirred.pop(callee, None)
        if not line:
            del self._lines[callee]
        elif was_stirred:
            self.stirred[callee] = None

    def settle(self, callee: Callee) -> None:
        """It has no room after all."""
        self.stirred.pop(callee, None)

    def take_out(self, is_meant: Callable[[Item], bool]) -> list[Item]:
        """Take out all that are meant, wherever they stand: each line's in order, line after line."""
        taken = []
        for callee, line in [*self._lines.items()]:
            out = [item for item in line if is_meant(item)]
            if out:
                taken += out
                self._lines[callee] = deque(item for item in line if not is_meant(item))
                if not self._lines[callee]:
                    del self._lines[callee]
                    self.stirred.pop(callee, None)
        return taken

    def trim(self, room: Callable[[Callee], int], *, limit: int) -> Iterator[tuple[Callee, Item]]:
        """Take out, from the end, those for whom there is no room in their line; no more than `limit` of all."""
        for callee in [*self._lines]:
            line = self._lines[callee]
            most = room(callee)
            while len(line) > most and limit > 0:
                limit -= 1
                yield callee, line.pop()
            if not line:
                del self._lines[callee]
                self.stirred.pop(callee, None)

"""A queue in memory for each callee, first come, first served, and which queues are worth another look. Pure."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from pabal.guard import Callee

Item = TypeVar("Item")


class CalleeQueues(Generic[Item]):
    """A queue per callee. A queue is *stirred* when its callee may have room again, until that proves wrong."""

    def __init__(self) -> None:
        self._queues: dict[Callee, deque[Item]] = {}
        # A dict for its order: queues are looked at in turn.
        self.stirred: dict[Callee, None] = {}

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._queues)

    def total(self) -> int:
        """How many items wait, in all queues."""
        return sum(map(len, self._queues.values()))

    def length(self, callee: Callee) -> int:
        """How many items wait for it."""
        queue = self._queues.get(callee)
        return len(queue) if queue is not None else 0

    def join(self, callee: Callee, item: Item) -> None:
        """Wait at the end of a queue."""
        self._queues.setdefault(callee, deque()).append(item)

    def stir(self, callee: Callee) -> None:
        """It may have room again."""
        if callee in self._queues:
            self.stirred[callee] = None

    def stir_all(self) -> None:
        """Time has passed: any may have room again."""
        self.stirred = dict.fromkeys(self._queues)

    def next_head(self) -> tuple[Callee, Item] | None:
        """The first item of the stirred queue that is next."""
        for callee in self.stirred:
            return callee, self._queues[callee][0]
        return None

    def take_head(self, callee: Callee) -> None:
        """The first item of a queue goes; another queue is next."""
        queue = self._queues[callee]
        queue.popleft()
        was_stirred = callee in self.stirred
        self.stirred.pop(callee, None)
        if not queue:
            del self._queues[callee]
        elif was_stirred:
            self.stirred[callee] = None

    def settle(self, callee: Callee) -> None:
        """It has no room after all."""
        self.stirred.pop(callee, None)

    def take_out(self, is_meant: Callable[[Item], bool]) -> list[Item]:
        """Take out every item that is meant, wherever it stands: each queue's in order, queue after queue."""
        taken = []
        for callee, queue in [*self._queues.items()]:
            taken += [item for item in queue if is_meant(item)]
            self._replace(callee, deque(item for item in queue if not is_meant(item)))
        return taken

    def trim(self, room: Callable[[Callee], int], *, limit: int) -> Iterator[tuple[Callee, Item]]:
        """Take out, from the ends, items that find no room in their queue; no more than `limit` of all."""
        for callee, queue in [*self._queues.items()]:
            most = room(callee)
            while len(queue) > most and limit > 0:
                limit -= 1
                yield callee, queue.pop()
            self._replace(callee, queue)

    def _replace(self, callee: Callee, queue: deque[Item]) -> None:
        if queue:
            self._queues[callee] = queue
        else:
            del self._queues[callee]
            self.stirred.pop(callee, None)

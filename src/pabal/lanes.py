"""What goes next: one lane per order key, classes by weight. Pure.

Items of one order key leave one at a time, in order. Between classes, deficit round robin with unit cost (Shreedhar &
Varghese 1995): in each round a class may take as many items as its weight, so none starves and an idle class costs
the others nothing.
"""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """The waiting items of one channel, by class and order key."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        self._credit = dict(weights)
        self._ready: dict[str, deque[tuple[Hashable, Item]]] = {name: deque() for name in weights}
        # A key is present while one of its items is out or ready; its deque holds those behind.
        self._behind: dict[tuple[str, Hashable], deque[Item]] = {}

    def put(self, item: Item, *, class_: str, key: Hashable) -> None:
        """Add an item at the end of its lane."""
        behind = self._behind.get((class_, key))
        if behind is None:
            self._behind[class_, key] = deque()
            self._ready[class_].append((key, item))
        else:
            behind.append(item)

    def take(self) -> Item | None:
        """The next item whose lane is free, or None; its lane stays closed until `leave`."""
        for _ in range(2):
            for name, ready in self._ready.items():
                if ready and self._credit[name] > 0:
                    self._credit[name] -= 1
                    return ready.popleft()[1]
            self._credit.update(self._weights)
        return None

    def leave(self, *, class_: str, key: Hashable) -> None:
        """An item that was taken is finished with: the next of its lane may go."""
        behind = self._behind[class_, key]
        if behind:
            self._ready[class_].append((key, behind.popleft()))
        else:
            del self._behind[class_, key]

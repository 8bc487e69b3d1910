"""What goes next: one lane per order key, classes by weight, tenants in turn. Pure.

Items of one order key leave one at a time, in order. Between classes, deficit round robin with unit cost (Shreedhar &
Varghese 1995): in each round a class may take as many items as its weight, so none starves and an idle class costs
the others nothing. Within a class the tenants take turns, one item each: two thousand items of one tenant do not stand
before the only item of another. A class that is held gives out nothing, and its items keep their order.
"""

from collections import deque
from collections.abc import Hashable, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Lanes(Generic[Item]):
    """The waiting items of one channel, by class, tenant and order key."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        # What each class may take in a round: its weight, or nothing while it is held.
        self._share = dict(weights)
        self._credit = dict(weights)
        self._ready: dict[str, _Turns[Item]] = {name: _Turns() for name in weights}
        # A key is present while one of its items is out or ready; its deque holds the items behind.
        self._behind: dict[tuple[str, Hashable, Hashable], deque[Item]] = {}

    def put(self, item: Item, *, class_: str, key: Hashable, tenant: Hashable = None) -> None:
        """Add an item at the end of its lane. Order keys are a tenant's own."""
        behind = self._behind.get((class_, tenant, key))
        if behind is None:
            self._behind[class_, tenant, key] = deque()
            self._ready[class_].add(item, tenant)
        else:
            behind.append(item)

    def take(self) -> Item | None:
        """The next item whose lane is free, or None; its lane stays closed until `leave`."""
        for _ in range(2):
            for name, ready in self._ready.items():
                if ready.turns and self._credit[name] > 0:
                    self._credit[name] -= 1
                    return ready.take()
            self._credit.update(self._share)
        return None

    def hold(self, class_: str) -> None:
        """Give out no item of this class until `let_go`; its items keep their order."""
        self._share[class_] = self._credit[class_] = 0

    def let_go(self, class_: str) -> None:
        """Give out items of this class again."""
        self._share[class_] = self._credit[class_] = self._weights[class_]

    def leave(self, *, class_: str, key: Hashable, tenant: Hashable = None) -> None:
        """An item that was taken is finished with: the next of its lane may go."""
        behind = self._behind[class_, tenant, key]
        if behind:
            self._ready[class_].add(behind.popleft(), tenant)
        else:
            del self._behind[class_, tenant, key]


class _Turns(Generic[Item]):
    """Items of several tenants, each tenant's in order; `turns` are the tenants that have any."""

    __slots__ = ("_items", "turns")

    def __init__(self) -> None:
        self.turns: deque[Hashable] = deque()
        self._items: dict[Hashable, deque[Item]] = {}

    def add(self, item: Item, tenant: Hashable) -> None:
        items = self._items.get(tenant)
        if items is None:
            self._items[tenant] = deque((item,))
            self.turns.append(tenant)
        else:
            items.append(item)

    def take(self) -> Item:
        tenant = self.turns[0]
        items = self._items[tenant]
        item = items.popleft()
        if not items:
            self.turns.popleft()
            del self._items[tenant]
        else:
            self.turns.rotate(-1)
        return item

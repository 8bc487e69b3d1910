"""Callees that are remembered for a while: a bounded number, the least recently used are forgotten first. Pure."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from pabal.guard.callee import Callee

Key = TypeVar("Key", bound=Hashable)
Remembered = TypeVar("Remembered", bound=Callee)


class Memory(Generic[Key, Remembered]):
    """Callees by key, at most `most` of them. What is forgotten is as good as never known: it widens nothing.

    `on_forget` is called with each callee that is forgotten. Times as in `Circuit`.
    """

    __slots__ = ("_most", "_on_forget", "by_key")

    def __init__(self, *, most: int, on_forget: Callable[[Remembered], None] | None = None) -> None:
        self.by_key: OrderedDict[Key, Remembered] = OrderedDict()
        """All that are remembered, the least recently used first. To be read only."""
        self._most = most
        self._on_forget = on_forget

    def get(self, key: Key, now: float) -> Remembered | None:
        """The callee of this key, which is used by that."""
        callee = self.by_key.get(key)
        if callee is not None:
            self.by_key.move_to_end(key)
            callee.used_at = now
        return callee

    def add(self, key: Key, callee: Remembered, now: float) -> None:
        """Remember a callee. If there are too many, the least recently used without a call under way is forgotten."""
        callee.used_at = now
        self.by_key[key] = callee
        if len(self.by_key) > self._most:
            self._forget_oldest()

    def forget(self, key: Key) -> None:
        """Remember it no longer, if it was."""
        callee = self.by_key.pop(key, None)
        if callee is not None and self._on_forget is not None:
            self._on_forget(callee)

    def forget_idle(self, now: float, *, idle_seconds: float) -> None:
        """Forget callees that are idle; see `Callee.is_idle`."""
        idle = []
        for key, callee in self.by_key.items():
            if now - callee.used_at <= idle_seconds:
                break  # Callees stand in the order of their use.
            if callee.is_idle(now, seconds=idle_seconds):
                idle.append(key)
        for key in idle:
            self.forget(key)

    def _forget_oldest(self) -> None:
        # There are no more callees with a call under way than the channel has call slots.
        for _ in range(len(self.by_key)):
            key, callee = next(iter(self.by_key.items()))
            if callee.limit.in_flight == 0:
                self.forget(key)
                return
            self.by_key.move_to_end(key)

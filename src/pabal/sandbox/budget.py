"""The meter of one rendering: how much work is left, and what things weigh."""

from collections.abc import Iterable
from typing import Any, Final

WORK_HERE: Final = 40_000
"""What may be rendered in an event loop: some milliseconds at most. One unit is one step of a template (a loop's round
costs as many as its body has), or 16 characters moved."""

WORK_APART: Final = 4_000_000
"""What may be rendered at all: about a second, in a process of its own."""

_CONTAINERS: Final = (list, tuple, dict)


class OverBudget(Exception):
    """The rendering would need more work than it was given."""


class Meter:
    """What is left of a rendering's budget."""

    __slots__ = ("left",)

    def __init__(self, work: int) -> None:
        self.left = work

    def spend(self, work: int) -> None:
        """Pay for work that is about to be done. Raises OverBudget."""
        self.left -= work
        if self.left < 0:
            raise OverBudget

    def weigh(self, value: Any) -> None:
        """Pay for going through a value once, with all it holds: for what is compared, copied, sorted or written.

        A value that is held twice counts twice: written out, it is written twice. Raises OverBudget.
        """
        if isinstance(value, str):
            self.spend(1 + (len(value) >> 4))
        elif isinstance(value, _CONTAINERS):
            self._weigh_held(value)
        else:
            self.spend(1)

    def _weigh_held(self, value: Any) -> None:
        waiting: list[Iterable[Any]] = [value]
        while waiting:
            outer = waiting.pop()
            self.spend(1 + len(outer))  # type: ignore[arg-type] # a container, see above
            if isinstance(outer, dict):
                self.spend(sum(len(key) if isinstance(key, str) else 16 for key in outer) >> 4)
                outer = outer.values()
            characters = 0
            for inner in outer:
                if isinstance(inner, str):
                    characters += len(inner)
                elif isinstance(inner, _CONTAINERS):
                    waiting.append(inner)
            self.spend(characters >> 4)

"""Begins work a few pieces at a time: between two of them the event loop comes round to everything else."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

MOST_IN_TURN: Final = 32
"""Requests begun in one turn of the event loop. Each costs its thread about 0.1 ms until it first waits, so that a
thousand that come in the same moment would hold the loop for 100 ms."""


class Turns:
    """Calls what it is given, in order: at once, or in a later turn of the loop when this one had its share."""

    def __init__(self, *, most: int = MOST_IN_TURN) -> None:
        self._most = most
        self._begun = 0
        self._waiting: deque[Callable[[], object]] = deque()

    def begin(self, work: Callable[[], object]) -> None:
        """Call `work` now or soon. It must not raise."""
        if self._begun == 0:
            asyncio.get_running_loop().call_soon(self._next)
        if self._waiting or self._begun >= self._most:
            self._waiting.append(work)
            return
        self._begun += 1
        work()

    def _next(self) -> None:
        self._begun = min(self._most, len(self._waiting))
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next)
        for _ in range(self._begun):
            self._waiting.popleft()()

"""Deadlines of short waits of which there are thousands a second.

`asyncio.timeout` sets a timer for each, and costs 5 µs (CPython 3.11): more than the decoding of a delivery. Waits that
may all take equally long are over in the order in which they began, so one timer does for all of them.
"""

import asyncio
from itertools import takewhile
from types import TracebackType
from typing import Self


class Deadlines:
    """Gives each of many waits the same `seconds`. For one event loop.

    In a task, `with deadlines.start(): await ...` raises TimeoutError as `asyncio.timeout` does.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        # A dict for its order.
        self._running: dict[Deadline, None] = {}

    def start(self) -> "Deadline":
        """The deadline of a wait that begins now."""
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        deadline = Deadline(loop.time() + self._seconds, running=self._running, task=asyncio.current_task(loop))
        if self._timer is None:
            self._timer = loop.call_at(deadline.at, self._end_overdue)
        return deadline

    def _end_overdue(self) -> None:
        assert self._loop is not None
        now = self._loop.time()
        for deadline in [*takewhile(lambda each: each.at <= now, self._running)]:
            deadline.end()
        first = next(iter(self._running), None)
        self._timer = None if first is None else self._loop.call_at(first.at, self._end_overdue)


class Deadline:
    """One wait's; `at` is in the time of the loop. Made by `Deadlines.start`, entered at once."""

    __slots__ = ("_cancelling", "_is_over", "_running", "_task", "at")

    def __init__(self, at: float, *, running: "dict[Deadline, None]", task: "asyncio.Task[object] | None") -> None:
        if task is None:
            raise RuntimeError("a deadline is kept by cancelling a task, and this is none")
        self.at = at
        self._running = running
        self._task = task
        self._cancelling = task.cancelling()
        self._is_over = False

    def __enter__(self) -> Self:
        """The wait begins."""
        self._running[self] = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The wait is over. Raises TimeoutError if it is by its deadline."""
        if not self._is_over:
            del self._running[self]
        # Cancelled besides by somebody else, it stays cancelled.
        elif self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def end(self) -> None:
        """The time is up."""
        self._is_over = True
        del self._running[self]
        self._task.cancel()

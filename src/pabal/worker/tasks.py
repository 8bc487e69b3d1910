"""Work that runs beside the caller: what was begun, what is worked off in batches, and how all of it ends."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Tasks:
    """The tasks of one channel. `failure` ends with the first error of any: the worker cannot go on after it."""

    def __init__(self) -> None:
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def drain(self, *, deadline_seconds: float) -> int:
        """Let all end, and what they begin; returns how many had not by the deadline (they are cancelled)."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + deadline_seconds
        # What ends may begin the telling of its verdict, so one wait is not enough.
        while self._running and (left := deadline - loop.time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        late = [*self._running]
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)


class Backlog(Generic[T]):
    """Work that is done in batches, one batch at a time: while one is under way, the next gathers."""

    def __init__(self, work: Callable[[list[T]], Awaitable[None]], *, most: Callable[[int], int], tasks: Tasks) -> None:
        """`most` says how large the next batch may be, of so many that wait."""
        self._work = work
        self._most = most
        self._tasks = tasks
        self._waiting: list[T] = []
        self._is_working = False

    def add(self, item: T) -> None:
        """Let this be worked off, soon."""
        self._waiting.append(item)
        if not self._is_working:
            self._is_working = True
            self._tasks.spawn(self._work_off())

    def clear(self) -> None:
        """Begin no further batch of what waits now."""
        self._waiting = []

    async def _work_off(self) -> None:
        while self._waiting:
            most = self._most(len(self._waiting))
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            await self._work(batch)
        self._is_working = False

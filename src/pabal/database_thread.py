"""A thread that works on the database, and an event loop that lends it the interpreter.

Why not simply `asyncio.to_thread`: SQLite gives the interpreter lock back at every step and must take it again.
An event loop under load releases that lock for a microsecond per iteration (around its poll for I/O), which wakes
a waiting thread but is over before the thread runs, and because the wait was interrupted, CPython never asks the
loop to yield (the "convoy"). Measured on two cores with a loop kept busy in pieces of 0.1 ms: 32 appends a second,
each 6.3 s late. So after handing over work the loop waits for it a moment, without the lock: where a disk answers
within a millisecond the answer is there before the loop goes on; where it does not, the loop goes on and lends the
lock again now and then. Same measurement: 228,000 appends a second, each after 0.7 ms.
"""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

LEND_SECONDS = 0.001
"""How long the loop waits for work it has just handed over. Bounds what a slow disk costs everything else."""

LEND_AGAIN_EVERY_SECONDS = 0.002
LEND_AGAIN_SECONDS = 0.0002
"""How often, and how long, it waits for work that took longer: at most a tenth of its time."""

T = TypeVar("T")


class DatabaseThread:
    """Does one piece of work after another off the loop it was made in."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._work: SimpleQueue[_Work[Any] | None] = SimpleQueue()
        self._stopped: asyncio.Future[None] | None = None
        self.is_working = False
        """Whether something is under way: what waits then, waits for the disk."""
        # A disk that never answers must not keep the process from ending: nothing unacknowledged is lost by it.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        """Have `function` called in the thread; its result. Often there is one already on return."""
        work = _Work(function, self._loop.create_future())
        self._work.put(work)
        if work.finished.acquire(timeout=LEND_SECONDS):
            work.answer()
            return work.future
        work.is_late = True
        if work.is_finished:
            work.answer()
        else:
            self._loop.call_later(LEND_AGAIN_EVERY_SECONDS, self._lend_again, work)
        return work.future

    def is_alive(self) -> bool:
        """Whether it still works; also true after a stop that was asked for."""
        return self._thread.is_alive() or self._stopped is not None

    async def stop(self, last: Callable[[], None]) -> None:
        """Call `last` after all that was submitted, then end the thread."""
        if self._stopped is None:
            self._stopped = self.submit(last)
            self._work.put(None)
        await asyncio.shield(self._stopped)

    def _lend_again(self, work: "_Work[Any]") -> None:
        if work.is_answered:
            return
        if work.finished.acquire(timeout=LEND_AGAIN_SECONDS):
            work.answer()
        else:
            self._loop.call_later(LEND_AGAIN_EVERY_SECONDS, self._lend_again, work)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            self.is_working = True
            work.do()
            self.is_working = False
            if work.is_late:
                try:
                    self._loop.call_soon_threadsafe(work.answer)
                except RuntimeError:
                    return  # the loop was closed meanwhile: a stop that gave up waiting for the disk


class _Work(Generic[T]):
    """One function on its way through the thread. The loop sets `is_late`, the thread `is_finished`; each looks at
    the other's word after saying its own, so at least one of them answers."""

    __slots__ = ("_error", "_function", "_result", "finished", "future", "is_answered", "is_finished", "is_late")

    def __init__(self, function: Callable[[], T], future: asyncio.Future[T]) -> None:
        self._function = function
        self._result: T
        self._error: BaseException | None = None
        self.future = future
        self.finished = threading.Lock()
        self.finished.acquire()
        self.is_finished = False
        self.is_late = False
        self.is_answered = False

    def do(self) -> None:
        """In the thread."""
        try:
            self._result = self._function()
        except BaseException as error:  # the loop raises it where it is awaited
            self._error = error
        self.is_finished = True
        self.finished.release()

    def answer(self) -> None:
        """In the loop, perhaps twice."""
        if self.is_answered:
            return
        self.is_answered = True
        if self.future.done():  # cancelled meanwhile
            return
        if self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._result)

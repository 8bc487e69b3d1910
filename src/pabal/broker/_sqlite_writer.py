"""Group commit: whatever waits when a transaction ends shares the next one.

One transaction is under way at a time. While it waits for the disk, appends and other changes gather; together
they cost one more `fsync`. Their answers are given in one go.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pabal.broker._sqlite_storage import Append, Operation, Storage, Written
from pabal.broker._sqlite_thread import DatabaseThread
from pabal.broker.port import NewRecord
from pabal.errors import LogUnavailable

_MOST_RECORDS = 5_000
"""In one transaction: bounds how long a lone append waits behind a flood. About 20 ms of work."""

T = TypeVar("T")


class Writer:
    """Makes transactions of what is asked of it, in the order asked."""

    def __init__(self, storage: Storage, *, written: Callable[[Written], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._thread = DatabaseThread("pabal-log-writer")
        self._written = written
        self._waiting: deque[_Waiting] = deque()
        self._group: Sequence[_Waiting] = ()
        self._is_scheduled = False
        self._watch: asyncio.TimerHandle | None = None

    def append(
        self, partitions: Sequence[int], records: Sequence[NewRecord], *, deadline_seconds: float
    ) -> asyncio.Future[Sequence[int]]:
        """Append `records[i]` to the partition with id `partitions[i]`; their offsets.

        A future cancelled or too late is not written if its transaction has not begun.
        """
        return self._ask(Append(partitions, records), None, deadline_seconds)

    def run(self, operation: Operation[T], *, deadline_seconds: float = 5.0) -> asyncio.Future[T]:
        """Run `operation` in a transaction; its result once that is durable."""
        return self._ask(None, operation, deadline_seconds)

    async def close(self) -> None:
        """Let what is under way end, then close the file."""
        await self._thread.stop(self._storage.close)

    def _ask(
        self, append: Append | None, operation: Operation[Any] | None, deadline_seconds: float
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        deadline = self._loop.time() + deadline_seconds
        self._waiting.append(_Waiting(future, append, operation, deadline))
        if self._watch is None or deadline < self._watch.when():
            self._arm(deadline)
        self._schedule()
        return future

    def _schedule(self) -> None:
        """Begin the next transaction after whatever else is ready to run now has had its say."""
        if self._waiting and not self._group and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_scheduled = False
        group: list[_Waiting] = []
        size = 0
        while self._waiting and size < _MOST_RECORDS:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                group.append(waiting)
                size += len(waiting.append.records) if waiting.append else 1
        if not group:
            return
        self._group = group
        appends = [each.append for each in group if each.append]
        operations = [each.operation for each in group if each.operation]
        written = self._thread.submit(
            partial(self._storage.write, appends, operations, is_abandoned=lambda: all(map(_is_done, group)))
        )
        if written.done():
            self._end(written)
        else:
            written.add_done_callback(self._end)

    def _end(self, transaction: asyncio.Future[Written]) -> None:
        group, self._group = self._group, ()
        error = transaction.exception()
        if error is not None:
            for waiting in group:
                if not waiting.future.done():
                    waiting.future.set_exception(error)
        else:
            written = transaction.result()
            self._written(written)
            offsets, results = iter(written.offsets), iter(written.results)
            for waiting in group:
                waiting.answer(next(offsets) if waiting.append else next(results))
        self._schedule()

    def _arm(self, deadline: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(deadline, self._fail_late)

    def _fail_late(self) -> None:
        """Give up on what is past its deadline. One timer watches all, so that an append costs none."""
        self._watch = None
        now = self._loop.time()
        pending = [each for each in itertools.chain(self._group, self._waiting) if not each.future.done()]
        for waiting in pending:
            if waiting.deadline <= now:
                waiting.future.set_exception(
                    LogUnavailable("the log's disk or its write lock did not answer before the deadline")
                )
        later = [each.deadline for each in pending if each.deadline > now]
        if later:
            self._arm(min(later))


class _Waiting:
    """Something asked and not yet answered."""

    __slots__ = ("append", "deadline", "future", "operation")

    def __init__(
        self,
        future: asyncio.Future[Any],
        append: Append | None,
        operation: Operation[Any] | None,
        deadline: float,
    ) -> None:
        self.future = future
        self.append = append
        self.operation = operation
        self.deadline = deadline

    def answer(self, result: Any) -> None:
        """Give the result, or raise it where it is an error, unless nobody waits any more."""
        if self.future.done():
            return
        if isinstance(result, Exception):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


def _is_done(waiting: _Waiting) -> bool:
    return waiting.future.done()

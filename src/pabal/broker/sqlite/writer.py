"""Group commit: whatever waits when a transaction ends shares the next one.

One transaction is under way at a time. While it waits for the disk, appends and other changes gather; together
they cost one more `fsync`. Their answers are given in one go, whatever goes wrong between a commit and its answers.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import msgspec

from pabal.broker.port import NewRecord
from pabal.broker.sqlite.batches import pack_records
from pabal.broker.sqlite.storage import Changes, Operation, Storage, WriteTransaction, Written
from pabal.database_thread import DatabaseThread
from pabal.errors import LogUnavailable

_BUSY_GROUP = 4
_GATHER_SECONDS = 0.002
"""After a transaction of more calls than `_BUSY_GROUP` the next one gathers for this long: a transaction costs about
the same for one call as for twenty. A lone append never waits."""

LATE_SECONDS = 5.0
"""How long after its deadline a call without an answer is a defect."""

_MOST_RECORDS = 5_000
_MOST_BYTES = 8 << 20
"""In one transaction: bounds how long a lone append waits behind a flood. About 20 ms of work."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Writer:
    """Makes transactions of what is asked of it, in the order asked."""

    def __init__(self, storage: Storage, *, changed: Callable[[Changes], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._storage = storage
        self._thread = DatabaseThread("pabal-log-writer")
        self._changed = changed
        self._waiting: deque[_Waiting] = deque()
        self._group: Sequence[_Waiting] = ()
        self._is_scheduled = False
        self._last_size = 0
        self._watch: asyncio.TimerHandle | None = None
        self._failed_at = float("-inf")

    def append(
        self, partitions: Sequence[int], records: Sequence[NewRecord], *, deadline_seconds: float
    ) -> asyncio.Future[Sequence[int]]:
        """Append `records[i]` to the partition with id `partitions[i]`; their offsets.

        A future cancelled or too late is not written if its transaction has not begun.
        """
        return self._ask(_NewRecords(partitions, records), deadline_seconds)

    def run(self, operation: Operation[T], *, deadline_seconds: float = 5.0) -> asyncio.Future[T]:
        """Run `operation` in a transaction; its result once that is durable."""
        return self._ask(operation, deadline_seconds)

    @property
    def well_for_seconds(self) -> float:
        """How long no transaction has failed; 0 while one is under way in the thread."""
        return 0.0 if self._thread.is_working else self._loop.time() - self._failed_at

    def ailment(self) -> str | None:
        """See `Broker.ailments`."""
        if not self._thread.is_alive():
            return "the embedded log's writing thread has died"
        # The watch fails what is late, unless it was never set; a group ends with its transaction.
        late = self._loop.time() - LATE_SECONDS
        if any(not each.future.done() and each.deadline < late for each in (*self._group, *self._waiting)):
            return "the embedded log's writer leaves calls unanswered"
        return None

    async def close(self) -> None:
        """Let what is under way end, then close the file."""
        await self._thread.stop(self._storage.close)

    def _ask(self, what: "_NewRecords | Operation[Any]", deadline_seconds: float) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        deadline = self._loop.time() + deadline_seconds
        self._waiting.append(_Waiting(future, what, deadline))
        if self._watch is None or deadline < self._watch.when():
            self._arm(deadline)
        self._schedule()
        return future

    def _schedule(self) -> None:
        """Begin the next transaction after whatever else is ready to run now has had its say; under load, a moment
        later."""
        if self._waiting and not self._group and not self._is_scheduled:
            self._is_scheduled = True
            if self._last_size > _BUSY_GROUP:
                self._loop.call_later(_GATHER_SECONDS, self._begin)
            else:
                self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._is_scheduled = False
        group: list[_Waiting] = []
        records = size = 0
        while self._waiting and records < _MOST_RECORDS and size < _MOST_BYTES:
            waiting = self._waiting.popleft()
            if not waiting.future.done():
                group.append(waiting)
                if isinstance(waiting.what, _NewRecords):
                    records += len(waiting.what.records)
                    size += sum([len(each.value or b"") for each in waiting.what.records])
        if not group:
            return
        self._group = group
        self._last_size = len(group)
        appends = [each.what for each in group if isinstance(each.what, _NewRecords)]
        operations = [each.what for each in group if not isinstance(each.what, _NewRecords)]
        transaction = partial(
            self._storage.write,
            [partial(_append, appends=appends), *operations],
            is_abandoned=partial(_are_done, group),
        )
        written = self._thread.submit(transaction)
        if written.done():
            self._end(written)
        else:
            written.add_done_callback(self._end)

    def _end(self, transaction: asyncio.Future[Written]) -> None:
        group, self._group = self._group, ()
        try:
            self._answer(group, transaction)
        except Exception as error:
            # A defect. What waits for ever would stop everything that reads or writes here.
            logger.exception("the answers to a transaction failed")
            for waiting in group:
                waiting.answer(LogUnavailable(f"it is not known whether the log has taken it: {error}"))
        finally:
            self._schedule()

    def _answer(self, group: "Sequence[_Waiting]", transaction: asyncio.Future[Written]) -> None:
        error = transaction.exception()
        if error is not None:
            self._failed_at = self._loop.time()
            for waiting in group:
                waiting.answer(error)
            return
        (offsets, *results), changes = transaction.result()
        try:
            self._changed(changes)
        except Exception:
            # A defect. It is durable all the same, and this process looks again within a third of a session.
            logger.exception("a commit was not made known")
        of_append, of_operation = iter(offsets), iter(results)
        for waiting in group:
            waiting.answer(next(of_append if isinstance(waiting.what, _NewRecords) else of_operation))

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


class _NewRecords(NamedTuple):
    """`records[i]` goes to the partition with id `partitions[i]`."""

    partitions: Sequence[int]
    records: Sequence[NewRecord]


class _Waiting:
    """Something asked and not yet answered."""

    __slots__ = ("deadline", "future", "what")

    def __init__(self, future: asyncio.Future[Any], what: _NewRecords | Operation[Any], deadline: float) -> None:
        self.future = future
        self.what = what
        self.deadline = deadline

    def answer(self, result: Any) -> None:
        """Give the result, or raise it where it is an error, unless no task waits any more."""
        if self.future.done():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


def _are_done(group: Sequence[_Waiting]) -> bool:
    return all(waiting.future.done() for waiting in group)


def _append(transaction: WriteTransaction, *, appends: Sequence[_NewRecords]) -> list[list[int]]:
    """Write the records of all appends, one batch per partition if that is not too large; their offsets."""
    records: dict[int, list[NewRecord]] = {}
    places: list[list[tuple[int, int]]] = []
    for append in appends:
        place = []
        for partition, record in zip(append.partitions, append.records, strict=True):
            there = records.setdefault(partition, [])
            place.append((partition, len(there)))
            there.append(record)
        places.append(place)
    if not records:
        return []
    now = transaction.now_ms
    first: dict[int, int] = {}
    batches = transaction.changes.batches
    for partition, high, appended_ms in transaction.select(
        "SELECT id, high, appended_ms FROM partitions WHERE id IN (SELECT value FROM json_each(?))",
        msgspec.json.encode(list(records)).decode(),
    ):
        first[partition] = high
        # The wall clock may be set back; within a partition time must not (reading by time relies on it).
        at = max(now, appended_ms)
        batches.extend(pack_records(records[partition], partition=partition, first=high, appended_ms=at))
    transaction.change_many(
        "INSERT INTO batches VALUES (?, ?, ?, ?)",
        [(each.id, len(each.records), each.appended_ms, each.payload) for each in batches],
    )
    transaction.change_many(
        "UPDATE partitions SET high = high + ?, appended_ms = ? WHERE id = ?",
        [(len(each.records), each.appended_ms, each.partition) for each in batches],
    )
    return [[first[partition] + index for partition, index in place] for place in places]

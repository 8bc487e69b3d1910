"""The ledger in one SQLite file, for all workers of one host.

One thread owns the connection. Calls of one moment gather and are handed over as a group, which runs in one
transaction: one read of all rows, the protocol's pure functions in order, one write of those that changed, one commit
(durable: WAL, `synchronous=FULL`). While a group commits, the next gathers. Statements touch many rows at once.

Whose lease ended. Every process that opens the ledger is an *owner* with a number, a lock file and the machine's boot
id. A claim of another owner has ended when its lease ran out, when a new owner opened the ledger under the same worker
name, when its process is gone (its lock, which the kernel frees, can be taken), or when the machine was booted since.

A statement that fails (the disk is full, another process holds the file for too long) fails its whole group with
LedgerUnavailable, and the next group tries anew.
"""

import asyncio
import fcntl
import functools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Self
from uuid import UUID

import msgspec

from pabal.clock import Clock
from pabal.database_thread import DatabaseThread
from pabal.errors import ConfigError, LedgerUnavailable
from pabal.outcome import Outcome, Verdict
from pabal.protocol import Claim, ClaimAnswer, Finish, FinishAnswer, Row, Source, claim, finish, release, settle

SCHEMA_VERSION = 1

SETTLE_WITHIN_SECONDS = 1.0
"""How long a settlement waits for a transaction to ride with. Lost in a crash, it costs a repeated append."""

_BUSY_SECONDS = 3.0
_MOST_ROWS = 256
_PRUNE_STEP = 1000

_SCHEMA = f"""
CREATE TABLE owners (
  owner INTEGER PRIMARY KEY AUTOINCREMENT,
  worker TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  ended INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE deliveries (
  number INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  attempt INTEGER NOT NULL,
  source_attempt INTEGER NOT NULL,
  source_parks INTEGER NOT NULL,
  state TEXT NOT NULL,
  owner INTEGER NOT NULL,
  token INTEGER NOT NULL,
  lease_until REAL NOT NULL,
  provider TEXT NOT NULL,
  verdict TEXT,
  outcome TEXT,
  settled INTEGER NOT NULL,
  accepted INTEGER NOT NULL,
  takeovers INTEGER NOT NULL,
  prune_after REAL NOT NULL
);
PRAGMA user_version = {SCHEMA_VERSION};
"""

_COLUMNS = (
    "attempt, source_attempt, source_parks, state, owner, token, lease_until, provider, verdict, outcome, settled, "
    "accepted, takeovers, prune_after"
)
_SIZES = tuple(2**n for n in range(_MOST_ROWS.bit_length()))
"""Statements are made for these many rows, and shorter groups padded, so that few texts stay prepared."""

_StoredRow = tuple[str, int, int, int, str, int, int, float, str, Verdict | None, Outcome | None, int, int, int, float]
_decode_rows = msgspec.json.Decoder(list[_StoredRow]).decode
_encode = msgspec.json.Encoder().encode

_Step = Callable[["_Transaction"], Any]


class SqliteLedger:
    """See the module, and `pabal.store.port.Ledger`. Make one with `open`."""

    def __init__(self, thread: DatabaseThread, store: "_Store") -> None:
        self.owner = store.owner
        self._thread = thread
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._tokens = 0
        self._gathered: list[_Ask] = []
        self._is_running = False
        self._is_scheduled = False
        self._settling: asyncio.TimerHandle | None = None
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, clock: Clock, worker: str) -> Self:
        """Open or make the file, as a new owner; a former owner of the same `worker` name has ended by that.

        Raises:
            LedgerUnavailable: the file cannot be opened or written.
            ConfigError: it was made by another version, or is no ledger.
        """
        thread = DatabaseThread("pabal-ledger")
        try:
            store = await thread.submit(functools.partial(_Store, path, clock=clock, worker=worker))
        except BaseException as error:
            await thread.stop(lambda: None)
            if isinstance(error, sqlite3.Error | OSError):
                raise LedgerUnavailable(f"cannot open the ledger {path}: {error}") from error
            raise
        return cls(thread, store)

    def new_token(self) -> int:
        """See `Ledger.new_token`."""
        self._tokens += 1
        return self._tokens

    async def claim(self, delivery: UUID, ask: Claim) -> ClaimAnswer:
        """See `Ledger.claim`."""
        answer: ClaimAnswer = await self._ask(lambda transaction: transaction.claim(delivery.bytes, ask), delivery)
        return answer

    async def finish(self, delivery: UUID, ask: Finish) -> FinishAnswer:
        """See `Ledger.finish`."""
        answer: FinishAnswer = await self._ask(lambda transaction: transaction.finish(delivery.bytes, ask), delivery)
        return answer

    async def release(self, delivery: UUID, *, owner: int, token: int) -> None:
        """See `Ledger.release`."""
        key = delivery.bytes
        await self._ask(lambda transaction: transaction.change(key, release, owner=owner, token=token), delivery)

    def settle(self, delivery: UUID, *, owner: int, token: int) -> None:
        """See `Ledger.settle`."""
        key = delivery.bytes

        def step(transaction: "_Transaction") -> None:
            transaction.change(key, settle, owner=owner, token=token)

        self._gathered.append(_Ask(step, key, None))
        if not self._is_scheduled and self._settling is None:
            self._settling = self._loop.call_later(SETTLE_WITHIN_SECONDS, self._run)

    async def prune(self, *, now: datetime) -> int:
        """See `Ledger.prune`."""
        before = now.timestamp()
        pruned: int = 0
        after = 0
        while True:
            step = functools.partial(_Transaction.prune, after=after, before=before)
            count, last = await self._ask(step)
            pruned += count
            if last is None:
                return pruned
            after = last

    async def close(self) -> None:
        """See `Ledger.close`."""
        if not self._closed:
            self._closed = True
            while self._gathered or self._is_running:
                self._run()
                await asyncio.sleep(0)
        await self._thread.stop(self._store.close)

    async def _ask(self, step: _Step, delivery: UUID | None = None) -> Any:
        if self._closed:
            raise LedgerUnavailable("the ledger was closed")
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._gathered.append(_Ask(step, delivery.bytes if delivery else None, answer))
        if not self._is_scheduled:
            # The rest of this round of the loop rides along.
            self._is_scheduled = True
            self._loop.call_soon(self._run)
        return await answer

    def _run(self) -> None:
        """Hand over what has gathered, unless a group is under way; then its end does."""
        if self._is_running or not self._gathered:
            return
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        group, self._gathered = self._gathered[:_MOST_ROWS], self._gathered[_MOST_ROWS:]
        self._is_running, self._is_scheduled = True, True
        done = self._thread.submit(functools.partial(self._store.transact, group))
        if done.done():
            self._answer(group, done)
        else:
            done.add_done_callback(functools.partial(self._answer, group))

    def _answer(self, group: "Sequence[_Ask]", done: "asyncio.Future[list[Any]]") -> None:
        self._is_running = False
        error = done.exception()
        if error is None:
            for ask, answer in zip(group, done.result(), strict=True):
                if ask.answer is not None and not ask.answer.done():
                    ask.answer.set_result(answer)
        else:
            self._refuse(group, error)
        self._is_scheduled = bool(self._gathered)
        if self._is_scheduled:
            self._loop.call_soon(self._run)

    def _refuse(self, group: "Sequence[_Ask]", error: BaseException) -> None:
        """Nothing of the group was stored."""
        failure = LedgerUnavailable(f"the ledger did not take it: {error}")
        failure.__cause__ = error
        for ask in group:
            if ask.answer is not None and not ask.answer.done():
                ask.answer.set_exception(failure)
        # A settlement has nobody who would ask again; lost, it would cost a second append.
        self._loop.call_later(SETTLE_WITHIN_SECONDS, self._take_back, [ask for ask in group if ask.answer is None])

    def _take_back(self, settlements: "list[_Ask]") -> None:
        if settlements and not self._closed:
            self._gathered = settlements + self._gathered
            self._run()


class _Ask:
    """One call: what to do, whose row it needs, and who waits (None: nobody, so it is tried until it succeeds)."""

    __slots__ = ("answer", "key", "step")

    def __init__(self, step: _Step, key: bytes | None, answer: asyncio.Future[Any] | None) -> None:
        self.step = step
        self.key = key
        self.answer = answer


class _Store:
    """The file, as one owner. Used by one thread."""

    def __init__(self, path: Path, *, clock: Clock, worker: str) -> None:
        self._clock = clock
        self._locks = path.with_name(f"{path.name}.owners")
        self._locks.mkdir(exist_ok=True)
        self._connection = sqlite3.connect(
            path, isolation_level=None, timeout=_BUSY_SECONDS, cached_statements=64, check_same_thread=False
        )
        try:
            self._prepare(path)
            self.owner, self._lock = self._register(worker)
        except BaseException:
            self._connection.close()
            raise

    def transact(self, asks: Sequence[_Ask]) -> list[Any]:
        """Run the asks' steps in order in one durable transaction; returns their answers."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            transaction = _Transaction(self, {ask.key for ask in asks if ask.key is not None})
            answers = [ask.step(transaction) for ask in asks]
            transaction.write()
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise
        return answers

    def close(self) -> None:
        """End this owner's leases and let go."""
        try:
            self._connection.execute("UPDATE owners SET ended = 1 WHERE owner = ?", (self.owner,))
        finally:
            self._connection.close()
            self._lock.close()
            self._lock_path(self.owner).unlink(missing_ok=True)

    def now_seconds(self) -> float:
        """The lease clock."""
        return self._clock.boot_seconds()

    def lease_left(self, row: Row) -> float:
        """Seconds for which a claimed row's lease still holds."""
        if row.owner != self.owner and not self._is_alive(row.owner):
            return 0.0
        return row.lease_until - self._clock.boot_seconds()

    def load(self, keys: Iterable[bytes]) -> dict[bytes, Row]:
        """The rows there are."""
        rows: dict[bytes, Row] = {}
        for chunk in _chunks(list(keys)):
            size = _size_for(len(chunk))
            [(found,)] = self._connection.execute(_SELECTS[size], chunk + [b""] * (size - len(chunk)))
            for stored in _decode_rows(found):
                rows[bytes.fromhex(stored[0])] = _row(stored)
        return rows

    def store(self, rows: Sequence[tuple[bytes, Row]]) -> None:
        """Write these rows."""
        for chunk in _chunks(rows):
            written = 0
            while written < len(chunk):
                size = max(each for each in _SIZES if each <= len(chunk) - written)
                values = [value for key, row in chunk[written : written + size] for value in _values(key, row)]
                self._connection.execute(_UPSERTS[size], values)
                written += size

    def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        """Look at the rows that follow number `after`; delete those whose time is over. The last number looked at."""
        [(last,)] = self._connection.execute(
            "SELECT max(number) FROM (SELECT number FROM deliveries WHERE number > ? ORDER BY number LIMIT ?)",
            (after, _PRUNE_STEP),
        )
        if last is None:
            return 0, None
        deleted = self._connection.execute(
            "DELETE FROM deliveries WHERE number > ? AND number <= ? AND prune_after < ?", (after, last, before)
        )
        return deleted.rowcount, last

    def _prepare(self, path: Path) -> None:
        execute = self._connection.execute
        execute("PRAGMA journal_mode = WAL")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN IMMEDIATE")
        [(version,)] = execute("PRAGMA user_version")
        if version == 0:
            [(tables,)] = execute("SELECT count(*) FROM sqlite_schema")
            if tables:
                execute("ROLLBACK")
                raise ConfigError(f"{path} is an SQLite file, but no ledger")
            for statement in _SCHEMA.split(";"):
                execute(statement)
        elif version != SCHEMA_VERSION:
            execute("ROLLBACK")
            raise ConfigError(f"the ledger {path} has version {version}; this Pabal reads {SCHEMA_VERSION}")
        execute("COMMIT")

    def _register(self, worker: str) -> tuple[int, IO[str]]:
        """Become an owner. The lock is held before the number can be seen."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        execute("UPDATE owners SET ended = 1 WHERE worker = ? AND NOT ended", (worker,))
        owner = execute("INSERT INTO owners (worker, boot_id) VALUES (?, ?)", (worker, self._clock.boot_id)).lastrowid
        assert owner is not None
        lock = self._lock_path(owner).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        execute("COMMIT")
        return owner, lock

    def _is_alive(self, owner: int) -> bool:
        execute = self._connection.execute
        found = execute("SELECT boot_id, ended FROM owners WHERE owner = ?", (owner,)).fetchone()
        if found is None or found[1] or found[0] != self._clock.boot_id:
            return False
        try:
            with self._lock_path(owner).open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        execute("UPDATE owners SET ended = 1 WHERE owner = ?", (owner,))
        self._lock_path(owner).unlink(missing_ok=True)
        return False

    def _lock_path(self, owner: int) -> Path:
        return self._locks / f"{owner}.lock"


class _Transaction:
    """The rows that one group needs, as its steps change them."""

    def __init__(self, store: _Store, keys: set[bytes]) -> None:
        self._store = store
        self._rows: dict[bytes, Row | None] = dict(store.load(keys)) if keys else {}
        self._changed: set[bytes] = set()

    def claim(self, key: bytes, ask: Claim) -> ClaimAnswer:
        """See `protocol.claim`."""
        before = self._rows.get(key)
        after, answer = claim(before, ask, now_seconds=self._store.now_seconds(), lease_left=self._store.lease_left)
        self._note(key, before, after)
        return answer

    def finish(self, key: bytes, ask: Finish) -> FinishAnswer:
        """See `protocol.finish`."""
        before = self._rows.get(key)
        after, answer = finish(before, ask)
        self._note(key, before, after)
        return answer

    def change(self, key: bytes, how: Callable[..., Row | None], *, owner: int, token: int) -> None:
        """`protocol.release` or `protocol.settle`."""
        before = self._rows.get(key)
        self._note(key, before, how(before, owner=owner, token=token))

    def prune(self, *, after: int, before: float) -> tuple[int, int | None]:
        """See `_Store.prune`."""
        return self._store.prune(after=after, before=before)

    def write(self) -> None:
        """Store what changed."""
        changed = [(key, row) for key in self._changed if (row := self._rows[key]) is not None]
        self._store.store(changed)

    def _note(self, key: bytes, before: Row | None, after: Row | None) -> None:
        if after is not before:
            self._rows[key] = after
            self._changed.add(key)


def _values(key: bytes, row: Row) -> tuple[Any, ...]:
    return (
        key,
        row.attempt,
        row.source.attempt,
        row.source.parks,
        row.state,
        row.owner,
        row.token,
        row.lease_until,
        row.provider,
        None if row.verdict is None else _encode(row.verdict).decode(),
        None if row.outcome is None else _encode(row.outcome).decode(),
        row.settled,
        row.accepted,
        row.takeovers,
        row.prune_after,
    )


def _row(stored: _StoredRow) -> Row:
    return Row(
        attempt=stored[1],
        source=Source(stored[2], stored[3]),
        state=stored[4],  # type: ignore[arg-type]
        owner=stored[5],
        token=stored[6],
        lease_until=stored[7],
        provider=stored[8],
        verdict=stored[9],
        outcome=stored[10],
        settled=bool(stored[11]),
        accepted=stored[12],
        takeovers=stored[13],
        prune_after=stored[14],
    )


def _upsert(size: int) -> str:
    names = _COLUMNS.split(", ")
    row = f"(?{', ?' * len(names)})"
    updates = ", ".join(f"{name} = excluded.{name}" for name in names)
    return (
        f"INSERT INTO deliveries (id, {_COLUMNS}) VALUES {', '.join([row] * size)} "  # noqa: S608 - constants only
        f"ON CONFLICT (id) DO UPDATE SET {updates}"
    )


def _select(size: int) -> str:
    columns = _COLUMNS.replace("verdict", "json(verdict)").replace("outcome", "json(outcome)")
    return (
        f"SELECT json_group_array(json_array(hex(id), {columns})) FROM deliveries "  # noqa: S608 - constants only
        f"WHERE id IN ({', '.join('?' * size)})"
    )


_SELECTS = {size: _select(size) for size in _SIZES}
_UPSERTS = {size: _upsert(size) for size in _SIZES}


def _size_for(count: int) -> int:
    return int(2 ** (count - 1).bit_length())


def _chunks(items: Sequence[Any]) -> Iterable[Any]:
    return (items[start : start + _MOST_ROWS] for start in range(0, len(items), _MOST_ROWS))

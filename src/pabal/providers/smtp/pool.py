"""Connections kept for the next message: a bounded number, given back the latest first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from pabal.providers.smtp.connection import HandOverProgress, SmtpConnection


class Opener(Protocol):
    """Opens one connection; raises CannotConnect."""

    async def __call__(self, progress: HandOverProgress) -> SmtpConnection:
        """Open it, leaving in `progress` how far that came."""
        ...


class Lease:
    """The right to one connection at a time, for one hand-over."""

    def __init__(self, pool: "Pool") -> None:
        self._pool = pool
        self._connection: SmtpConnection | None = None

    def take_idle(self) -> SmtpConnection | None:
        """The idle connection that was used last, if there is one. The server may have given it up meanwhile."""
        self._connection = self._pool._take_idle()
        return self._connection

    async def open(self, progress: HandOverProgress) -> SmtpConnection:
        """A new connection. If an idle one was taken before, it was stale, and so are all that have waited longer."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None
            self._pool._drop_idle()
        self._connection = await self._pool._open(progress)
        return self._connection

    def end(self, *, clean: bool) -> None:
        """Give the connection back after a reply, drop it after anything else."""
        if self._connection is not None:
            self._pool._give_back(self._connection, clean=clean)
            self._connection = None


class Pool:
    """At most `limit` connections in use at once, and as many waiting.

    A connection that was not taken for `idle_seconds`, or that has carried `transactions_per_connection` messages,
    is closed. Tasks of one event loop share it; `close` is idempotent, and connections in use are closed as they
    come back.
    """

    def __init__(
        self, open_connection: Opener, *, limit: int, idle_seconds: float, transactions_per_connection: int
    ) -> None:
        self._open = open_connection
        self._slots = asyncio.Semaphore(limit)
        self._idle_seconds = idle_seconds
        self._transactions_per_connection = transactions_per_connection
        self._idle: dict[SmtpConnection, asyncio.TimerHandle] = {}  # in the order of their return
        self._farewells: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease]:
        """Wait for a free place. Leaving without an exception gives the connection back, with one drops it."""
        async with self._slots:
            lease = Lease(self)
            try:
                yield lease
            except BaseException:
                lease.end(clean=False)
                raise
            lease.end(clean=True)

    async def close(self) -> None:
        """Say goodbye on every idle connection and wait for that (a second at most)."""
        self._is_closed = True
        self._drop_idle()
        await asyncio.gather(*self._farewells)

    def _take_idle(self) -> SmtpConnection | None:
        while self._idle:
            connection, timer = self._idle.popitem()
            timer.cancel()
            if connection.is_open:
                return connection
        return None

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            self._retire(connection)

    def _give_back(self, connection: SmtpConnection, *, clean: bool) -> None:
        if not clean:
            connection.abort()
        elif self._is_closed or connection.transactions >= self._transactions_per_connection:
            self._say_goodbye(connection)
        elif connection.is_open:
            loop = asyncio.get_running_loop()
            self._idle[connection] = loop.call_later(self._idle_seconds, self._retire, connection)

    def _retire(self, connection: SmtpConnection) -> None:
        self._idle.pop(connection).cancel()
        self._say_goodbye(connection)

    def _say_goodbye(self, connection: SmtpConnection) -> None:
        farewell = asyncio.create_task(connection.quit())
        self._farewells.add(farewell)
        farewell.add_done_callback(self._farewells.discard)

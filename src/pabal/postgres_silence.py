"""Connections to a PostgreSQL that may fall silent: frozen, or on a host that vanished without a word.

The server's own limits (`statement_timeout`) do not help then, and neither does TCP, where the kernel of a frozen
process goes on acknowledging. So the client counts the seconds in which nothing comes. A connection that was silent for
too long is closed at once, without asking the server to cancel: it would not hear that either. What it had been asked
for may still be done, once the server goes on.
"""

import time
from collections.abc import Generator
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

SILENT_SECONDS: Final = 10.0
"""What no statement of ours is silent for, where nothing else is said."""


class ServerSilent(psycopg.OperationalError):
    """The server was silent for too long; the connection is closed."""


class ImpatientConnection(psycopg.Connection[Any]):
    """Raises ServerSilent when the server is silent for `silent_seconds` while something is awaited from it."""

    silent_seconds = SILENT_SECONDS

    def wait(self, gen: PQGen[T], *arguments: Any, **named: Any) -> T:  # psycopg 3.2 and 3.3 differ in these
        """See `psycopg.Connection.wait`."""
        try:
            return super().wait(_until_silent(gen, silent_seconds=self.silent_seconds), *arguments, **named)
        except ServerSilent:
            self.pgconn.finish()
            raise


class ImpatientAsyncConnection(psycopg.AsyncConnection[Any]):
    """As `ImpatientConnection`, for an event loop."""

    silent_seconds = SILENT_SECONDS

    async def wait(self, gen: PQGen[T], *arguments: Any, **named: Any) -> T:
        """See `psycopg.AsyncConnection.wait`."""
        try:
            return await super().wait(_until_silent(gen, silent_seconds=self.silent_seconds), *arguments, **named)
        except ServerSilent:
            self.pgconn.finish()
            raise


def _until_silent(gen: PQGen[T], *, silent_seconds: float) -> Generator[Any, Any, T]:
    """psycopg's steps as they are. It resumes them when the socket is ready, and, with 0, ten times a second."""
    deadline = time.monotonic() + silent_seconds
    try:
        wanted = next(gen)
        while True:
            ready = yield wanted
            if ready:
                deadline = time.monotonic() + silent_seconds
            elif time.monotonic() > deadline:
                raise ServerSilent(f"PostgreSQL gave no answer for {silent_seconds:.0f} s")
            wanted = gen.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result

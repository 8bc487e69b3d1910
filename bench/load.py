"""The load generator, a process of its own: `python -m bench.load JOB RESULT`.

Requests are rendered before the clock starts; a connection does nothing but write one, look for the end of its
answer, and write the next. Answers are decoded when the run is over.

*Burst*: closed loop, every connection keeps one request under way. *Steady*: open loop, request i is due at
start + i / rate whether or not the ones before were answered, and its latency counts from then (so a stall of the
system is not hidden by a generator that waits for it).
"""

import asyncio
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import cast

import msgspec
import uvloop

from bench.requests import render_requests


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to send. `rate=None` means a burst."""

    host: str = "127.0.0.1"
    port: int
    hook: str
    count: int
    connections: int = 32
    rate: float | None = None
    api_key: str | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came back. Times are nanoseconds since the Unix epoch, one per request, in the order of sending."""

    started_ns: int
    ended_ns: int
    due_ns: list[int]
    answered_ns: list[int]
    delivery_ids: list[str]
    """Ids of all deliveries of accepted requests, in the order of the requests."""
    refused: int
    """Requests that were not answered 202."""
    refusals: list[str]
    """The first few of those answers."""


class _Made(msgspec.Struct):
    id: str


class _Answer(msgspec.Struct):
    deliveries: list[_Made]


class _Connection(asyncio.Protocol):
    """One keep-alive connection; calls `_Run.answered` with each whole answer."""

    def __init__(self, run: "_Run") -> None:
        self._run = run
        self._buffer = b""
        self._needed = 0
        self.request = -1
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            data = self._buffer + data
        if len(data) < self._needed:
            self._buffer = data
            return
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._buffer = data
            return
        lower = data[:head].lower()
        start = lower.find(b"content-length:") + 15
        end = lower.find(b"\r\n", start)
        self._needed = head + 4 + int(lower[start : end if end > 0 else head])
        if len(data) < self._needed:
            self._buffer = data
            return
        self._buffer = b""
        self._needed = 0
        self._run.answered(self, data)

    def connection_lost(self, error: Exception | None) -> None:
        self._run.lost(self, error)


class _Run:
    """One run of either kind."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.requests = render_requests(job.count, host=job.host, port=job.port, hook=job.hook, api_key=job.api_key)
        self.answers: list[bytes] = [b""] * job.count
        self.due = [0] * job.count
        self.done_at = [0] * job.count
        self._left = job.count
        self._next = 0
        self._waiting: deque[int] = deque()
        self._idle: deque[_Connection] = deque()  # taken in turn, so that none is closed for being idle
        self._loop = asyncio.get_running_loop()
        self._finished = self._loop.create_future()

    async def go(self) -> Result:
        """Connect, send everything, and wait for every answer."""
        connections = []
        for _ in range(self.job.connections):
            _, connection = await self._loop.create_connection(lambda: _Connection(self), self.job.host, self.job.port)
            connections.append(connection)
        started = time.time_ns()
        if self.job.rate is None:
            for connection in connections[: self.job.count]:
                self._send_next(connection)
        else:
            self._idle.extend(connections)
            started += 50_000_000
            threading.Thread(target=self._pace, args=(started, self.job.rate), daemon=True).start()
        await self._finished
        ended = time.time_ns()
        for connection in connections:
            connection.transport.abort()
        return self._result(started, ended)

    def answered(self, connection: _Connection, data: bytes) -> None:
        """An answer is whole: note it, and give the connection its next request."""
        self.answers[connection.request] = data
        self.done_at[connection.request] = time.time_ns()
        connection.request = -1
        self._left -= 1
        if self._left == 0:
            self._finished.set_result(None)
        elif self.job.rate is None:
            if self._next < self.job.count:
                self._send_next(connection)
        elif self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, error: Exception | None) -> None:
        """A connection must not end before its time: the run would silently shrink."""
        if not self._finished.done():
            self._finished.set_exception(
                ConnectionError(f"connection closed under request {connection.request}: {error}")
            )

    def _send_next(self, connection: _Connection) -> None:
        number = self._next
        self._next += 1
        self.due[number] = time.time_ns()
        self._send(connection, number)

    def _send(self, connection: _Connection, number: int) -> None:
        connection.request = number
        connection.transport.write(self.requests[number])

    def _pace(self, started_ns: int, rate: float) -> None:
        """A thread, because `sleep` keeps to some 60 µs where the event loop's timers keep to a millisecond."""
        for number in range(self.job.count):
            due = started_ns + int(number / rate * 1e9)
            wait = due - time.time_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            self._loop.call_soon_threadsafe(self._due_now, number, due)

    def _due_now(self, number: int, due: int) -> None:
        self.due[number] = due
        if self._idle:
            self._send(self._idle.popleft(), number)
        else:
            self._waiting.append(number)

    def _result(self, started_ns: int, ended_ns: int) -> Result:
        ids: list[str] = []
        refusals: list[str] = []
        for answer in self.answers:
            if answer[9:12] == b"202":
                made = msgspec.json.decode(answer[answer.index(b"\r\n\r\n") + 4 :], type=_Answer)
                ids.extend(each.id for each in made.deliveries)
            else:
                refusals.append(answer[:500].decode(errors="replace"))
        return Result(
            started_ns=started_ns,
            ended_ns=ended_ns,
            due_ns=self.due,
            answered_ns=self.done_at,
            delivery_ids=ids,
            refused=len(refusals),
            refusals=refusals[:3],
        )


async def _main(job: Job) -> Result:
    return await _Run(job).go()


if __name__ == "__main__":
    job_file, result_file = map(Path, sys.argv[1:])
    result = uvloop.run(_main(msgspec.json.decode(job_file.read_bytes(), type=Job)))
    result_file.write_bytes(msgspec.msgpack.encode(result))

"""The reference program for one process without a broker: `python -m bench.sketch_embedded PORT DIRECTORY`.

Accept waits for the disk (SQLite, WAL, `synchronous=FULL`; one thread writes, and whatever waits for it shares a
commit). Records are read back from the log in batches, claimed in one write per batch, posted 128 at a time, and
their outcomes and events written in batches. Everything else is left out, as in `sketch_kafka.py`, whose models and
signing it shares.
"""

import asyncio
import base64
import hashlib
import hmac
import queue
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.sketch_kafka import (
    CONCURRENCY,
    SECRET,
    Delivery,
    Event,
    Payload,
    decode_delivery,
    decode_notification,
    encode,
)

BATCH = 128

SCHEMA = """
CREATE TABLE deliveries (position INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE events (position INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE ledger (id TEXT PRIMARY KEY, token INTEGER NOT NULL, outcome TEXT) WITHOUT ROWID;
CREATE TABLE progress (position INTEGER NOT NULL);
INSERT INTO progress VALUES (0);
"""

Write = tuple[str, Sequence[tuple[object, ...]], Callable[[], None]]


class Log:
    """The writing thread, and a connection to read with."""

    def __init__(self, file: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: queue.SimpleQueue[Write] = queue.SimpleQueue()
        self._file = file
        self._connect().executescript(SCHEMA)
        self._reader = self._connect()
        threading.Thread(target=self._write, daemon=True).start()

    def write(self, statement: str, rows: Sequence[tuple[object, ...]], *, then: Callable[[], None]) -> None:
        """`then` runs in the loop once the rows are on disk."""
        self._waiting.put((statement, rows, then))

    def read(self, after: int) -> list[tuple[int, bytes]]:
        """The next records."""
        return self._reader.execute(
            "SELECT position, value FROM deliveries WHERE position > ? ORDER BY position LIMIT ?", (after, BATCH)
        ).fetchall()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._file, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def _write(self) -> None:
        connection = self._connect()
        while True:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            connection.execute("BEGIN IMMEDIATE")
            for statement, rows, _ in batch:
                connection.executemany(statement, rows)
            connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(_run_all, [then for _, _, then in batch])


def _run_all(batch: list[Callable[[], None]]) -> None:
    for then in batch:
        then()


class Worker:
    """Reads, claims, posts and records, a batch at a time."""

    def __init__(self, log: Log, session: aiohttp.ClientSession) -> None:
        self._log = log
        self._session = session
        self._free = asyncio.Semaphore(CONCURRENCY)
        self._appended = asyncio.Event()
        self._finished: list[tuple[str, str, bytes]] = []
        self._under_way: dict[int, None] = {}
        self._recording = False
        self._position = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def appended(self) -> None:
        """There is something to read."""
        self._appended.set()

    async def run(self) -> None:
        """Until it is killed."""
        loop = asyncio.get_running_loop()
        while True:
            self._appended.clear()
            records = self._log.read(self._position)
            if not records:
                await self._appended.wait()
                continue
            self._position = records[-1][0]
            deliveries = [decode_delivery(value) for _, value in records]
            claimed = loop.create_future()
            self._log.write(
                "INSERT INTO ledger (id, token) VALUES (?, 1)",
                [(delivery.id,) for delivery in deliveries],
                then=partial(claimed.set_result, None),
            )
            await claimed
            self._under_way.update((position, None) for position, _ in records)
            for (position, _), delivery in zip(records, deliveries, strict=True):
                await self._free.acquire()
                task = loop.create_task(self._send(position, delivery))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _send(self, position: int, delivery: Delivery) -> None:
        body = encode(Payload(delivery.id, delivery.content.title, delivery.content.body, delivery.content.data))
        timestamp = str(int(time.time()))
        signed = f"{delivery.id}.{timestamp}.".encode() + body
        signature = base64.b64encode(hmac.digest(SECRET, signed, hashlib.sha256)).decode()
        headers = {
            "content-type": "application/json",
            "webhook-id": delivery.id,
            "webhook-timestamp": timestamp,
            "webhook-signature": f"v1,{signature}",
        }
        async with self._session.post(delivery.address, data=body, headers=headers) as response:
            await response.read()
            kind = "sent" if response.status < 300 else "failed"
        self._free.release()
        del self._under_way[position]
        self._finished.append((kind, delivery.id, encode(Event(delivery.id, kind, time.time()))))
        self._record()

    def _record(self) -> None:
        """Write what has finished, unless a write is under way: then it goes with the next."""
        if self._recording or not self._finished:
            return
        self._recording = True
        finished, self._finished = self._finished, []
        self._log.write("UPDATE ledger SET outcome = ? WHERE id = ?", [row[:2] for row in finished], then=_nothing)
        done = next(iter(self._under_way), self._position + 1) - 1
        self._log.write("UPDATE progress SET position = ?", [(done,)], then=_nothing)
        self._log.write("INSERT INTO events (value) VALUES (?)", [row[2:] for row in finished], then=self._recorded)

    def _recorded(self) -> None:
        self._recording = False
        self._record()


def _nothing() -> None:
    """Nobody waits for this write alone."""


def main(port: int, directory: Path) -> None:
    """Serve."""
    parts: dict[str, Log | Worker] = {}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        log = Log(directory / "sketch.db")
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CONCURRENCY)) as session:
            worker = Worker(log, session)
            parts.update(log=log, worker=worker)
            running = asyncio.get_running_loop().create_task(worker.run())
            yield
            running.cancel()

    async def notify(request: Request) -> Response:
        log, worker = parts["log"], parts["worker"]
        assert isinstance(log, Log)
        assert isinstance(worker, Worker)
        notification = decode_notification(await request.body())
        notification_id = str(uuid.uuid4())
        delivery_id = str(uuid.uuid4())
        delivery = Delivery(
            delivery_id,
            notification_id,
            notification.to[0].address,
            notification.class_,
            notification.content,
            time.time(),
        )
        appended = asyncio.get_running_loop().create_future()
        log.write(
            "INSERT INTO deliveries (value) VALUES (?)",
            [(encode(delivery),)],
            then=partial(appended.set_result, None),
        )
        await appended
        worker.appended()
        answer = encode({"id": notification_id, "deliveries": [{"id": delivery_id}]})
        return Response(answer, status_code=202, media_type="application/json")

    app = Starlette(routes=[Route("/v1/notifications", notify, methods=["POST"])], lifespan=lifespan)
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

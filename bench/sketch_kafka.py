"""The reference program: our path on Kafka as lean as it can be written, with nothing around it.

`python -m bench.sketch_kafka accept PORT BOOTSTRAP`: decode, one record with `acks=all`, 202 with ids.
`python -m bench.sketch_kafka work BOOTSTRAP`: decode, sign, post (128 at once), one event with `acks=all`, commit the
contiguous prefix once a second.

No ledger, no classes, no order, no retries, no limits, no checks of addresses: what Pabal costs more than this is
what those cost.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import aiohttp
import confluent_kafka
import msgspec
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DELIVERIES = "sketch.deliveries"
EVENTS = "sketch.events"
CONCURRENCY = 128
SECRET = base64.b64decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")


class Address(msgspec.Struct):
    """Where."""

    channel: str
    address: str


class Content(msgspec.Struct):
    """What to say."""

    title: str
    body: str
    data: dict[str, Any]


class Notification(msgspec.Struct, rename={"class_": "class"}):
    """The request's body."""

    to: list[Address]
    class_: str
    content: Content


class Delivery(msgspec.Struct, rename={"class_": "class"}):
    """The record."""

    id: str
    notification_id: str
    address: str
    class_: str
    content: Content
    accepted_at: float


class Event(msgspec.Struct):
    """What became of it."""

    delivery_id: str
    kind: str
    at: float


class Payload(msgspec.Struct):
    """What is posted."""

    id: str
    title: str
    body: str
    data: dict[str, Any]


decode_notification = msgspec.json.Decoder(Notification).decode
decode_delivery = msgspec.json.Decoder(Delivery).decode
encode = msgspec.json.Encoder().encode


class Producer:
    """librdkafka's producer, with acknowledgements handed to the event loop a batch at a time."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": bootstrap,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 1,
                "queue.buffering.max.messages": 1_000_000,
            }
        )
        self._loop = asyncio.get_running_loop()
        self._acknowledged: list[Callable[[], object]] = []
        threading.Thread(target=self._poll, daemon=True).start()

    def produce(self, topic: str, key: str, value: bytes, *, then: Callable[[], object]) -> None:
        """`then` runs in the loop once the record is acknowledged; a record that is not ends the program."""

        def delivered(error: object, _: object) -> None:
            if error is not None:
                raise SystemExit(f"not acknowledged: {error}")
            self._acknowledged.append(then)

        self._producer.produce(topic, value, key, on_delivery=delivered)

    def _poll(self) -> None:
        while True:
            if self._producer.poll(0.5):
                batch, self._acknowledged = self._acknowledged, []
                self._loop.call_soon_threadsafe(_run_all, batch)


def _run_all(batch: list[Callable[[], object]]) -> None:
    for then in batch:
        then()


def accept(port: int, bootstrap: str) -> None:
    """The API."""
    producer: Producer | None = None

    async def notify(request: Request) -> Response:
        nonlocal producer
        if producer is None:
            producer = Producer(bootstrap)
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
        acknowledged = asyncio.get_running_loop().create_future()
        producer.produce(DELIVERIES, delivery_id, encode(delivery), then=partial(acknowledged.set_result, None))
        await acknowledged
        answer = encode({"id": notification_id, "deliveries": [{"id": delivery_id}]})
        return Response(answer, status_code=202, media_type="application/json")

    app = Starlette(routes=[Route("/v1/notifications", notify, methods=["POST"])])
    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")


def _parts(record: confluent_kafka.Message) -> tuple[int, int, bytes]:
    partition, offset, value = record.partition(), record.offset(), record.value()
    assert partition is not None
    assert offset is not None
    assert value is not None
    return partition, offset, value


class Worker:
    """Takes records from a thread, posts them from `CONCURRENCY` tasks, keeps what is still under way in order."""

    def __init__(self, bootstrap: str, session: aiohttp.ClientSession) -> None:
        self._producer = Producer(bootstrap)
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[int, int, bytes]] = deque()
        self._more = asyncio.Semaphore(0)
        self._under_way: dict[int, dict[int, None]] = {}
        self._read: dict[int, int] = {}
        self._offsets: list[confluent_kafka.TopicPartition] = []
        self._consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "sketch",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        self._leaving = False
        self._loop.add_signal_handler(signal.SIGTERM, self._leave)

    def _leave(self) -> None:
        self._leaving = True

    async def run(self) -> None:
        """Until it is told to end; then it leaves its group and drops what is under way."""
        threading.Thread(target=self._consume, daemon=True).start()
        await asyncio.gather(self._commit(), *(self._work() for _ in range(CONCURRENCY)))

    def _consume(self) -> None:
        self._consumer.subscribe([DELIVERIES])
        while not self._leaving:
            while len(self._waiting) > 2000:
                time.sleep(0.01)
            # In this thread: since 2.16 a call from another one waits until `consume` lets it in, perhaps for ever.
            offsets, self._offsets = self._offsets, []
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=True)
            # `consume(500, 0.1)` would wait 0.1 s for the 500th record; this waits for the first.
            first = self._consumer.poll(0.1)
            if first is not None:
                records = [first, *self._consumer.consume(499, 0)]
                batch = [_parts(record) for record in records if record.error() is None]
                self._loop.call_soon_threadsafe(self._take, batch)
        self._consumer.close()
        os._exit(0)

    def _take(self, batch: list[tuple[int, int, bytes]]) -> None:
        for partition, offset, _ in batch:
            self._under_way.setdefault(partition, {})[offset] = None
            self._read[partition] = offset + 1
        self._waiting.extend(batch)
        for _ in batch:
            self._more.release()

    async def _work(self) -> None:
        while True:
            await self._more.acquire()
            partition, offset, value = self._waiting.popleft()
            delivery = decode_delivery(value)
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
            event = encode(Event(delivery.id, kind, time.time()))
            self._producer.produce(EVENTS, delivery.id, event, then=partial(self._under_way[partition].pop, offset))

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._offsets = [
                confluent_kafka.TopicPartition(DELIVERIES, partition, next(iter(self._under_way[partition]), read))
                for partition, read in self._read.items()
            ]


async def work(bootstrap: str) -> None:
    """The worker."""
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector) as session:
        await Worker(bootstrap, session).run()


if __name__ == "__main__":
    if sys.argv[1] == "accept":
        accept(int(sys.argv[2]), sys.argv[3])
    else:
        uvloop.run(work(sys.argv[2]))

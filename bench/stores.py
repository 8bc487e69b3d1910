"""The store alone, and the recorder: `python -m bench.stores [RECORDED]`. The figures of docs/store.md.

A delivery is two facts: its record and its `sent` event, which comes some hundred deliveries later, as a worker's does.
CPU is the process's own and, on PostgreSQL, that of all the server's processes (`fsync=on`).
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import uvloop
from servers.postgres import PostgresServer

from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.codec import delivery_record, event_record
from pabal.notification import Content, Delivery, DeliveryEvent, event_id
from pabal.recorder.recorder import BATCH, Recorder
from pabal.store.port import DeliveryFilter, StoredFact
from pabal.store.sql import SqlStore
from pabal.topics.spec import topics_for

_ROUNDS = 5
_DELIVERIES = 10_000
_TRAILING = 300
"""So many deliveries are accepted before the first of them is sent."""

_TENANTS = 20


def _facts(count: int) -> Sequence[StoredFact]:
    """Deliveries and their `sent` events in the order of a log."""
    now = datetime.now(UTC)
    accepted = [_delivery(number, now=now + timedelta(microseconds=number)) for number in range(count)]
    facts: list[StoredFact] = []
    for number in range(count + _TRAILING):
        if number < count:
            facts.append(accepted[number])
        if number >= _TRAILING:
            facts.append(_sent(accepted[number - _TRAILING]))
    return facts


def _delivery(number: int, *, now: datetime) -> Delivery:
    return Delivery(
        id=uuid4(),
        notification_id=uuid4(),
        tenant=f"tenant-{number % _TENANTS}",
        channel="webhook",
        address=f"https://example.com/hooks/{number % 997}",
        class_="standard",
        accepted_at=now,
        expires_at=now + timedelta(days=1),
        content=Content(title="Order 17 shipped", body="It arrives tomorrow, between nine and eleven." * 4),
    )


def _sent(delivery: Delivery) -> DeliveryEvent:
    return DeliveryEvent(
        id=event_id(delivery.id, attempt=1, kind="sent"),
        kind="sent",
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address=delivery.address,
        class_=delivery.class_,
        attempt=1,
        at=delivery.accepted_at + timedelta(milliseconds=40),
        provider="webhook",
        response="200 OK",
        latency_seconds=0.0123,
    )


async def _fold(store: SqlStore, facts: Sequence[StoredFact], *, batch: int) -> None:
    for begin in range(0, len(facts), batch):
        await store.fold(facts[begin : begin + batch])


async def _measure_folding(name: str, store: SqlStore, *, server_cpu: Callable[[], float], waiting: int) -> None:
    await store.migrate()
    for begin in range(0, waiting, 50_000):
        await _fold(store, _facts(min(50_000, waiting - begin)), batch=5000)
    for batch in (BATCH, 100):
        rounds = []
        for _ in range(_ROUNDS):
            facts = _facts(_DELIVERIES)
            began, cpu, server = time.perf_counter(), time.process_time(), server_cpu()
            await _fold(store, facts, batch=batch)
            seconds, cpu, server = time.perf_counter() - began, time.process_time() - cpu, server_cpu() - server
            rounds.append((len(facts) / seconds, cpu / len(facts) * 1000, server / len(facts) * 1000))
        rate, cpu, server = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(
            f"{name:<10} {waiting:>9,} recorded, {batch:>4} at once: {rate:>7,.0f} facts/s,"
            f" CPU-s per 1,000 facts {cpu:.3f} and the server's {server:.3f}"
        )
    await _measure_looking_up(name, store, [each.id for each in facts if isinstance(each, Delivery)])


async def _measure_looking_up(name: str, store: SqlStore, ids: Sequence[UUID]) -> None:
    took: dict[str, list[float]] = {"delivery": [], "page of 50": []}
    for number, id_ in enumerate(ids[:500]):
        tenant = f"tenant-{number % _TENANTS}"
        began = time.perf_counter()
        view = await store.delivery(id_, tenant=tenant)
        took["delivery"].append(time.perf_counter() - began)
        assert view is not None
        began = time.perf_counter()
        page = await store.deliveries(DeliveryFilter(recipient=view.address), tenant=tenant, limit=50)
        took["page of 50"].append(time.perf_counter() - began)
        assert page.deliveries
    for what, seconds in took.items():
        seconds.sort()
        middle, late = seconds[len(seconds) // 2] * 1e3, seconds[len(seconds) * 99 // 100] * 1e3
        print(f"{name:<10} looking up a {what}: p50 {middle:.2f} ms, p99 {late:.2f} ms")


async def _measure_recording(directory: Path) -> None:
    """Everything that the role does, from the poll to the commit."""
    rounds = []
    for number in range(_ROUNDS):
        folder = directory / f"recording-{number}"
        folder.mkdir()
        clock = SystemClock()
        broker = await SqliteBroker.open(folder / "log.db", clock=clock)
        admin, producer = broker.admin(), broker.producer(deadline_seconds=60)
        for spec in topics_for(["email", "webhook"], partitions=2, replication=None):
            await admin.create_topic(spec)
        facts = _facts(_DELIVERIES)
        records = [
            delivery_record(fact) if isinstance(fact, Delivery) else event_record(fact)
            for fact in facts
            if isinstance(fact, Delivery | DeliveryEvent)
        ]
        for begin in range(0, len(records), 500):
            await producer.append(records[begin : begin + 500])
        store = SqlStore(f"sqlite:{folder / 'store.db'}", clock=clock)
        await store.migrate()
        done, stopping = asyncio.Event(), asyncio.Event()
        recorded = 0

        async def follow(folded: Sequence[StoredFact], *, done: asyncio.Event = done) -> None:
            nonlocal recorded
            recorded += len(folded)
            if recorded >= 2 * _DELIVERIES:
                done.set()

        recorder = Recorder(
            broker=broker,
            store=store,
            channels=["email", "webhook"],
            retention=timedelta(days=30),
            clock=clock,
            follow=follow,
        )
        began, cpu = time.perf_counter(), time.process_time()
        running = asyncio.create_task(recorder.run(stopping))
        await done.wait()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        stopping.set()
        await running
        await store.close()
        await broker.close()
        rounds.append((len(facts) / seconds, cpu / len(facts) * 1000))
    rate, cpu = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(f"recorder   embedded log to SQLite: {rate:>7,.0f} facts/s, CPU-s per 1,000 facts {cpu:.3f}")


async def _measure(directory: Path, server: PostgresServer, *, url: str, waiting: int) -> None:
    def cpu_of_the_server() -> float:
        times = [psutil.Process(each).cpu_times() for each in server.process_ids()]
        return sum(each.user + each.system for each in times)

    await _measure_recording(directory)
    for amount in sorted({0, waiting}):
        store = SqlStore(f"sqlite:{directory / f'{amount}.db'}", clock=SystemClock())
        await _measure_folding("SQLite", store, server_cpu=lambda: 0.0, waiting=amount)
        await store.close()
    store = SqlStore(url, clock=SystemClock())
    await _measure_folding("PostgreSQL", store, server_cpu=cpu_of_the_server, waiting=0)
    await store.close()


def _main(waiting: int) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        PostgresServer.start(settings={"fsync": "on"}) as server,
        server.new_database() as url,
    ):
        uvloop.run(_measure(Path(name), server, url=url, waiting=waiting))


if __name__ == "__main__":
    _main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)

"""The embedded log alone: `python -m bench.embedded_log [WAITING]`. The figures of docs/log.md."""

import asyncio
import itertools
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import uvloop

from pabal.broker.port import NewRecord, TopicPartition, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock

_VALUE = os.urandom(500)
_ROUNDS = 5


class _Assignment:
    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        return

    def revoked(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, int]:
        return {}

    def lost(self, partitions: Collection[TopicPartition]) -> None:
        return


async def _open(path: Path) -> SqliteBroker:
    broker = await SqliteBroker.open(path, clock=SystemClock())
    await broker.admin().create_topic(TopicSpec(name="t", partitions=4))
    return broker


async def _append(broker: SqliteBroker, *, tasks: int, total: int, together: int = 1) -> list[float]:
    """Append from concurrent tasks; the milliseconds of each call."""
    producer = broker.producer(deadline_seconds=60)
    keys = itertools.count()
    took = []

    async def work() -> None:
        for _ in range(total // tasks // together):
            records = [NewRecord(topic="t", key=b"%d" % (next(keys) % 997), value=_VALUE) for _ in range(together)]
            begin = time.perf_counter()
            await producer.append(records)
            took.append((time.perf_counter() - begin) * 1000)

    await asyncio.gather(*(work() for _ in range(tasks)))
    return took


async def _consume(broker: SqliteBroker, group: str, total: int) -> None:
    """Read `total` records from the file in polls of 500, and commit now and then."""
    consumer = broker.consumer(group, ["t"], _Assignment())
    count = 0
    for turn in itertools.count():
        records = await consumer.poll(limit=500, timeout_seconds=10)
        count += len(records)
        if turn % 50 == 49:
            await consumer.commit({each.topic_partition: each.offset + 1 for each in records})
        if count >= total:
            break
    await consumer.close()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _cost(broker: SqliteBroker, round_number: int) -> tuple[float, float, float, float]:
    """Appends a second, CPU µs per append, records consumed a second, CPU µs per record."""
    begin, cpu = time.perf_counter(), _cpu_seconds()
    await _append(broker, tasks=200, total=20_000)
    middle, cpu_between = time.perf_counter(), _cpu_seconds()
    await _consume(broker, f"g{round_number}", 9_000)
    end, cpu_after = time.perf_counter(), _cpu_seconds()
    return (
        20_000 / (middle - begin),
        (cpu_between - cpu) / 20_000 * 1e6,
        9_000 / (end - middle),
        (cpu_after - cpu_between) / 9_000 * 1e6,
    )


async def _measure_waiting(directory: Path, waiting: int) -> None:
    """Rates and costs with little and with much waiting, in turn, so that noise hits both alike."""
    logs = {}
    for amount in (10_000, waiting):
        logs[amount] = await _open(directory / f"{amount}.db")
        await _append(logs[amount], tasks=32, total=amount, together=50)
    os.sync()
    costs: dict[int, list[tuple[float, float, float, float]]] = {amount: [] for amount in logs}
    for number in range(_ROUNDS):
        for amount, broker in logs.items():
            costs[amount].append(await _cost(broker, number))
    for amount, rounds in costs.items():
        appends, append_cpu, records, record_cpu = (statistics.median(each) for each in zip(*rounds, strict=True))
        print(
            f"{amount:>9,} waiting: append {appends:>9,.0f}/s {append_cpu:5.1f} µs CPU,"
            f" consume {records:>9,.0f}/s {record_cpu:5.2f} µs CPU each"
        )
    for broker in logs.values():
        await broker.close()


async def _measure_lone(directory: Path) -> None:
    broker = await _open(directory / "lone.db")
    took = sorted(await _append(broker, tasks=1, total=2_000))
    print(f"  lone append: p50 {took[len(took) // 2]:.2f} ms, p99 {took[len(took) * 99 // 100]:.2f} ms")
    await broker.close()


async def _measure_waking(directory: Path) -> None:
    """From the append's call in this process to the poll's return in another."""
    path = directory / "waking.db"
    broker = await _open(path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.embedded_log", "--listen", str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    producer = broker.producer()
    for _ in range(300):
        await producer.append([NewRecord(topic="t", key=None, value=b"%d" % time.time_ns())])
        await asyncio.sleep(0.005)
    output, _ = await process.communicate()
    print(output.decode().rstrip())
    await broker.close()


async def _listen(path: Path) -> None:
    broker = await _open(path)
    consumer = broker.consumer("g", ["t"], _Assignment())
    await consumer.poll(limit=1, timeout_seconds=0.5)
    print("ready", flush=True)
    took: list[float] = []
    while len(took) < 300:
        records = await consumer.poll(limit=500, timeout_seconds=60)
        now = time.time_ns()
        took += [(now - int(each.value or b"0")) / 1e6 for each in records]
    took.sort()
    print(f"  append to poll in another process: p50 {took[150]:.2f} ms, p99 {took[297]:.2f} ms")
    await broker.close()


async def _main(waiting: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        await _measure_lone(directory)
        await _measure_waking(directory)
        await _measure_waiting(directory, waiting)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--listen", path]:
            uvloop.run(_listen(Path(path)))
        case arguments:
            uvloop.run(_main(int(arguments[0]) if arguments else 1_000_000))

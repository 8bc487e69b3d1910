"""The ledger alone, on SQLite and on PostgreSQL: `python -m bench.ledgers`. The figures of docs/ledger.md.

Each delivery is claimed, finished and settled, by many tasks at once, as a worker does. CPU is the process's own and,
on PostgreSQL, that of all the server's processes (`fsync=on`). Rounds of both take turns: noise hits both alike.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import psutil
import uvloop
from servers.postgres import PostgresServer

from pabal.clock import SystemClock
from pabal.ledger.port import Ledger
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.protocol import Call, Claim, Finish, Source
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.outcome import Accepted, Done

_ROUNDS = 5
_DELIVERIES = 10_000
_AT_ONCE = 128


async def _work(ledger: Ledger, *, count: int, claims: list[float]) -> None:
    """Deliveries one after the other; appends the seconds that each claim took."""
    until = time.time() + 3 * 86400
    for _ in range(count):
        delivery, token = uuid4(), ledger.new_token()
        began = time.perf_counter()
        answer = await ledger.claim(
            delivery,
            Claim(
                source=Source(1, 0),
                owner=ledger.owner,
                token=token,
                lease_seconds=15.0,
                provider="webhook",
                may_repeat=True,
                prune_after=until,
                recipient=delivery.bytes,
            ),
        )
        claims.append(time.perf_counter() - began)
        assert isinstance(answer, Call)
        # A call ends in a round of the loop of its own.
        await asyncio.sleep(0)
        outcome = Accepted(provider_id="abcdef", response="250 2.0.0 Ok")
        await ledger.finish(
            delivery, Finish(attempt=1, owner=ledger.owner, token=token, outcome=outcome, verdict=Done())
        )
        ledger.settle(delivery, owner=ledger.owner, token=token)


async def _round(ledger: Ledger, *, at_once: int, deliveries: int, database: Callable[[], float]) -> Sequence[float]:
    """CPU µs of the process and of the database per delivery, deliveries per second, p50 and p99 ms of a claim."""
    claims: list[float] = []
    began, process, server = time.perf_counter(), time.process_time(), database()
    await asyncio.gather(*(_work(ledger, count=deliveries // at_once, claims=claims) for _ in range(at_once)))
    seconds, process, server = time.perf_counter() - began, time.process_time() - process, database() - server
    claims.sort()
    count = len(claims)
    return (
        process / count * 1e6,
        server / count * 1e6,
        count / seconds,
        claims[count // 2] * 1e3,
        claims[count * 99 // 100] * 1e3,
    )


async def _measure(directory: Path, server: PostgresServer, *, url: str) -> None:
    def cpu_of_the_server() -> float:
        times = [psutil.Process(each).cpu_times() for each in server.process_ids()]
        return sum(each.user + each.system for each in times)

    ledgers: dict[str, tuple[Ledger, Callable[[], float]]] = {
        "SQLite": (await SqliteLedger.open(directory / "ledger.db", clock=SystemClock(), worker="bench"), lambda: 0.0),
        "PostgreSQL": (await PostgresLedger.open(url, worker="bench"), cpu_of_the_server),
    }
    for at_once, deliveries in ((_AT_ONCE, _DELIVERIES), (1, 1000)):
        rounds: dict[str, list[Sequence[float]]] = {name: [] for name in ledgers}
        for _ in range(_ROUNDS):
            for name, (ledger, database) in ledgers.items():
                rounds[name].append(await _round(ledger, at_once=at_once, deliveries=deliveries, database=database))
        for name, results in rounds.items():
            process, of_server, rate, p50, p99 = (statistics.median(each) for each in zip(*results, strict=True))
            print(
                f"{at_once:>4} at once, {name:<10}: {process:6.1f} µs CPU and {of_server:6.1f} µs of the server's"
                f" per delivery, {rate:>7,.0f}/s, claim p50 {p50:5.2f} ms, p99 {p99:5.2f} ms"
            )
    for ledger, _ in ledgers.values():
        await ledger.close()


def _main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        PostgresServer.start(settings={"fsync": "on"}) as server,
        server.new_database() as url,
    ):
        uvloop.run(_measure(Path(name), server, url=url))


if __name__ == "__main__":
    _main()

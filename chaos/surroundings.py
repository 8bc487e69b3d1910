"""What a process stands on: the disk, the wall clock, the bytes that others wrote."""

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from servers.postgres import PostgresServer

from chaos.account import Allowed
from chaos.disk import fill, integrity
from chaos.failed import RunFailed
from chaos.installation import Setting
from chaos.run import Run, Scenario
from chaos.wall_clock import WallClock
from pabal.broker.port import NewRecord
from pabal.clock import SystemClock
from pabal.compose.parts import open_broker
from pabal.config import Settings
from pabal.notification import (
    AUDIT_TOPIC,
    EVENTS_TOPIC,
    OPS_TOPIC,
    SUPPRESSIONS_TOPIC,
    delay_topic,
    deliveries_topic,
)

_HOUR_SECONDS = 3600
_FULL_SECONDS = 8.0
_STEP_SECONDS = 4.0
_STEPS_HOURS = (-1, 0, 1)
_TOPIC = deliveries_topic("webhook", "standard")
_POISON = (b"", b"{", b"\xff\xfe not JSON", b"null", b"[]", b'{"id": 7}', b'{"at": "9999-12-31T23:59:59.999999Z"}')
_POISONED = (
    (_TOPIC, b"poison", b"delivery/1"),
    (delay_topic("standard", 30), b"poison", b"delivery/1"),
    (EVENTS_TOPIC, b"poison", b"delivery-event/1"),
    (EVENTS_TOPIC, b"poison", b"receipt/1"),
    (SUPPRESSIONS_TOPIC, b"shop/email/nobody@example.com", b"suppression/1"),
    (AUDIT_TOPIC, b"poison", b"audit/1"),
    (OPS_TOPIC, b"ledger/id", b"ledger/1"),
    (OPS_TOPIC, b"brake/webhook/standard", b"brake/1"),
    (OPS_TOPIC, b"redrive/pabal.dead.webhook", b"redrive-claim/1"),
    (OPS_TOPIC, b"template/" + b"0" * 64, b"template/1"),
    (OPS_TOPIC, b"recovery/webhook/127.0.0.1", b"recovery/1"),
)
"""Topic, key and schema of each record that is made unreadable."""


async def fill_the_disk(run: Run) -> Allowed:
    """No room for the embedded log and the ledger, then room again; nobody is restarted."""
    ballast = run.pabal.folder / "ballast"
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        fill(ballast)
        await run.pabal.until(lambda: run.load.refused["503"] > 0, "the API to say 503", within_seconds=60)
        await run.while_loaded(_FULL_SECONDS)
        run.fault_over()
        ballast.unlink()
        await run.while_loaded(_STEP_SECONDS)
    if "disk is full" not in run.pabal.printed():
        run.problems.append("nothing that was printed says that the disk is full")
    for name in ("log.db", "ledger.db", "store.db"):
        if (verdict := integrity(run.pabal.folder / name)) != "ok":
            run.problems.append(f"{name} is damaged: {verdict}")
    run.notes.append(f"{run.load.refused['503']} requests answered 503 meanwhile")
    return Allowed(duplicates=0)


async def restart_postgres(run: Run) -> Allowed:
    """The database of ledger and store restarted in order, then killed and gone for a while, under load."""
    server = _postgres(run)
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        await asyncio.to_thread(server.restart)
        await run.while_loaded(_STEP_SECONDS)
        await asyncio.to_thread(server.kill)
        await run.while_loaded(run.size.outage_seconds / 2)
        run.fault_over()
        await asyncio.to_thread(server.launch)
        await run.while_loaded(_STEP_SECONDS)
    return Allowed(duplicates=0)


async def freeze_postgres(run: Run) -> Allowed:
    """The database of ledger and store SIGSTOPped under load, longer than anyone waits for it, and continued."""
    server = _postgres(run)
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        server.pause()
        await run.while_loaded(run.size.outage_seconds)
        run.fault_over()
        server.resume()
        await run.while_loaded(_STEP_SECONDS)
    if "gave no answer" not in run.pabal.printed():
        run.problems.append("nothing that was printed says that the database does not answer")
    return Allowed(duplicates=0)


def _postgres(run: Run) -> PostgresServer:
    if run.pabal.postgres is None:
        raise RunFailed("this scenario needs a PostgreSQL")
    return run.pabal.postgres


async def step_the_wall_clock(run: Run) -> Allowed:
    """An hour back, and forward again; then an hour forward, for good. Some wait in the delay line meanwhile."""
    clock = WallClock(run.pabal.folder)
    await run.pabal.start("api", "delayline", "recorder", "worker-1", environment=clock.environment)
    run.load.burst(1, to=run.webhook)
    await run.until_arrived(1)
    due = datetime.now(UTC) + timedelta(seconds=_STEP_SECONDS * 1.5)
    run.load.burst(run.size.burst // 10, to=run.webhook, send_at=due)
    await run.load.answered()
    async with run.steady_load():
        for hours in _STEPS_HOURS:
            clock.step(hours * _HOUR_SECONDS)
            run.fault_over()
            await run.while_loaded(_STEP_SECONDS)
    seen = hours_off((at for told in (await run.told()).values() for at in told.told_at), now=time.time())
    if not seen >= set(_STEPS_HOURS):
        run.problems.append(f"the events' times are off by {sorted(seen)} hours: the clock did not step")
    return Allowed(duplicates=0)


def hours_off(times: Iterable[float], *, now: float) -> set[int]:
    """By how many whole hours any of these is off, all being of the last few minutes by a clock that is not."""
    return {round((at - now) / _HOUR_SECONDS) for at in times}


async def write_nonsense(run: Run) -> Allowed:
    """Records nobody can read among good ones: one in twenty."""
    await run.pabal.start_all("worker-1")
    nonsense = run.size.burst // 20
    broker = await open_broker(run.pabal.log_url, settings=Settings(), clock=SystemClock())
    try:
        producer = broker.producer()
        run.load.burst(run.size.burst, to=run.webhook)
        for number in range(nonsense):
            value = (b"\xff\xfe not JSON", b"{}", b"", b'{"id": 7}')[number % 4]
            schema = (b"delivery/1", b"delivery/99")[number % 2]
            record = NewRecord(topic=_TOPIC, key=b"%d" % number, value=value, headers=(("schema", schema),))
            await producer.append([record])
        run.fault_over()
    finally:
        await broker.close()
    return Allowed(duplicates=0, dead=nonsense)


async def write_poison(run: Run) -> Allowed:
    """Under load, values that nobody can read in every topic that a role reads, under keys that matter; then each role
    is started anew on top of them."""
    roles = ("recorder", "delayline", "worker-1", "api")
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        broker = await open_broker(run.pabal.log_url, settings=Settings(), clock=SystemClock())
        try:
            producer = broker.producer()
            for value in _POISON:
                await producer.append(
                    [
                        NewRecord(topic=topic, key=key, value=value, headers=(("schema", schema),))
                        for topic, key, schema in _POISONED
                    ]
                )
        finally:
            await broker.close()
        for role in roles:
            await run.pabal.leave(role)
            await run.pabal.start(role)
        run.fault_over()
        await run.while_loaded(_STEP_SECONDS)
    dead = sum(topic.startswith(("pabal.deliveries.", "pabal.delay.")) for topic, _, _ in _POISONED)
    return Allowed(duplicates=0, dead=dead * len(_POISON))


SCENARIOS = (
    Scenario(
        name="disk-full",
        title="disk full under the embedded log and the ledger for some 10 s",
        do=fill_the_disk,
        logs=("embedded",),
        setting=Setting(has_small_disk=True),
    ),
    Scenario(
        name="postgres",
        title="PostgreSQL of ledger and store restarted, then SIGKILLed and gone for 10 s, under load",
        do=restart_postgres,
        setting=Setting(has_postgres=True),
    ),
    Scenario(
        name="frozen-postgres",
        title="PostgreSQL of ledger and store SIGSTOPped for 20 s under load",
        do=freeze_postgres,
        setting=Setting(has_postgres=True),
    ),
    Scenario(
        name="wall-clock",
        title="wall clock of every role stepped an hour back, forward, and forward again",
        do=step_the_wall_clock,
    ),
    Scenario(name="undecodable", title="undecodable records, one in twenty, among good ones", do=write_nonsense),
    Scenario(
        name="poison-records",
        title="unreadable records in every topic that a role reads, then every role started anew",
        do=write_poison,
    ),
)
"""In the order of the table."""

"""Processes that are killed, frozen, or come and go."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from functools import partial

from chaos.account import Allowed
from chaos.entry import STEPS
from chaos.installation import IN_FLIGHT, MAIL_IN_FLIGHT, Setting
from chaos.run import Run, Scenario

_SLOW = {"latency_seconds": 0.05}
"""How long the far side takes: so that there are calls to be interrupted."""

_VERY_SLOW = {"latency_seconds": 0.3}
"""So slow that both workers have calls under way whenever one of them is frozen."""

_STEP_SLOTS = 16
_RESTART_AFTER_SECONDS = 2.0
_COMPLETE_WITHIN_SECONDS = 15.0
"""After the restart of a worker killed in mid-burst: what docs/guarantees.md promises."""
_VICTIMS = ("worker-1", "worker-2", "worker-1", "worker-2", "api", "delayline", "recorder")
_HELD_SECONDS = 8.0
_REBALANCE_EVERY_SECONDS = 2.0
_FROZEN_SECONDS = 12.0
"""Longer than a session (6 s) and than a claim's lease (call timeout 2 s + 5 s)."""

_KIP_848 = '[log]\ngroup_protocol = "consumer"'
_SESSION_6_SECONDS = {
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "1000",
}
"""With KIP-848 the brokers say how long a session is: as long as the classic one's."""

_SHORT_LADDER = "[classes.standard]\nladder_seconds = [5, 5, 30]"
"""So that a run need not wait half a minute for what has to be tried again."""


async def kill_worker_in_a_burst(run: Run) -> Allowed:
    """The comparison of docs/why.md: killed in mid-burst, started again two seconds later."""
    run.far_side.answer(http=_SLOW)
    await run.pabal.start_all("worker-1")
    run.load.burst(run.size.burst, to=run.webhook)
    await run.until_arrived(run.size.kill_at)
    await _kill_and_restart(run, "worker-1")
    return Allowed(duplicates=IN_FLIGHT, recovered_within_seconds=_COMPLETE_WITHIN_SECONDS)


async def kill_worker_sending_mail(run: Run) -> Allowed:
    """A receiver that does not deduplicate, and says so: what was in the air is `uncertain`, never sent again."""
    run.far_side.answer(smtp=_SLOW)
    await run.pabal.start_all("worker-1")
    run.load.burst(run.size.burst // 2, to=run.mail)
    await run.until_arrived(run.size.kill_at // 2)
    await _kill_and_restart(run, "worker-1")
    return Allowed(duplicates=0, dead_at_most=MAIL_IN_FLIGHT)


async def kill_worker_at(run: Run, *, step: str) -> Allowed:
    """SIGKILL at one step of the protocol, under load."""
    run.far_side.answer(http=_SLOW)
    at = 1 if step.endswith("commit") else run.size.steps_killed_at
    await run.pabal.start_all()
    await run.pabal.start("worker-1", environment={"CHAOS_DIE_AT": f"{step}:{at}"})
    run.load.burst(run.size.burst // 2, to=run.webhook)
    await run.pabal.dies("worker-1", within_seconds=40)
    run.fault_over()
    await run.pabal.start("worker-1")
    return Allowed(duplicates=_STEP_SLOTS)


async def kill_up(run: Run) -> Allowed:
    """Everything in one process, and that one killed."""
    run.far_side.answer(http=_SLOW)
    await run.pabal.start("up")
    run.load.burst(run.size.burst, to=run.webhook)
    await run.until_arrived(run.size.kill_at)
    await _kill_and_restart(run, "up")
    return Allowed(duplicates=IN_FLIGHT)


async def kill_at_random(run: Run) -> Allowed:
    """Roles killed one after the other, at random, under load; started again within two seconds."""
    dice = random.Random(run.size.burst)
    run.far_side.answer(http=_SLOW)
    await run.pabal.start_all("worker-1", "worker-2")
    workers_killed = 0
    async with run.steady_load():
        loop = asyncio.get_running_loop()
        until = loop.time() + run.size.storm_seconds
        while loop.time() < until:
            await run.while_loaded(dice.uniform(0.5, 3.0))
            name = dice.choice(_VICTIMS)
            workers_killed += name.startswith("worker")
            run.pabal.kill(name)
            await asyncio.sleep(dice.uniform(0.0, 2.0))
            run.fault_over()
            await run.pabal.start(name)
    run.notes.append(f"{workers_killed} workers killed")
    return Allowed(duplicates=workers_killed * IN_FLIGHT)


async def kill_api(run: Run) -> Allowed:
    """Callers repeat with their keys what they were not answered; it is sent once."""
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        for _ in range(3):
            await run.while_loaded(run.size.storm_seconds / 12)
            run.pabal.kill("api")
            await asyncio.sleep(1.0)
            run.fault_over()
            await run.pabal.start("api")
    return Allowed(duplicates=0)


async def kill_delayline(run: Run) -> Allowed:
    """Killed while it holds what is due later, and again while it releases it."""
    await run.pabal.start_all("worker-1")
    due = datetime.now(UTC) + timedelta(seconds=_HELD_SECONDS)
    run.load.burst(run.size.burst // 4, to=run.webhook, send_at=due)
    await run.load.answered()
    await _kill_and_restart(run, "delayline")
    await run.until_arrived(1)
    await _kill_and_restart(run, "delayline")
    return Allowed(duplicates=0)


async def _kill_and_restart(run: Run, name: str) -> None:
    run.pabal.kill(name)
    await asyncio.sleep(_RESTART_AFTER_SECONDS)
    run.fault_over()
    await run.pabal.start(name)


async def kill_recorder(run: Run) -> Allowed:
    """The store falls behind and catches up; nothing that is sent depends on it."""
    await run.pabal.start_all("worker-1")
    async with run.steady_load():
        for _ in range(3):
            await run.while_loaded(run.size.storm_seconds / 12)
            run.pabal.kill("recorder")
            await asyncio.sleep(1.0)
            run.fault_over()
            await run.pabal.start("recorder")
    return Allowed(duplicates=0)


async def freeze_worker(run: Run) -> Allowed:
    """The zombie: frozen past its session and its leases, then going on as if nothing had happened."""
    run.far_side.answer(http=_VERY_SLOW)
    await run.pabal.start_all("worker-1", "worker-2")
    run.load.burst(run.size.burst, to=run.webhook)
    await run.until_arrived(run.size.kill_at)
    run.pabal.freeze("worker-1")
    await asyncio.sleep(_FROZEN_SECONDS)
    run.fault_over()
    run.pabal.thaw("worker-1")
    return Allowed(duplicates=IN_FLIGHT)


async def storm_of_rebalances(run: Run) -> Allowed:
    """Workers that join and leave in good order every two seconds; without names, so that nobody waits for them."""
    run.far_side.answer(http=_SLOW)
    await run.pabal.start_all()
    await run.pabal.start("worker-0", is_named=False)
    async with run.steady_load():
        loop = asyncio.get_running_loop()
        until = loop.time() + run.size.storm_seconds / 2
        turn = 0
        while loop.time() < until:
            turn += 1
            await run.pabal.start(f"worker-{turn}", is_named=False)
            await run.while_loaded(_REBALANCE_EVERY_SECONDS)
            await run.pabal.leave(f"worker-{turn - 1}")
        run.fault_over()
    run.notes.append(f"{turn} joined, {turn} left")
    return Allowed(duplicates=0)


SCENARIOS = (
    Scenario(
        name="worker-in-a-burst", title="worker SIGKILLed in mid-burst, restarted after 2 s", do=kill_worker_in_a_burst
    ),
    Scenario(
        name="worker-sending-mail",
        title="worker SIGKILLed sending mail (receiver does not deduplicate)",
        do=kill_worker_sending_mail,
    ),
    *(
        Scenario(
            name=f"worker-{step}",
            title=f"worker SIGKILLed {step.replace('-', ' ')}",
            do=partial(kill_worker_at, step=step),
            setting=Setting(config=f"[channels.webhook]\nconcurrency = {_STEP_SLOTS}"),
        )
        for step in STEPS
    ),
    Scenario(name="up", title="pabal up SIGKILLed in mid-burst, restarted after 2 s", do=kill_up),
    Scenario(name="random", title="roles SIGKILLed at random for 60 s under load", do=kill_at_random),
    Scenario(name="api", title="api SIGKILLed three times under load", do=kill_api),
    Scenario(
        name="delayline",
        title="delayline SIGKILLed twice, holding and releasing what is due later",
        do=kill_delayline,
    ),
    Scenario(name="recorder", title="recorder SIGKILLed three times under load", do=kill_recorder),
    Scenario(
        name="zombie",
        title="worker SIGSTOPped past its session, then continued",
        do=freeze_worker,
        setting=Setting(config=_SHORT_LADDER),
    ),
    Scenario(
        name="zombie-kip-848",
        title="worker SIGSTOPped past its session, then continued, in KIP-848 groups",
        do=freeze_worker,
        logs=("kafka",),
        setting=Setting(config=f"{_SHORT_LADDER}\n\n{_KIP_848}", broker_properties=_SESSION_6_SECONDS),
    ),
    Scenario(name="rebalance-storm", title="workers joining and leaving every 2 s", do=storm_of_rebalances),
)
"""In the order of the table."""

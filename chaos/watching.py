"""The monitor that watches is killed or frozen, or has a lot to look at."""

import socket
import time
from collections.abc import Callable, Sequence
from functools import partial

from chaos.account import Allowed
from chaos.run import Run, Scenario
from pabal.broker.port import TopicPartition
from pabal.clock import SystemClock
from pabal.compose.parts import open_broker
from pabal.config import Settings
from pabal.errors import DecodeError
from pabal.notification import STATUS_TOPIC
from pabal.status.records import LagSample, read_status

_TAKEN_OVER_WITHIN_SECONDS = 20.0
"""What docs/monitor.md promises."""

_SETTLED = 4
"""So many samples in a row are by one monitor: some six seconds."""

_MONITORS = ("monitor-1", "monitor-2")


async def another_watches_on(run: Run, *, is_frozen: bool) -> Allowed:
    """The active one of two monitors is killed, or frozen past its session and then continued."""
    await run.pabal.start_all("worker-1", *_MONITORS)
    async with run.steady_load():
        samples = await _until(run, _is_settled, "one monitor to be the active one")
        gone = next(name for name in _MONITORS if _instance(run, name) == samples[-1].instance)
        former, since = samples[-1].instance, time.monotonic()
        (run.pabal.freeze if is_frozen else run.pabal.kill)(gone)
        await _until(run, lambda samples: samples[-1].instance != former, "another monitor's sample")
        took = time.monotonic() - since
        run.fault_over()
        if is_frozen:
            told = len(await _samples(run))
            run.pabal.thaw(gone)
            later = await _until(run, lambda samples: len(samples) >= told + 4, "four more samples")
            if former in {sample.instance for sample in later[told:]}:
                run.problems.append("the monitor that was frozen told samples beside the active one")
    run.notes.append(f"another monitor's first sample came after {took:.1f} s")
    if took > _TAKEN_OVER_WITHIN_SECONDS:
        run.problems.append(f"another monitor watched only after {took:.1f} s")
    await _check_lags(run)
    return Allowed(duplicates=0)


async def lags_under_load(run: Run) -> Allowed:
    """Records come and go at 200 a second for ten minutes. No lag that the monitor saw was negative."""
    await run.pabal.start_all("worker-1", "monitor-1")
    run.load.steady(run.size.watched_rate, to=run.webhook)
    await run.while_loaded(run.size.watched_seconds)
    run.fault_over()
    await run.load.finish()
    await _check_lags(run)
    return Allowed(duplicates=0)


def _is_settled(samples: Sequence[LagSample]) -> bool:
    """Whether one monitor alone has told for a while: as the second joins, the partition may change hands."""
    return len(samples) >= _SETTLED and len({sample.instance for sample in samples[-_SETTLED:]}) == 1


async def _check_lags(run: Run) -> None:
    rows = [row for sample in await _samples(run) for row in sample.rows]
    negative = [row for row in rows if row.committed is not None and row.committed > row.high]
    run.notes.append(f"{len(rows)} rows of lag samples")
    if negative:
        run.problems.append(f"{len(negative)} lags were negative, such as {negative[0]}")
    if not rows:
        run.problems.append("no lag was sampled")


def _instance(run: Run, name: str) -> str:
    """What a role's process calls itself in its status."""
    return f"{socket.gethostname()}-{run.pabal.programs[name].pid}"


async def _until(run: Run, is_so: Callable[[Sequence[LagSample]], bool], what: str) -> Sequence[LagSample]:
    """The samples told so far, once that is so of them. Raises RunFailed."""
    samples: Sequence[LagSample] = []
    deadline = time.monotonic() + 3 * _TAKEN_OVER_WITHIN_SECONDS
    while not (samples and is_so(samples)):
        if time.monotonic() > deadline:
            await run.pabal.until(lambda: False, what, within_seconds=0.0)
        await run.while_loaded(0.2)
        samples = await _samples(run)
    return samples


async def _samples(run: Run) -> Sequence[LagSample]:
    """Every sample that monitors have told, in the order of the log."""
    broker = await open_broker(run.pabal.log_url, settings=Settings(), clock=SystemClock())
    found = []
    try:
        async for records in broker.reader().read(TopicPartition(STATUS_TOPIC, 0)):
            for record in records:
                try:
                    told = read_status(record)
                except DecodeError:
                    continue  # Another scenario's.
                if isinstance(told, LagSample):
                    found.append(told)
    finally:
        await broker.close()
    return found


SCENARIOS = (
    Scenario(
        name="monitor-killed",
        title="the active monitor of two SIGKILLed under load",
        do=partial(another_watches_on, is_frozen=False),
    ),
    Scenario(
        name="monitor-frozen",
        title="the active monitor of two SIGSTOPped past its session under load, then continued",
        do=partial(another_watches_on, is_frozen=True),
    ),
    Scenario(name="watched", title="200/s for 10 minutes, watched: no lag is ever negative", do=lags_under_load),
)
"""In the order of the table."""

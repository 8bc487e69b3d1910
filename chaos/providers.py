"""Who carries it is down for a minute, 2,000 waiting: attempts are not burnt, and what waited comes in steps."""

from collections import Counter
from collections.abc import Iterable
from functools import partial

from chaos.account import Allowed
from chaos.run import Run, Scenario

_BURNT_AT_MOST = 50
"""Deliveries that may take a second attempt, however many wait: the calls that found out, and the probes."""

_WINDOW_NS = 500_000_000
_FIRST_STEP_AT_MOST = 0.5
"""What arrives in the first half second back, as a share of the busiest: more would be the second peak."""

_ANSWERS_IN_SECONDS = 0.02
_BACK_WITHIN_SECONDS = 300.0


async def take_provider_away(run: Run, *, medium: str) -> Allowed:
    """Refused connections for a minute, then well again."""
    waiting = run.size.burst
    await run.pabal.start_all("worker-1")
    run.far_side.answer(**{medium: {"answer": "refuse"}})
    run.load.burst(waiting, to=run.mail if medium == "smtp" else run.webhook)
    await run.load.answered()
    await run.while_loaded(run.size.provider_outage_seconds)
    run.fault_over()
    run.far_side.answer(**{medium: {"latency_seconds": _ANSWERS_IN_SECONDS}})
    await run.until_arrived(waiting, within_seconds=_BACK_WITHIN_SECONDS)
    told = await run.told()
    burnt = sum(each.attempt > 1 for each in told.values())
    run.notes.append(f"{burnt} of {waiting} took a second attempt")
    if burnt > _BURNT_AT_MOST:
        run.problems.append(f"the outage cost {burnt} deliveries an attempt, at most {_BURNT_AT_MOST} may")
    first, busiest = steps(times[0] for times in run.far_side.arrived().values())
    run.notes.append(f"arrivals per half second: {first} at first, {busiest} at most")
    if is_second_peak(first, busiest):
        run.problems.append(f"the backlog came at once: {first} in the first half second, {busiest} in the busiest")
    return Allowed(duplicates=0)


def is_second_peak(first: int, busiest: int) -> bool:
    """Whether what arrived in the first half second back shows that the backlog came at once."""
    return first > busiest * _FIRST_STEP_AT_MOST


def steps(arrivals_ns: Iterable[int]) -> tuple[int, int]:
    """Arrivals in the first window and in the busiest."""
    times = sorted(arrivals_ns)
    windows = Counter((at - times[0]) // _WINDOW_NS for at in times)
    return windows[0], max(windows.values())


SCENARIOS = (
    Scenario(
        name="mail-server-down",
        title="mail server down for a minute with 2,000 waiting, then back",
        do=partial(take_provider_away, medium="smtp"),
    ),
    Scenario(
        name="webhook-host-down",
        title="webhook host down for a minute with 2,000 waiting, then back",
        do=partial(take_provider_away, medium="http"),
    ),
)
"""In the order of the table."""

"""Two tenants call one host, which refuses the URLs of one of them: the other is served all along."""

from datetime import UTC, datetime, timedelta

from chaos.account import Allowed
from chaos.load import Caller
from chaos.run import Run, Scenario

_REFUSALS = (
    {"path": "/busy", "status": 503, "retry_after_seconds": 3600},
    {"path": "/locked", "status": 401},
    {"path": "/moved", "status": 404},
)
"""Each would have shut the host if it counted against it."""

_OF_USE_LONGER_SECONDS = 45.0
"""How long the neighbour's deliveries live beyond the refusals: enough for those to be sent whose URL is asked again
within half a minute. What waits for an hour expires."""

_HELD_UP = frozenset({"parked", "deferred"})


async def refuse_a_neighbour(run: Run) -> Allowed:
    """Statuses for each of the neighbour's URLs while the other tenant's go on, then well again."""
    seconds = run.size.provider_outage_seconds
    await run.pabal.start_all("worker-1")
    run.far_side.answer_by_path(*_REFUSALS)
    neighbour = Caller(
        api_key=run.pabal.neighbour_key,
        expires_at=datetime.now(UTC) + timedelta(seconds=seconds + _OF_USE_LONGER_SECONDS),
    )

    def refused(number: int) -> dict[str, str]:
        path = str(_REFUSALS[number % len(_REFUSALS)]["path"])
        return {"channel": "webhook", "address": run.far_side.url + path}

    run.load.burst(run.size.burst, to=refused, as_=neighbour)
    await run.load.answered()
    theirs = set(run.load.accepted)
    async with run.steady_load():
        await run.while_loaded(seconds)
    own = run.load.accepted.keys() - theirs
    await run.pabal.until(
        lambda: own <= run.far_side.arrived().keys(), "the other tenant's deliveries", within_seconds=30.0
    )
    by_answer = run.far_side.by_answer()
    run.fault_over()
    run.far_side.answer()
    told = await run.told()
    held_up = [each for each in own if each in told and told[each].kinds & _HELD_UP]
    if held_up:
        run.problems.append(f"{len(held_up)} of {len(own)} deliveries of the other tenant were held up")
    arrived = run.far_side.arrived()
    took = sorted((arrived[each][0] - run.load.accepted[each].accepted_ns) / 1e6 for each in own)
    run.notes.append(
        f"the other tenant: {len(own)} sent, p99 {took[len(took) * 99 // 100]:.0f} ms, last {took[-1]:.0f} ms"
    )
    refusals = {answer: by_answer.get(f"http {answer}", 0) for answer in (503, 401, 404)}
    run.notes.append(f"refused calls of {len(theirs)} deliveries: {refusals}")
    if not all(refusals.values()):
        run.problems.append(f"not every URL refused, so nothing was proved: {refusals}")
    return Allowed(duplicates=0)


SCENARIOS = (
    Scenario(
        name="shared-host",
        title="one tenant's URLs on a shared host refused for a minute (503, 401, 404), another's served",
        do=refuse_a_neighbour,
    ),
)
"""In the order of the table."""

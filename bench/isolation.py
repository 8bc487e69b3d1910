"""What one customer's dead endpoint does to another's: 5,000 deliveries wait for it; the other's latency is read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from bench.figures import Measured, Sample, Target, Wanted, measured, percentile
from bench.lab import Lab, Program
from bench.load import Job, Result
from bench.systems import PabalUp

if TYPE_CHECKING:
    from bench.measures import Size

_WAITING = 5_000
_RATE = 200.0


def isolation(lab: Lab, size: "Size") -> Measured:
    """One process on the embedded log; the dead endpoint takes connections and requests, and never answers.

    In each round the steady rate to the endpoint that is well runs three times: alone; from the moment at which the
    deliveries to the dead one have been accepted (they are found out and parked meanwhile); and once more while they
    come back and are parked again.
    """
    samples = []
    for number in range(size.rounds):
        system = PabalUp(lab)
        programs = system.start_all()
        samples.append(_round(lab, system, programs, size, number))
        for program in programs:
            program.stop()
    wanted = [
        Wanted(key="alone_p99", title="another endpoint alone: p99", unit="ms"),
        Wanted(key="first_p99", title=f"from when {_WAITING:,} were accepted for a dead one: p99", unit="ms"),
        Wanted(key="waiting_p99", title=f"while {_WAITING:,} wait for a dead one: p99", unit="ms"),
        Wanted(key="ratio", title="waiting to alone", unit="×", target=Target(at_most=1.2)),
        Wanted(key="alone_p50", title="another endpoint alone: p50", unit="ms"),
        Wanted(key="waiting_p50", title="while they wait: p50", unit="ms"),
    ]
    return measured("isolation", "Embedded: another's latency beside a dead endpoint", samples, wanted)


def _round(lab: Lab, system: PabalUp, programs: Sequence[Program], size: "Size", number: int) -> Sample:
    far_side = lab.far_side
    far_side.forget()
    far_side.behave(path="/dead", answer="hang")
    ids = _load(lab, system, far_side.hook, size.warm_up).delivery_ids
    values: dict[str, float] = {}
    for phase in ("alone", "first", "waiting"):
        if phase == "first":
            _load(lab, system, far_side.elsewhere("/dead"), min(_WAITING, size.burst))
        result = _load(lab, system, far_side.hook, size.steady, rate=_RATE)
        ids += result.delivery_ids
        wanted = set(ids)
        lab.wait(
            lambda wanted=wanted: wanted <= far_side.arrivals().keys(),  # type: ignore[misc]
            "the other endpoint's deliveries",
            watch=programs,
        )
        values |= _latencies(lab, result, phase)
    far_side.behave()
    values["ratio"] = values["waiting_p99"] / values["alone_p99"]
    arrivals = far_side.arrivals()
    return Sample(
        system="pabal",
        round=number,
        values=values,
        accepted=len(ids),
        missing=sum(each not in arrivals for each in ids),
        duplicated=sum(len(arrivals[each]) - 1 for each in ids if each in arrivals),
    )


def _load(lab: Lab, system: PabalUp, hook: str, count: int, *, rate: float | None = None) -> Result:
    return lab.load(Job(port=system.port, hook=hook, count=count, rate=rate, api_key=system.api_key))


def _latencies(lab: Lab, result: Result, phase: str) -> dict[str, float]:
    arrivals = lab.far_side.arrivals()
    delivered = [(arrivals[each][0] - due) / 1e6 for each, due in zip(result.delivery_ids, result.due_ns, strict=True)]
    return {f"{phase}_p50": percentile(delivered, 0.5), f"{phase}_p99": percentile(delivered, 0.99)}

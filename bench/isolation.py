"""What one customer's bad endpoint does to another's: 5,000 deliveries wait for it; the other's latency is read."""

from collections.abc import Callable, Sequence

from bench.figures import Measured, Sample, Target, Wanted, measured, percentile
from bench.lab import Lab, Program
from bench.load import Job, Result
from bench.size import Size
from bench.systems import PabalUp

_WAITING = 5_000
_RATE = 200.0
_AT_MOST = Target(at_most=1.2)


def isolation(lab: Lab, size: Size) -> Measured:
    """One process on the embedded log. First the bad endpoint is another host, which takes connections and requests and
    never answers; then it is another tenant's URL on the same host, which answers 503.

    In each round the steady rate to the endpoint that is well runs three times: alone; from the moment at which the
    deliveries to the bad one have been accepted (they are found out and parked meanwhile); and once more while they
    come back and are parked again.
    """
    samples = []
    for number in range(size.rounds):
        dead = _round(lab, size, number, of_dead_host)
        shared = _round(lab, size, number, of_a_neighbour)
        values = dead.values | {f"shared_{key}": value for key, value in shared.values.items()}
        samples.append(
            Sample(
                system="pabal",
                round=number,
                values=values,
                accepted=dead.accepted + shared.accepted,
                missing=dead.missing + shared.missing,
                duplicated=dead.duplicated + shared.duplicated,
            )
        )
    wanted = [
        Wanted(key="alone_p99", title="another endpoint alone: p99", unit="ms"),
        Wanted(key="first_p99", title=f"from when {_WAITING:,} were accepted for a dead one: p99", unit="ms"),
        Wanted(key="waiting_p99", title=f"while {_WAITING:,} wait for a dead one: p99", unit="ms"),
        Wanted(key="ratio", title="waiting to alone", unit="×", target=_AT_MOST),
        Wanted(key="alone_p50", title="another endpoint alone: p50", unit="ms"),
        Wanted(key="waiting_p50", title="while they wait: p50", unit="ms"),
        Wanted(key="shared_alone_p99", title="a tenant alone on a host: p99", unit="ms"),
        Wanted(key="shared_first_p99", title=f"from when {_WAITING:,} of another there were accepted: p99", unit="ms"),
        Wanted(key="shared_waiting_p99", title=f"beside {_WAITING:,} of another there, refused: p99", unit="ms"),
        Wanted(key="shared_ratio", title="beside them to alone", unit="×", target=_AT_MOST),
    ]
    return measured(
        "isolation", "Embedded: another's latency beside a dead endpoint, and on a shared host", samples, wanted
    )


Burden = Callable[[Lab, PabalUp, int], None]
"""Has the far side misbehave and gives the system so many deliveries for it, accepted when it returns."""


def of_dead_host(lab: Lab, system: PabalUp, count: int) -> None:
    """Another host that never answers."""
    lab.far_side.behave(path="/dead", answer="hang")
    _load(lab, system, lab.far_side.elsewhere("/dead"), count)


def of_a_neighbour(lab: Lab, system: PabalUp, count: int) -> None:
    """Another tenant's URL on the same host, which refuses."""
    lab.far_side.behave(path="/busy", status=503)
    _load(lab, system, f"{lab.far_side.url}/busy", count, api_key=system.neighbour_key)


def _round(lab: Lab, size: Size, number: int, burden: Burden) -> Sample:
    system = PabalUp(lab)
    programs = system.start_all()
    try:
        return _measure(lab, system, programs, size, number, burden)
    finally:
        lab.far_side.behave()
        for program in programs:
            program.stop()


def _measure(lab: Lab, system: PabalUp, programs: Sequence[Program], size: Size, number: int, burden: Burden) -> Sample:
    far_side = lab.far_side
    far_side.forget()
    ids = _load(lab, system, far_side.hook, size.warm_up).delivery_ids
    values: dict[str, float] = {}
    for phase in ("alone", "first", "waiting"):
        if phase == "first":
            burden(lab, system, min(_WAITING, size.burst))
        result = _load(lab, system, far_side.hook, size.steady, rate=_RATE)
        ids += result.delivery_ids
        wanted = set(ids)
        lab.wait(
            lambda wanted=wanted: wanted <= far_side.arrivals().keys(),  # type: ignore[misc]
            "the other endpoint's deliveries",
            watch=programs,
        )
        values |= _latencies(lab, result, phase)
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


def _load(
    lab: Lab, system: PabalUp, hook: str, count: int, *, rate: float | None = None, api_key: str | None = None
) -> Result:
    job = Job(port=system.port, hook=hook, count=count, rate=rate, api_key=api_key or system.api_key)
    return lab.load(job)


def _latencies(lab: Lab, result: Result, phase: str) -> dict[str, float]:
    arrivals = lab.far_side.arrivals()
    delivered = [(arrivals[each][0] - due) / 1e6 for each, due in zip(result.delivery_ids, result.due_ns, strict=True)]
    return {f"{phase}_p50": percentile(delivered, 0.5), f"{phase}_p99": percentile(delivered, 0.99)}

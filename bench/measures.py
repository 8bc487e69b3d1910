"""One function per measurement. Each alternates sketch and Pabal round by round on the same machine and log."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from bench.cpu import Meter, Usage, memory_mb
from bench.figures import Measured, Sample, Target, Wanted, measured, percentile
from bench.isolation import isolation
from bench.lab import Lab, Program
from bench.load import Job, Result
from bench.size import Size
from bench.stalls import stalls
from bench.systems import EmbeddedSketch, MainJob, Pabal, PabalUp, System, embedded_apart, kafka_systems
from bench.watching import metering, watching_embedded, watching_kafka

_STALLED_SECONDS = 45.0
_LOOK_EVERY_SECONDS = 0.05


def accept_and_work(lab: Lab, size: Size) -> Measured:
    """Accept alone, then the worker alone on what has accumulated."""
    samples = []
    systems = kafka_systems(lab)
    for number in range(size.rounds):
        for system in in_turn(systems, number):
            lab.far_side.forget()
            api = system.start_api()
            ids = _load(lab, system, size.warm_up).delivery_ids
            meter = _meter(lab, api)
            result = _load(lab, system, size.burst)
            used = meter.usage()
            _stop(api)
            ids += result.delivery_ids
            values = {
                "accept_cpu": used.per_thousand(size.burst, *_names(api)),
                "accept_broker_cpu": used.per_thousand(size.burst, "kafka"),
                "accept_rate": size.burst / _seconds(result.started_ns, result.ended_ns),
            }
            worker = system.start_worker()
            values |= _drain(lab, worker, size, total=len(ids), skip=len(ids) // 5)
            _stop(worker)
            samples.append(_sample(lab, system, number, values, ids))
    wanted = [
        Wanted(key="accept_cpu", title="accept: CPU of the API", unit="CPU-s/1,000", target=Target(ratio_at_most=1.5)),
        Wanted(key="accept_broker_cpu", title="accept: CPU of the broker", unit="CPU-s/1,000"),
        Wanted(key="accept_rate", title="accept: accepted", unit="/s"),
        Wanted(key="work_cpu", title="work: CPU of the worker", unit="CPU-s/1,000", target=Target(ratio_at_most=1.5)),
        Wanted(key="work_broker_cpu", title="work: CPU of the broker", unit="CPU-s/1,000"),
        Wanted(key="work_rate", title="work: delivered", unit="/s"),
    ]
    return measured("parts", "Kafka: accept alone, then one worker alone on the backlog", samples, wanted)


def whole(lab: Lab, size: Size) -> Measured:
    """Everything on Kafka at once: a burst, then a steady rate."""
    samples = []
    systems = kafka_systems(lab)
    for number in range(size.rounds):
        for system in in_turn(systems, number):
            programs = system.start_all()
            samples.append(_burst_and_steady(lab, system, programs, size, number))
            _stop(programs)
    wanted = [
        Wanted(
            key="burst_cpu",
            title="burst: CPU of all, broker included",
            unit="CPU-s/1,000",
            target=Target(ratio_at_most=1.7),
        ),
        Wanted(key="burst_broker_cpu", title="burst: of which the broker", unit="CPU-s/1,000"),
        Wanted(key="burst_rate", title="burst: delivered", unit="/s", target=Target(at_least=2000)),
        *_steady_figures(),
        Wanted(key="steady_cpu", title="steady: CPU of all, broker included", unit="CPU-s/1,000"),
    ]
    return measured("whole", "Kafka: accepted and delivered, all roles", samples, wanted)


def recorded(lab: Lab, size: Size) -> Measured:
    """Everything on Kafka with the recorder, ledger and store in SQLite."""
    title = "Kafka: accepted, delivered and recorded, SQLite"
    return _recorded(lab, size, "recorded", title, kafka_systems(lab), ratio_at_most=2.2)


def recorded_postgres(lab: Lab, size: Size) -> Measured:
    """Everything on Kafka with the recorder, ledger and store in PostgreSQL."""
    title = "Kafka: accepted, delivered and recorded, PostgreSQL"
    systems = kafka_systems(lab, database=lab.new_database())
    return _recorded(lab, size, "recorded-postgres", title, systems, ratio_at_most=3.0)


def _recorded(
    lab: Lab, size: Size, name: str, title: str, systems: tuple[System, Pabal], *, ratio_at_most: float
) -> Measured:
    samples = []
    known = 0
    for number in range(size.rounds):
        for system in in_turn(systems, number):
            programs = [*system.start_all()]
            if isinstance(system, Pabal):
                programs += system.start_recorder()
            sample = _burst_and_steady(lab, system, programs, size, number, known=known)
            if isinstance(system, Pabal):
                known += sample.accepted
            samples.append(sample)
            _stop(programs)
    cost = Target(ratio_at_most=ratio_at_most)
    wanted = [
        Wanted(key="burst_cpu", title="burst: CPU of all, servers included", unit="CPU-s/1,000", target=cost),
        Wanted(key="burst_broker_cpu", title="burst: of which the broker", unit="CPU-s/1,000"),
        Wanted(key="burst_database_cpu", title="burst: of which the database", unit="CPU-s/1,000"),
        Wanted(key="burst_recorder_cpu", title="burst: of which the recorder", unit="CPU-s/1,000"),
        Wanted(key="burst_rate", title="burst: delivered", unit="/s"),
        *_steady_figures(),
        Wanted(key="steady_cpu", title="steady: CPU of all, servers included", unit="CPU-s/1,000"),
    ]
    return measured(name, title, samples, wanted)


def provider(lab: Lab, size: Size) -> Measured:
    """One worker process, one URL, a provider that takes 20 ms."""
    samples = []
    systems = kafka_systems(lab)
    for number in range(size.rounds):
        for system in in_turn(systems, number):
            lab.far_side.forget()
            api = system.start_api()
            ids = _load(lab, system, size.provider).delivery_ids
            _stop(api)
            lab.far_side.behave(latency_seconds=0.02)
            worker = system.start_worker()
            values = _drain(lab, worker, size, total=len(ids), skip=len(ids) // 5)
            _stop(worker)
            lab.far_side.behave()
            samples.append(_sample(lab, system, number, values, ids))
    wanted = [
        Wanted(key="work_rate", title="delivered", unit="/s", target=Target(at_least=2000)),
        Wanted(key="work_cpu", title="CPU of the worker", unit="CPU-s/1,000"),
    ]
    return measured("provider", "Kafka: one worker, one URL, a provider that takes 20 ms", samples, wanted)


def embedded(lab: Lab, size: Size) -> Measured:
    """`pabal up` on the embedded log: burst, steady, idle."""
    title = "Embedded: accepted, delivered and recorded in one process"
    return _in_one_process(lab, size, "embedded", title, PabalUp(lab))


def main_job(lab: Lab, size: Size) -> Measured:
    """The same without the recorder: what the sketch does as well."""
    return _in_one_process(
        lab, size, "main-job", "Embedded: accepted and delivered in one process, no recorder", MainJob(lab)
    )


def _in_one_process(lab: Lab, size: Size, name: str, title: str, pabal: System) -> Measured:
    samples = []
    systems: Sequence[System] = (EmbeddedSketch(lab), pabal)
    for number in range(size.rounds):
        for system in in_turn(systems, number):
            programs = system.start_all()
            sample = _burst_and_steady(lab, system, programs, size, number)
            _stop(programs)
            programs = system.start_all()
            samples.append(msgspec.structs.replace(sample, values=sample.values | _idle(programs, size)))
            _stop(programs)
    wanted = [
        Wanted(key="burst_cpu", title="burst: CPU", unit="CPU-s/1,000", target=Target(ratio_at_most=1.5)),
        Wanted(key="burst_rate", title="burst: delivered", unit="/s", target=Target(at_least=1400)),
        *_steady_figures(),
        Wanted(key="steady_cpu", title="steady: CPU", unit="CPU-s/1,000"),
        Wanted(key="busy_mb", title="memory after the burst", unit="MB"),
        Wanted(key="idle_mb", title="idle: memory", unit="MB", target=Target(at_most=110)),
        Wanted(key="idle_percent", title="idle: CPU", unit="% of a core", target=Target(at_most=1.5)),
    ]
    return measured(name, title, samples, wanted)


def waiting_kafka(lab: Lab, size: Size) -> Measured:
    """What a million waiting deliveries do to the cost, on Kafka."""
    return _waiting(lab, size, "waiting-kafka", "Kafka: cost with many waiting", lambda: kafka_systems(lab)[1])


def waiting_embedded(lab: Lab, size: Size) -> Measured:
    """What a million waiting deliveries do to the cost, on the embedded log."""
    return _waiting(lab, size, "waiting-embedded", "Embedded: cost with many waiting", lambda: embedded_apart(lab))


MEASURES: Mapping[str, Callable[[Lab, Size], Measured]] = {
    "parts": accept_and_work,
    "whole": whole,
    "recorded": recorded,
    "recorded-postgres": recorded_postgres,
    "provider": provider,
    "main-job": main_job,
    "embedded": embedded,
    "isolation": isolation,
    "stalls": stalls,
    "metering": metering,
    "watching": watching_embedded,
    "watching-kafka": watching_kafka,
    "waiting-kafka": waiting_kafka,
    "waiting-embedded": waiting_embedded,
}


def in_turn(systems: Sequence[System], number: int) -> Sequence[System]:
    """Each goes first every other round."""
    return systems if number % 2 == 0 else systems[::-1]


def _waiting(lab: Lab, size: Size, name: str, title: str, make: Callable[[], Pabal]) -> Measured:
    """Accept and deliver with few and with many waiting."""
    system = make()
    few_waiting, many_waiting = size.waiting
    # The first pass is thrown away: it warms the broker and the disk up, which would flatter the comparison.
    cold = _with_waiting(lab, system, size, waiting=few_waiting, slices=1, number=0)
    few = _with_waiting(lab, system, size, waiting=few_waiting, slices=1, number=1)
    many = _with_waiting(lab, system, size, waiting=many_waiting, slices=size.slices, number=2)
    first, costs = few.values["work_0"], [many.values[f"work_{number}"] for number in range(size.slices)]
    compared = Sample(
        system="pabal",
        round=3,
        values={
            "accept_few": few.values["accept"],
            "accept_many": many.values["accept"],
            "accept_ratio": many.values["accept"] / few.values["accept"],
            "work_few": first,
            "work_many": costs[0],
            "work_ratio": costs[0] / first,
            "work_spread": max(costs) / min(costs),
        },
        accepted=0,
        missing=0,
        duplicated=0,
    )
    part = f"the first of {size.slices} parts of {many_waiting:,}"
    wanted = [
        Wanted(key="accept_few", title=f"accept, {few_waiting:,} waiting: CPU of all", unit="CPU-s/1,000"),
        Wanted(key="accept_many", title=f"accept, {many_waiting:,} waiting: CPU of all", unit="CPU-s/1,000"),
        Wanted(key="accept_ratio", title="accept: many to few", unit="×", target=Target(at_most=1.2)),
        Wanted(key="work_few", title=f"deliver, {few_waiting:,} waiting: CPU of all", unit="CPU-s/1,000"),
        Wanted(key="work_many", title=f"deliver, {part}: CPU of all", unit="CPU-s/1,000"),
        Wanted(key="work_ratio", title="deliver: many to few", unit="×", target=Target(at_most=1.2)),
        Wanted(key="work_spread", title="deliver: the dearest part to the cheapest", unit="×"),
    ]
    return measured(name, title, [cold, few, many, compared], wanted)


def _with_waiting(lab: Lab, system: Pabal, size: Size, *, waiting: int, slices: int, number: int) -> Sample:
    """Let `waiting` deliveries wait, accept some more, then deliver all of them and look at the cost by slices."""
    lab.far_side.forget()
    system.fill(waiting, hook=lab.far_side.hook)
    api = system.start_api()
    ids = _load(lab, system, size.warm_up).delivery_ids
    accepts = []
    for _ in range(size.rounds):
        meter = _meter(lab, api)
        ids += _load(lab, system, size.burst // 3).delivery_ids
        accepts.append(meter.usage().per_thousand(size.burst // 3))
    _stop(api)
    total = waiting + len(ids)
    worker = system.start_worker()
    costs = _drain_slices(lab, worker, size, total=total, skip=min(total // 5, 20_000), slices=slices)
    _stop(worker)
    sample = _sample(lab, system, number, {"accept": statistics.median(accepts)}, ids)
    arrived = lab.far_side.distinct()
    return msgspec.structs.replace(
        sample,
        values=sample.values | {f"work_{slice_}": cost for slice_, cost in enumerate(costs)},
        accepted=total,
        missing=total - arrived,  # those that were filled in are known by their number alone
    )


def _burst_and_steady(
    lab: Lab, system: System, programs: Sequence[Program], size: Size, number: int, *, known: int | None = None
) -> Sample:
    """A burst and a steady rate on running programs. `known`: what Pabal's store knows already (None: no recorder)."""
    far_side = lab.far_side
    far_side.forget()
    ids = _load(lab, system, size.warm_up).delivery_ids
    _await_arrivals(lab, len(ids), programs)

    meter = _meter(lab, programs)
    result = _load(lab, system, size.burst)
    ids += result.delivery_ids
    _await_arrivals(lab, len(ids), programs)
    if known is not None and isinstance(system, Pabal):
        wanted, pabal = known + len(ids), system
        lab.wait(lambda: pabal.recorded() >= wanted, "everything to be recorded", watch=programs)
    time.sleep(size.settle_seconds)
    used = meter.usage()
    arrivals = far_side.arrivals()
    last = max(times[-1] for times in arrivals.values())
    values = {
        "burst_cpu": used.per_thousand(size.burst),
        "burst_broker_cpu": used.per_thousand(size.burst, "kafka"),
        "burst_database_cpu": used.per_thousand(size.burst, "postgres"),
        "burst_recorder_cpu": used.per_thousand(size.burst, "pabal-recorder"),
        "burst_rate": size.burst / _seconds(result.started_ns, last),
        "busy_mb": sum(memory_mb(program.pid) for program in programs),
    }

    meter = _meter(lab, programs)
    result = _load(lab, system, size.steady, rate=size.rate)
    ids += result.delivery_ids
    _await_arrivals(lab, len(ids), programs)
    values |= _steady_values(result, lab.far_side.arrivals(), meter.usage(), size)
    return _sample(lab, system, number, values, ids)


def _steady_values(result: Result, arrivals: Mapping[str, Sequence[int]], used: Usage, size: Size) -> dict[str, float]:
    """Latencies from when a request was due: to its answer, and to the delivery's first arrival."""
    accepted = [(done - due) / 1e6 for done, due in zip(result.answered_ns, result.due_ns, strict=True)]
    delivered = [
        (arrivals[each][0] - due) / 1e6
        for each, due in zip(result.delivery_ids, result.due_ns, strict=True)
        if each in arrivals
    ]
    return {
        "steady_accept_p50": percentile(accepted, 0.5),
        "steady_accept_p99": percentile(accepted, 0.99),
        "steady_p50": percentile(delivered, 0.5),
        "steady_p99": percentile(delivered, 0.99),
        "steady_cpu": used.per_thousand(size.steady),
    }


def _steady_figures() -> list[Wanted]:
    return [
        Wanted(key="steady_p50", title="200/s: end to end p50", unit="ms", target=Target(at_most=6)),
        Wanted(key="steady_p99", title="200/s: end to end p99", unit="ms", target=Target(at_most=30)),
        Wanted(key="steady_accept_p50", title="200/s: accept p50", unit="ms"),
        Wanted(key="steady_accept_p99", title="200/s: accept p99", unit="ms"),
    ]


def _idle(programs: Sequence[Program], size: Size) -> dict[str, float]:
    """What a fresh start uses when nothing happens."""
    time.sleep(size.idle_seconds / 5)
    meter = Meter({program.name: [program.pid] for program in programs})
    time.sleep(size.idle_seconds)
    used = meter.usage()
    return {
        "idle_mb": sum(memory_mb(program.pid) for program in programs),
        "idle_percent": 100 * used.total_cpu_seconds / used.wall_seconds,
    }


def _drain(lab: Lab, worker: Sequence[Program], size: Size, *, total: int, skip: int) -> dict[str, float]:
    """Cost and speed of delivering a backlog, without the first `skip` (the process's start)."""
    _await_arrivals(lab, skip, worker)
    meter = _meter(lab, worker)
    already, started = lab.far_side.distinct(), time.time_ns()
    _await_arrivals(lab, total, worker)
    time.sleep(size.settle_seconds)
    used = meter.usage()
    last = max(times[0] for times in lab.far_side.arrivals().values())
    measured_ones = max(1, total - already)  # a quick run may be over between two looks
    return {
        "work_cpu": used.per_thousand(measured_ones, *_names(worker)),
        "work_broker_cpu": used.per_thousand(measured_ones, "kafka"),
        "work_rate": measured_ones / max(_seconds(started, last), 1e-3),
    }


def _drain_slices(
    lab: Lab, worker: Sequence[Program], size: Size, *, total: int, skip: int, slices: int
) -> list[float]:
    """CPU-seconds per 1,000 of all programs, slice by slice of a backlog."""
    marks = [skip + (total - skip) * number // slices for number in range(slices + 1)]
    readings: list[tuple[int, float]] = []
    _await_arrivals(lab, skip, worker)
    meter = _meter(lab, worker)
    for mark in marks:
        _await_arrivals(lab, mark, worker)
        if mark == total:
            time.sleep(size.settle_seconds)
        readings.append((lab.far_side.distinct(), meter.usage().total_cpu_seconds))
    return [
        (cpu - cpu_before) / max(1, count - before) * 1000 for (before, cpu_before), (count, cpu) in pairwise(readings)
    ]


def _load(lab: Lab, system: System, count: int, *, rate: float | None = None) -> Result:
    hook = lab.far_side.hook
    return lab.load(Job(port=system.port, hook=hook, count=count, rate=rate, api_key=system.api_key))


def _meter(lab: Lab, programs: Sequence[Program]) -> Meter:
    """Of the programs, and of the broker and the database where there are any."""
    return Meter({**{program.name: [program.pid] for program in programs}, **lab.server_processes()})


def _names(programs: Sequence[Program]) -> Sequence[str]:
    return [program.name for program in programs]


def _await_arrivals(lab: Lab, count: int, watch: Sequence[Program]) -> None:
    """Until `count` different deliveries have arrived, or none has for a long while: then some are missing."""
    most, since = -1, time.monotonic()
    while (arrived := lab.far_side.distinct()) < count:
        for program in watch:
            program.check()
        if arrived > most:
            most, since = arrived, time.monotonic()
        if time.monotonic() > since + _STALLED_SECONDS:
            return
        time.sleep(_LOOK_EVERY_SECONDS)


def _sample(lab: Lab, system: System, number: int, values: dict[str, float], ids: Sequence[str]) -> Sample:
    """Compare what was accepted with what arrived, id by id."""
    arrivals = lab.far_side.arrivals()
    return Sample(
        system=system.name,
        round=number,
        values=values,
        accepted=len(ids),
        missing=len(set(ids) - arrivals.keys()) + len(ids) - len(set(ids)),
        duplicated=sum(len(times) > 1 for times in arrivals.values()),
    )


def _stop(programs: Sequence[Program]) -> None:
    for program in programs:
        program.stop()


def _seconds(start_ns: int, end_ns: int) -> float:
    return (end_ns - start_ns) / 1e9

"""What it costs to be seen: counting, sampling the log, and asking `pabal lag`."""

import asyncio
import subprocess
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families as read_text

from bench.cpu import Meter as CpuMeter
from bench.figures import Measured, Sample, Target, Wanted, measured
from bench.lab import ROOT, Lab, Program
from bench.load import Job
from bench.size import Size
from bench.systems import Pabal, PabalUp
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.groups import groups_for
from pabal.monitor.sampling import Sampler
from pabal.telemetry.meter import Meter

_UPDATES: Final = 200_000
_SAMPLES: Final = 200
_LOOKS: Final = 5
_CHANNELS: Final = ("email", "webhook")
_CONSUMER_GROUPS: Final = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def metering(lab: Lab, size: Size) -> Measured:
    """How often a delivery is counted, what one update costs, and the share of both in the CPU of a delivery."""
    samples = []
    for number in range(size.rounds):
        system = PabalUp(lab)
        [program] = system.start_all()
        try:
            samples.append(_metering_round(lab, size, number, system, program))
        finally:
            program.stop()
    wanted = [
        Wanted(key="updates", title="updates of the meter per delivery", unit=""),
        Wanted(key="update_ns", title="one update", unit="ns"),
        Wanted(key="delivery_us", title="CPU of a delivery: accept, send, record", unit="µs"),
        Wanted(key="share", title="metering in a delivery", unit="%", target=Target(at_most=2.0)),
    ]
    return measured("metering", "Embedded: what counting costs a delivery", samples, wanted)


def _metering_round(lab: Lab, size: Size, number: int, system: PabalUp, program: Program) -> Sample:
    lab.far_side.forget()
    ids = _deliver(lab, system, size.warm_up, watch=program)
    counted, cpu = _counted(system.port), CpuMeter({"pabal-up": [program.pid]})
    ids += _deliver(lab, system, size.burst, watch=program, before=len(ids))
    time.sleep(size.settle_seconds)
    delivery_us = 1e6 * cpu.usage().total_cpu_seconds / size.burst
    updates, update_ns = (_counted(system.port) - counted) / size.burst, _update_ns()
    arrivals = lab.far_side.arrivals()
    return Sample(
        system="pabal",
        round=number,
        values={
            "updates": updates,
            "update_ns": update_ns,
            "delivery_us": delivery_us,
            "share": 100 * updates * update_ns / 1000 / delivery_us,
        },
        accepted=len(ids),
        missing=len(set(ids) - arrivals.keys()),
        duplicated=sum(len(times) > 1 for times in arrivals.values()),
    )


def _deliver(lab: Lab, system: PabalUp, count: int, *, watch: Program, before: int = 0) -> list[str]:
    hook = lab.far_side.hook
    result = lab.load(Job(port=system.port, hook=hook, count=count, api_key=system.api_key))
    lab.wait(lambda: lab.far_side.distinct() >= before + count, "every delivery to arrive", watch=[watch])
    return result.delivery_ids


def _counted(port: int) -> float:
    """How often the meter of the process was updated: each update adds 1 to a counter or to a histogram's count."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = read_text(answer.read().decode())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith("pabal_") and sample.name.endswith(("_total", "_count"))
    )


def _update_ns() -> float:
    """Nanoseconds of CPU of one update as the code makes it: find the series by name and labels, then add to it."""
    meter = Meter()
    began = time.process_time_ns()
    for _ in range(_UPDATES // 2):
        meter.counter("pabal_ended_total", "webhook", "standard", "sent").add()
        meter.histogram("pabal_time_to_send_seconds", "webhook", "standard").observe(0.02)
    return (time.process_time_ns() - began) / _UPDATES


def watching_embedded(lab: Lab, size: Size) -> Measured:
    """One sample of every group on the embedded log of a running `pabal up`, and `pabal lag` beside it."""
    samples = []
    for number in range(size.rounds):
        system = PabalUp(lab)
        [program] = system.start_all()
        try:
            lab.wait(partial(_is_watched, system.port), "the monitor's first sample", watch=[program])
            values = {
                "sample_ms": asyncio.run(_sample_ms(Path(system.log_url.removeprefix("sqlite:")))),
                "lag_seconds": _seconds_of([*system.command("lag")]),
            }
        finally:
            program.stop()
        samples.append(_only(values, "pabal", number))
        samples.append(_only({"lag_seconds": _seconds_of([*system.command("--version")])}, "sketch", number))
    wanted = [
        Wanted(key="sample_ms", title="one sample of all groups: CPU", unit="ms", target=Target(at_most=2.0)),
        Wanted(
            key="lag_seconds", title="`pabal lag` (beside it: `pabal --version`)", unit="s", target=Target(at_most=0.5)
        ),
    ]
    return measured("watching", "Embedded: what it costs to look at the groups", samples, wanted)


def watching_kafka(lab: Lab, size: Size) -> Measured:
    """`pabal lag` on Kafka, beside Kafka's own `kafka-consumer-groups --describe --all-groups`."""
    samples = []
    system = Pabal(lab, log_url=f"kafka://{lab.kafka.bootstrap}", data=lab.new_directory("pabal"))
    programs = [*system.start_all(), *system.start_recorder()]
    lab.wait(lambda: bool(lab.kafka.run_tool(_CONSUMER_GROUPS, "--list").strip()), "a group", watch=programs)
    for number in range(size.rounds):
        samples.append(_only({"lag_seconds": _seconds_of([*system.command("lag")])}, "pabal", number))
        described = _median_seconds(lambda: lab.kafka.run_tool(_CONSUMER_GROUPS, "--describe", "--all-groups"))
        samples.append(_only({"lag_seconds": described}, "sketch", number))
    for program in programs:
        program.stop()
    title = "`pabal lag` (beside it: `kafka-consumer-groups --describe --all-groups`)"
    wanted = [Wanted(key="lag_seconds", title=title, unit="s", target=Target(at_most=2.0))]
    return measured("watching-kafka", "Kafka: what it costs to look at the groups", samples, wanted)


def _is_watched(port: int) -> bool:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return b"kafka_consumergroup_lag{" in answer.read()


async def _sample_ms(path: Path) -> float:
    """Milliseconds of CPU, of all threads, that one sample takes."""
    broker = await SqliteBroker.open(path, clock=SystemClock())
    sampler = Sampler(admin=broker.admin(), reader=broker.reader(), groups=groups_for(_CHANNELS), clock=SystemClock())
    await sampler.take()
    began = time.process_time()
    for _ in range(_SAMPLES):
        await sampler.take()
    used = time.process_time() - began
    await broker.close()
    return 1000 * used / _SAMPLES


def _seconds_of(command: Sequence[str]) -> float:
    """Seconds on the wall that a command takes, the median of a few."""
    return _median_seconds(lambda: subprocess.run(command, cwd=ROOT, check=True, capture_output=True))


def _median_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(_LOOKS):
        began = time.monotonic()
        run()
        times.append(time.monotonic() - began)
    return median(times)


def _only(values: dict[str, float], system: str, number: int) -> Sample:
    return Sample(system=system, round=number, values=values, accepted=0, missing=0, duplicated=0)

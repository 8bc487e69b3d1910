"""`python -m bench [NAME ...]`: measure, print the table, write bench/out/*.json (--quick: bench/out/quick/)."""

import contextlib
import fcntl
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click
import confluent_kafka
import msgspec
import psutil
from rich.console import Console
from rich.table import Table
from servers.kafka import KAFKA_VERSION, missing

from bench.figures import Figure, Measured, number
from bench.lab import ROOT, BenchFailed, Lab
from bench.measures import MEASURES
from bench.size import QUICK, Size

_OUT = ROOT / "bench" / "out"
_ON_KAFKA = {"parts", "whole", "recorded", "recorded-postgres", "provider", "waiting-kafka", "watching-kafka"}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="Small counts: checks that everything runs and nothing is lost.")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds of sketch and Pabal in turn. Default: 3.")
@click.option("--keep", is_flag=True, help="Keep the programs' logs, and say where.")
def main(names: tuple[str, ...], quick: bool, rounds: int | None, keep: bool) -> None:
    """Measure the figures of docs/benchmarks.md, each by its NAME; without one, all of them.

    \b
    parts              Kafka: accepting alone, a worker alone
    whole              Kafka: accepted and delivered
    recorded           the same with the recorder
    recorded-postgres  the same with ledger and store in PostgreSQL
    provider           a provider that takes 20 ms
    main-job           API, worker and delay line in one process on the embedded log
    embedded           the same with the recorder: pabal up
    isolation          another's latency beside 5,000 deliveries for a dead endpoint, or for a shared host's bad URL
    stalls             the longest stall of the loop under each attack (attack/)
    metering           what counting costs a delivery
    watching, watching-kafka  a sample of all groups, and `pabal lag`
    waiting-kafka, waiting-embedded  what a million waiting deliveries cost
    """
    unknown = set(names) - MEASURES.keys()
    if unknown:
        raise click.UsageError(f"no measurement {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    chosen = names or tuple(MEASURES)
    without_kafka = missing()
    console = Console(width=None if sys.stdout.isatty() else 140)
    size = QUICK if quick else Size()
    if rounds is not None:
        size = msgspec.structs.replace(size, rounds=rounds)
    directory = Path(tempfile.mkdtemp(prefix="pabal-bench-"))
    lost = 0
    try:
        with _alone(), Lab(directory, warm_up_records=0 if quick else 60_000) as lab:
            for name in chosen:
                if name in _ON_KAFKA and without_kafka:
                    console.print(f"{name}: left out, {without_kafka}")
                    continue
                started = time.monotonic()
                result = MEASURES[name](lab, size)
                _write(result, size, folder=_OUT / "quick" if quick else _OUT)
                _print(console, result, seconds=time.monotonic() - started, with_targets=not quick)
                lost += result.missing + result.duplicated
    except BenchFailed as error:
        raise click.ClickException(f"{name}: {error}") from None
    finally:
        if keep:
            console.print(f"logs and data are in {directory}")
        else:
            shutil.rmtree(directory)
    if lost:
        raise click.ClickException(f"{lost} deliveries were missing or duplicated")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One measurement at a time on this machine: two would spoil each other's figures. Ends with the process."""
    with (Path(tempfile.gettempdir()) / "pabal-bench.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise click.ClickException(
                "another measurement is running on this machine; they would spoil each other"
            ) from None
        yield


def _print(console: Console, result: Measured, *, seconds: float, with_targets: bool) -> None:
    lost = f"missing {result.missing}, duplicated {result.duplicated}"
    table = Table(title=f"{result.title}   ({lost}; {seconds:.0f} s)", title_justify="left", title_style="bold")
    table.add_column("")
    for column in ("Pabal", "sketch", "ratio"):
        table.add_column(column, justify="right")
    table.add_column("unit")
    table.add_column("target")
    table.add_column("")
    for figure in result.figures:
        row = _row(figure)
        if with_targets:
            table.add_row(*row, style="red" if figure.verdict == "missed" else "")
        else:
            table.add_row(*row[:-2])
    console.print(table)


def _row(figure: Figure) -> tuple[str, ...]:
    numbers = (figure.pabal, figure.sketch, figure.ratio)
    return (figure.title, *(number(each) for each in numbers), figure.unit, figure.target, figure.verdict)


def _write(result: Measured, size: Size, *, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpus": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "load_average": os.getloadavg()[0],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "kafka": KAFKA_VERSION,
    }
    document = {"machine": machine, "size": size, "result": result}
    encoded = msgspec.json.format(msgspec.json.encode(document), indent=2)
    (folder / f"{result.name}.json").write_bytes(encoded + b"\n")


if __name__ == "__main__":
    main()

"""bench/out/chaos.jsonl: a line per failure and log, the last run of each."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from bench.lab import ROOT

from chaos.account import Row

OUT = ROOT / "bench" / "out" / "chaos.jsonl"
QUICK_OUT = ROOT / "bench" / "out" / "quick" / "chaos.jsonl"


def record(rows: Iterable[Row], file: Path) -> None:
    """Write rows into the file, each in the place of the former one of the same failure and log."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kept = {(row.failure, row.log): row for row in (*read_rows(file), *rows)}
    file.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in kept.values()))


def read_rows(file: Path) -> list[Row]:
    """The rows of a file; none if there is none."""
    if not file.exists():
        return []
    return [msgspec.json.decode(line, type=Row) for line in file.read_bytes().splitlines()]

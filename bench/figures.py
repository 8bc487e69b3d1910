"""What a measurement yields: samples per round and system, and figures with their targets."""

import statistics
from collections.abc import Sequence
from typing import Literal

import msgspec


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One system in one round. `missing`: accepted and never arrived; `duplicated`: arrived more than once."""

    system: str
    round: int
    values: dict[str, float]
    accepted: int
    missing: int
    duplicated: int


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure has to keep; several conditions hold together."""

    ratio_at_most: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    def __str__(self) -> str:
        parts = [
            f"≤ {self.ratio_at_most:g}× sketch" if self.ratio_at_most is not None else "",
            f"≤ {self.at_most:g}" if self.at_most is not None else "",
            f"≥ {self.at_least:,g}" if self.at_least is not None else "",
        ]
        return ", ".join(part for part in parts if part)


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A figure to draw from samples: the median over the rounds of the value `key`."""

    key: str
    title: str
    unit: str
    target: Target = Target()


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table."""

    title: str
    unit: str
    pabal: float | None
    sketch: float | None
    ratio: float | None
    target: str
    verdict: Literal["met", "missed", ""]


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    name: str
    title: str
    figures: Sequence[Figure]
    missing: int
    duplicated: int
    samples: Sequence[Sample]


def measured(name: str, title: str, samples: Sequence[Sample], wanted: Sequence[Wanted]) -> Measured:
    """Draw the figures. The ratio is the median of the rounds' ratios: the machine is the same within a round."""
    return Measured(
        name=name,
        title=title,
        figures=[_figure(each, samples) for each in wanted],
        missing=sum(sample.missing for sample in samples),
        duplicated=sum(sample.duplicated for sample in samples),
        samples=samples,
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(1, -(-len(ordered) * round(share * 1000) // 1000))
    return ordered[rank - 1]


def number(value: float | None) -> str:
    """Three digits, or whole thousands with a comma."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _figure(wanted: Wanted, samples: Sequence[Sample]) -> Figure:
    pabal, sketch = (_by_round(samples, system, wanted.key) for system in ("pabal", "sketch"))
    ratios = [pabal[round_] / sketch[round_] for round_ in pabal if sketch.get(round_)]
    ratio = statistics.median(ratios) if ratios else None
    value = statistics.median(pabal.values()) if pabal else None
    return Figure(
        title=wanted.title,
        unit=wanted.unit,
        pabal=value,
        sketch=statistics.median(sketch.values()) if sketch else None,
        ratio=ratio,
        target=str(wanted.target),
        verdict=_verdict(wanted.target, value=value, ratio=ratio),
    )


def _by_round(samples: Sequence[Sample], system: str, key: str) -> dict[int, float]:
    return {s.round: s.values[key] for s in samples if s.system == system and key in s.values}


def _verdict(target: Target, *, value: float | None, ratio: float | None) -> Literal["met", "missed", ""]:
    conditions = []
    if target.ratio_at_most is not None and ratio is not None:
        conditions.append(ratio <= target.ratio_at_most)
    if target.at_most is not None and value is not None:
        conditions.append(value <= target.at_most)
    if target.at_least is not None and value is not None:
        conditions.append(value >= target.at_least)
    if not conditions:
        return ""
    return "met" if all(conditions) else "missed"

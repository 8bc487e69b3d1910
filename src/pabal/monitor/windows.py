"""The sample windows of all partitions, and what they say of each group. Pure."""

import math
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from pabal.lag import (
    Forecast,
    Judged,
    LagVerdict,
    Sample,
    forecast,
    forecast_group,
    judge,
    judge_group,
    retention_headroom,
    skew,
)
from pabal.monitor.samples import Place, Sampled

SAMPLE_EVERY_SECONDS: Final = 2.0

WINDOW_SAMPLES: Final = 15
"""Thirty seconds: longer than a stall takes to be one (`lag.STALL_SECONDS`)."""


class PartitionView(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of a group, as its window shows it. Times in seconds; None: not known yet."""

    topic: str
    partition: int
    verdict: LagVerdict
    reason: str
    completeness: float
    lag: int
    lost: int
    committed: int | None
    high: int
    owner: str | None
    age_seconds: float | None
    overdue_seconds: float | None
    headroom_seconds: float
    forecast: Forecast | None


class GroupView(msgspec.Struct, frozen=True, kw_only=True):
    """A group: the worst of its partitions, and the sums. `drained_in_seconds` is infinite when it never will be."""

    group: str
    verdict: LagVerdict
    reason: str
    completeness: float
    members: int
    lag: int
    lost: int
    age_seconds: float
    in_per_second: float
    out_per_second: float
    drained_in_seconds: float | None
    headroom_seconds: float
    skew: float
    partitions: tuple[PartitionView, ...]


class Windows:
    """The last samples of every partition. `note` adds one; a partition that is sampled no more is forgotten."""

    def __init__(self, *, samples: int = WINDOW_SAMPLES) -> None:
        self._length = samples
        self._windows: dict[Place, deque[Sample]] = {}
        self._members: Mapping[str, int] = {}
        self._taken = 0
        self.sampled_at: float | None = None
        """When the last sample was taken, on the boot clock; None: never."""

    def note(self, sampled: Sampled) -> None:
        """Take in a sample. Samples come in order."""
        self._windows = {place: self._windows.get(place, deque(maxlen=self._length)) for place in sampled.samples}
        for place, sample in sampled.samples.items():
            self._windows[place].append(sample)
        self._members = sampled.members
        self._taken = min(self._taken + 1, self._length)
        self.sampled_at = sampled.at

    def window(self, place: Place) -> Sequence[Sample]:
        """The samples of one partition, oldest first."""
        return tuple(self._windows.get(place, ()))

    def groups(self, *, retention: Mapping[str, float | None] = {}) -> list[GroupView]:
        """Every group that was sampled, by name. `retention`: of topics, in seconds (None: kept for ever)."""
        of_group: dict[str, list[Place]] = defaultdict(list)
        for place in self._windows:
            of_group[place.group].append(place)
        for group in self._members:
            of_group[group] = of_group.get(group, [])
        return [self._group(group, places, retention) for group, places in sorted(of_group.items())]

    def _group(self, group: str, places: Collection[Place], retention: Mapping[str, float | None]) -> GroupView:
        partitions = tuple(self._partition(place, retention) for place in sorted(places))
        judged = judge_group(
            Judged(verdict=each.verdict, reason=_located(each), completeness=each.completeness) for each in partitions
        )
        known = [(each.forecast, each.lag) for each in partitions if each.forecast is not None]
        whole = forecast_group(known)
        return GroupView(
            group=group,
            verdict=judged.verdict,
            reason=judged.reason,
            completeness=judged.completeness,
            members=self._members.get(group, 0),
            lag=sum(each.lag for each in partitions),
            lost=sum(each.lost for each in partitions),
            age_seconds=_most(each.age_seconds for each in partitions),
            in_per_second=whole.in_per_second,
            out_per_second=whole.out_per_second,
            drained_in_seconds=whole.drained_in_seconds if known else None,
            headroom_seconds=min((each.headroom_seconds for each in partitions), default=math.inf),
            skew=skew([each.lag for each in partitions]),
            partitions=partitions,
        )

    def _partition(self, place: Place, retention: Mapping[str, float | None]) -> PartitionView:
        window = self.window(place)
        last = window[-1]
        judged = judge(window, expected_samples=self._length)
        return PartitionView(
            topic=place.topic,
            partition=place.partition,
            verdict=judged.verdict,
            reason=judged.reason,
            completeness=judged.completeness,
            lag=last.lag,
            lost=last.lost,
            committed=last.committed,
            high=last.high,
            owner=last.owner,
            age_seconds=last.age_seconds,
            overdue_seconds=last.overdue_seconds,
            headroom_seconds=retention_headroom(last, retention_seconds=retention.get(place.topic)),
            forecast=forecast(window),
        )


def _located(view: PartitionView) -> str:
    """The reason, with the partition that it is about."""
    return f"{view.topic}/{view.partition}: {view.reason}" if view.reason else ""


def _most(values: Iterable[float | None]) -> float:
    return max((value for value in values if value is not None), default=0.0)

"""How a consumer group stands: its lag, a verdict on it, and when it will be drained. Pure.

A *sample* is what was seen of one partition at one moment. A *sample window* is the last samples of it, oldest first. A
*lag verdict* is what the window says, by the first rule that fits:

1. nothing waits → **ok**
2. fewer than two samples → **incomplete**
3. the committed offset went back within the window → **rewind**
4. something waits and no member owns the partition → **stop**; **incomplete** while the window is too short to tell
   that from a rebalance
5. its owner holds it on purpose → **held**, with the reason
6. its owner polls, something waits, and neither commits nor ends move → **stall**
7. the lag only grows → **warn**
8. else → **ok**

The rules are Burrow's (https://github.com/linkedin/Burrow/wiki/Consumer-Lag-Evaluation-Rules) with three changes.
Burrow tells a stalled group from a stopped one by the times of commits, which Kafka's OffsetFetch does not give; here
the owner of the partition tells them apart. Pabal commits a contiguous prefix, so one slow call holds the offset while
thousands of records behind it are done; so the *ends* count as progress too. And a partition that a guard, a brake or a
person holds back is no fault.

A verdict never needs a threshold of records. The one floor is in seconds: a lag that grows is a warning only when the
oldest unread record is older than `WARN_SECONDS`.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal

import msgspec

LagVerdict = Literal["ok", "incomplete", "held", "warn", "rewind", "stall", "stop"]
"""What a sample window says, the harmless first. `stall`, `stop` and `rewind` want a person; `held` does not."""

SEVERITY: Final[Mapping[LagVerdict, int]] = {
    "ok": 0,
    "incomplete": 1,
    "held": 2,
    "warn": 3,
    "rewind": 4,
    "stall": 5,
    "stop": 6,
}

WARN_SECONDS: Final = 5.0
"""A lag may grow this old before it is a warning: a burst that is worked off in a moment is none."""

STOP_SECONDS: Final = 8.0
"""How long a partition may be without an owner: a rebalance takes some seconds (`session.timeout.ms` is apart)."""

STALL_SECONDS: Final = 15.0
"""How long nothing may move before it is a stall. Longer than the default timeout of a call and its slack."""

OVERDUE_SECONDS: Final = 10.0
"""How late a delay topic's oldest record may be: the delay line looks at its shelves more often than that."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One partition as one group stands on it, at one moment.

    `at` is in seconds of a clock that never steps. `committed` is None when the group never committed. `owner` is the
    member that the partition is assigned to (None: no member). `is_polling`, `held`, `ended` and `highest_ended` are
    what the owner told of itself, None where it told nothing (another system's group, or an owner that is silent):
    `held` the reason why it takes nothing, `ended` how many records of the partition it has dealt with since it was
    assigned, `highest_ended` the highest offset among them. `overdue_seconds` is of delay topics: how late the record
    is that is due first (0: none is late). `age_seconds` is the age of the record at the committed offset, as read
    from the log (None: not read).
    """

    at: float
    low: int
    high: int
    committed: int | None = None
    owner: str | None = None
    is_polling: bool | None = None
    held: str | None = None
    ended: int | None = None
    highest_ended: int | None = None
    overdue_seconds: float | None = None
    age_seconds: float | None = None

    @property
    def position(self) -> int:
        """The next offset that the group will read: what it committed, or the low watermark if that is higher.

        Records below the low watermark are deleted. They are lost (`lost`), they do not wait.
        """
        return self.low if self.committed is None else max(self.committed, self.low)

    @property
    def lag(self) -> int:
        """How many records wait. Never negative: a commit may be newer than the watermark beside it."""
        return max(self.high - self.position, 0)

    @property
    def lost(self) -> int:
        """How many records retention deleted before the group read them."""
        return 0 if self.committed is None else max(self.low - self.committed, 0)


class Judged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A lag verdict, and why in words. `completeness` is the share of the window's samples that were there (0 to 1)."""

    verdict: LagVerdict
    reason: str = ""
    completeness: float = 1.0


class Forecast(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How fast records come and go, per second, and the seconds until none waits (`math.inf`: never at this rate)."""

    in_per_second: float
    out_per_second: float
    drained_in_seconds: float


def judge(window: Sequence[Sample], *, expected_samples: int) -> Judged:
    """The verdict on one partition.

    Args:
        window: its samples, oldest first.
        expected_samples: how many there would be if none were missing.
    """
    completeness = min(len(window) / max(expected_samples, 1), 1.0)
    verdict, reason = _verdict_of(window)
    return Judged(verdict=verdict, reason=reason, completeness=completeness)


def judge_group(partitions: Iterable[Judged]) -> Judged:
    """The verdict on a group: the worst of its partitions', with the least completeness. No partition: incomplete."""
    judged = list(partitions)
    if not judged:
        return Judged(verdict="incomplete", reason="no partition was sampled", completeness=0.0)
    worst = max(judged, key=lambda each: SEVERITY[each.verdict])
    return msgspec.structs.replace(worst, completeness=min(each.completeness for each in judged))


def forecast(window: Sequence[Sample]) -> Forecast | None:
    """How a partition's lag moves; None while there are fewer than two samples."""
    if len(window) < 2 or window[-1].at <= window[0].at:
        return None
    first, last = window[0], window[-1]
    seconds = last.at - first.at
    in_per_second = max(last.high - first.high, 0) / seconds
    out_per_second = max(last.position - first.position, 0) / seconds
    return Forecast(
        in_per_second=in_per_second,
        out_per_second=out_per_second,
        drained_in_seconds=_seconds_to_drain(last.lag, in_per_second=in_per_second, out_per_second=out_per_second),
    )


def forecast_group(partitions: Iterable[tuple[Forecast, int]]) -> Forecast:
    """The forecast of a group from each partition's and its lag.

    A group is drained when its last partition is; its rates are the sums.
    """
    in_per_second = out_per_second = drained_in_seconds = 0.0
    for each, lag in partitions:
        in_per_second += each.in_per_second
        out_per_second += each.out_per_second
        if lag:
            drained_in_seconds = max(drained_in_seconds, each.drained_in_seconds)
    return Forecast(in_per_second=in_per_second, out_per_second=out_per_second, drained_in_seconds=drained_in_seconds)


def retention_headroom(sample: Sample, *, retention_seconds: float | None) -> float:
    """Seconds until retention deletes the oldest record that waits; `math.inf` when none waits, or none is deleted.

    The log deletes whole segments, so that the record may live longer. It never lives shorter.
    """
    if retention_seconds is None or not sample.lag:
        return math.inf
    return retention_seconds - (sample.age_seconds or 0.0)


def skew(lags: Sequence[int]) -> float:
    """The largest lag among partitions, divided by their median; 1 when nothing waits anywhere.

    The median of few waiting partitions among many idle ones is 0; then it counts as one record.
    """
    if not any(lags):
        return 1.0
    ordered = sorted(lags)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return ordered[-1] / max(median, 1)


def _verdict_of(window: Sequence[Sample]) -> tuple[LagVerdict, str]:
    if not window:
        return "incomplete", "no sample yet"
    last = window[-1]
    if not last.lag:
        return "ok", ""
    if len(window) < 2:
        return "incomplete", "one sample alone says nothing of movement"
    if rewound := _rewound(window):
        return "rewind", f"the committed offset went back from {rewound[0]} to {rewound[1]}"
    if last.owner is None:
        return _unowned(window)
    if last.held is not None:
        return "held", last.held
    if last.overdue_seconds is not None:
        return _overdue(window)
    if still := _seconds_still(window):
        return "stall", f"its owner polls, {last.lag} records wait, and nothing was done for {still:.0f} s"
    if _only_grows(window) and (last.age_seconds is None or last.age_seconds >= WARN_SECONDS):
        return "warn", f"the lag grew from {window[0].lag} to {last.lag}"
    return "ok", ""


def _rewound(window: Sequence[Sample]) -> tuple[int, int] | None:
    """The last step back of the committed offset. A topic that was made anew starts at 0, and is none."""
    for before, after in zip(reversed(window[:-1]), reversed(window[1:]), strict=True):
        if before.committed is None or after.committed is None or after.high < before.high:
            continue
        if after.committed < before.committed:
            return before.committed, after.committed
    return None


def _unowned(window: Sequence[Sample]) -> tuple[LagVerdict, str]:
    last = window[-1]
    since = last.at
    for each in reversed(window):
        if each.owner is not None or not each.lag:
            break
        since = each.at
    if last.at - since >= STOP_SECONDS:
        return "stop", f"{last.lag} records wait, and no member owns the partition"
    if last.at - window[0].at < STOP_SECONDS:
        return "incomplete", "no member owns the partition: a rebalance, or its members are gone"
    return "ok", "a rebalance is under way"


def _overdue(window: Sequence[Sample]) -> tuple[LagVerdict, str]:
    """Records of a delay topic wait on purpose, until they are due. Late ones are judged by how late they are."""
    late = window[-1].overdue_seconds or 0.0
    if late < OVERDUE_SECONDS:
        return "ok", ""
    if still := _seconds_still(window):
        return "stall", f"the record due first is {late:.0f} s late, and nothing was done for {still:.0f} s"
    if late > (window[0].overdue_seconds or 0.0):
        return "warn", f"the record due first is {late:.0f} s late, and ever later"
    return "ok", ""


def _seconds_still(window: Sequence[Sample]) -> float | None:
    """How long a polling owner has done nothing although something waited; None: it did something, or not for long.

    Records behind a slow call are done and uncommitted. When the highest record that ended is the last of the
    partition, nothing waits but calls that are under way.
    """
    last = window[-1]
    if last.is_polling is False:
        return None
    if last.highest_ended is not None and last.highest_ended >= last.high - 1:
        return None
    since = last.at
    for each in reversed(window):
        moved = (each.position, each.ended, each.highest_ended) != (last.position, last.ended, last.highest_ended)
        if moved or each.owner != last.owner or each.held is not None or not each.lag:
            break
        since = each.at
    still = last.at - since
    return still if still >= STALL_SECONDS else None


def _only_grows(window: Sequence[Sample]) -> bool:
    """Whether the lag grew and never shrank. A window in which nothing waited for a moment is a burst's beginning."""
    lags = [each.lag for each in window]
    return 0 < lags[0] < lags[-1] and all(after >= before for before, after in itertools.pairwise(lags))


def _seconds_to_drain(lag: int, *, in_per_second: float, out_per_second: float) -> float:
    if not lag:
        return 0.0
    if out_per_second <= in_per_second:
        return math.inf
    return lag / (out_per_second - in_per_second)

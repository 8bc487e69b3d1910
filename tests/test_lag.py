"""Lag verdicts as a table, and the laws that hold for every window."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.lag import (
    OVERDUE_SECONDS,
    SEVERITY,
    STALL_SECONDS,
    STOP_SECONDS,
    WARN_SECONDS,
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

OURS: dict[str, Any] = {"owner": "worker-1", "is_polling": True}
FOREIGN: dict[str, Any] = {"owner": "consumer-1"}
ALONE: dict[str, Any] = {}


def window(*rows: tuple[int | None, int], every: float = 2.0, low: int = 0, **facts: Any) -> list[Sample]:
    """Samples `every` seconds apart of (committed, high); `facts` are the same in all of them."""
    return [
        Sample(at=index * every, low=low, high=high, committed=committed, **facts)
        for index, (committed, high) in enumerate(rows)
    ]


def with_facts(samples: list[Sample], index: slice, **facts: Any) -> list[Sample]:
    changed = list(samples)
    changed[index] = [msgspec.structs.replace(each, **facts) for each in changed[index]]
    return changed


def ends(samples: list[Sample], counts: list[int], *, highest: list[int] | None = None) -> list[Sample]:
    """The same samples, of an owner that tells how many records of the partition it has dealt with."""
    tops = highest or [each.position + count - 1 for each, count in zip(samples, counts, strict=True)]
    return [
        msgspec.structs.replace(each, ended=count, highest_ended=top)
        for each, count, top in zip(samples, counts, tops, strict=True)
    ]


STILL = [(100, 200)] * 10
"""Nothing committed for 18 s, and 100 records wait."""

TABLE: list[tuple[str, list[Sample], LagVerdict]] = [
    # Nothing waits.
    ("nothing was ever appended", window((None, 0), (None, 0), **OURS), "ok"),
    ("all is read", window((5, 5), (5, 5), **OURS), "ok"),
    ("all is read, and no member is there", window((5, 5), (5, 5), **ALONE), "ok"),
    ("the last sample shows no lag", window((1, 9), (9, 9), **OURS), "ok"),
    ("a commit is newer than the watermark beside it", window((7, 5), (8, 6), **OURS), "ok"),
    ("all that waited was deleted", window((1, 9), (1, 9), low=9, **OURS), "ok"),
    ("one record a day, read at once", window((3, 3), (3, 4), (4, 4), **OURS), "ok"),
    ("one sample without lag", window((5, 5), **OURS), "ok"),
    # Too little is known.
    ("no sample", [], "incomplete"),
    ("one sample with lag", window((1, 9), **OURS), "incomplete"),
    # It moves.
    ("it is worked off", window((0, 100), (50, 100), (90, 100), **OURS), "ok"),
    ("the lag goes up and down", window((0, 9), (5, 20), (15, 22), **OURS), "ok"),
    ("the lag stays the same and moves", window((0, 10), (5, 15), (10, 20), **OURS), "ok"),
    ("a burst has just begun", window((5, 5), (5, 500), (40, 900), **OURS), "ok"),
    ("nothing committed yet, first records", window((None, 3), (None, 3), **OURS), "ok"),
    ("another's group moves", window((0, 100), (50, 120), (110, 140), **FOREIGN), "ok"),
    # It falls behind.
    ("the lag only grows", window((1, 10), (2, 20), (3, 40), **OURS), "warn"),
    ("it grows and pauses, and never shrinks", window((1, 10), (1, 10), (3, 40), **OURS), "warn"),
    ("it grows, and the oldest is young", window((1, 10), (2, 20), age_seconds=WARN_SECONDS - 1, **OURS), "ok"),
    ("it grows, and the oldest is old", window((1, 10), (2, 20), age_seconds=WARN_SECONDS, **OURS), "warn"),
    ("it grows by one from one", window((9, 10), (9, 11), **OURS), "warn"),
    ("it has grown and stays", window((1, 10), (1, 20), (2, 21), **OURS), "warn"),
    ("it has grown, and shrank in between", window((0, 10), (5, 10), (6, 30), **OURS), "ok"),
    ("another's group falls behind", window((1, 10), (2, 20), (3, 40), **FOREIGN), "warn"),
    # Its offset was set back.
    ("set back while it works", window((50, 60), (10, 60), (20, 60), **OURS), "rewind"),
    ("set back without a member", window((50, 60), (10, 60), **ALONE), "rewind"),
    ("set back, and held", window((50, 60), (10, 60), held="brake", **OURS), "rewind"),
    ("set back and drained since", window((50, 60), (10, 60), (60, 60), **OURS), "ok"),
    ("the topic was made anew", window((50, 60), (0, 5), **OURS), "ok"),
    # Nobody owns it.
    ("no member, and too short a window to tell", window((5, 9), (5, 9), **ALONE), "incomplete"),
    ("no member for long", window(*STILL, **ALONE), "stop"),
    ("no member, and the lag grows", window(*((5, 10 + each) for each in range(10)), **ALONE), "stop"),
    ("no member ever, nothing committed", window(*[(None, 9)] * 10, **ALONE), "stop"),
    ("its member was killed", with_facts(window(*STILL, **OURS), slice(4, 10), owner=None), "stop"),
    ("a rebalance", with_facts(window(*STILL, **OURS), slice(8, 10), owner=None), "ok"),
    (
        "a rebalance in the first seconds",
        with_facts(window(*[(5, 9)] * 5, every=STOP_SECONDS / 4, **OURS), slice(2, 5), owner=None),
        "ok",
    ),
    ("no member, but what waits is new", window(*[(9, 9)] * 8, (9, 10), (9, 11), **ALONE), "ok"),
    ("gone, although it was held", with_facts(window(*STILL, held="guard", **OURS), slice(0, 10), owner=None), "stop"),
    # Held on purpose.
    ("held by the guard", window(*STILL, held="guard", **OURS), "held"),
    ("held by a brake, the lag grows", window(*((5, 10 + each) for each in range(10)), held="brake", **OURS), "held"),
    ("held only now", with_facts(window(*STILL, **OURS), slice(9, 10), held="directive"), "held"),
    ("let go just now", with_facts(window(*STILL, **OURS), slice(0, 9), held="guard"), "ok"),
    # It stands still.
    ("every call hangs while the member polls", window(*STILL, **OURS), "stall"),
    ("the lag grows, nothing is done", window(*((5, 10 + each) for each in range(10)), **OURS), "stall"),
    ("another's group commits nothing", window(*STILL, **FOREIGN), "stall"),
    ("nothing ended either", ends(window(*STILL, **OURS), [7] * 10), "stall"),
    ("one call hangs, and 5,000 behind it are done", ends(window(*STILL, **OURS), [*range(0, 50, 5)]), "ok"),
    ("one call hangs, and all behind it is done", ends(window(*STILL, **OURS), [99] * 10, highest=[199] * 10), "ok"),
    (
        "all ended but the newest, which is not done",
        ends(window(*STILL, **OURS), [98] * 10, highest=[198] * 10),
        "stall",
    ),
    ("for a moment only", window((0, 150), *[(100, 200)] * 6, **OURS), "ok"),
    ("its owner has not polled", window(*STILL, owner="worker-1", is_polling=False), "ok"),
    ("its owner has just changed", with_facts(window(*STILL, **OURS), slice(0, 6), owner="worker-2"), "ok"),
    # Delay topics wait on purpose.
    ("records that are not due", window(*STILL, overdue_seconds=0.0, **OURS), "ok"),
    ("a little late", window(*STILL, overdue_seconds=OVERDUE_SECONDS - 1, **OURS), "ok"),
    ("late, and nothing moves", window(*STILL, overdue_seconds=OVERDUE_SECONDS, **OURS), "stall"),
    ("delay line gone", window(*STILL, overdue_seconds=0.0, **ALONE), "stop"),
    (
        "ever later, and it moves",
        with_facts(window((0, 99), (1, 99), (2, 99), overdue_seconds=11.0, **OURS), slice(2, 3), overdue_seconds=15.0),
        "warn",
    ),
    (
        "later than it was, and no later now",
        with_facts(window((0, 99), (1, 99), (2, 99), overdue_seconds=12.0, **OURS), slice(0, 1), overdue_seconds=11.0),
        "warn",
    ),
    ("late, and it catches up", window((0, 99), (1, 99), (2, 99), overdue_seconds=11.0, **OURS), "ok"),
]


@pytest.mark.parametrize(("samples", "verdict"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_verdict_on_a_sample_window(samples: list[Sample], verdict: LagVerdict) -> None:
    judged = judge(samples, expected_samples=10)

    assert judged.verdict == verdict
    if verdict != "ok":
        assert judged.reason


BURROW_EVERY = 3.5
"""Burrow's published cases commit every 100 s (or 1 s) and judge by count; ours judge by seconds."""


def as_burrow(
    *commits: tuple[int, int], lag_now: int, owner: str | None = "consumer-1", later: int = 1
) -> list[Sample]:
    """A case of Burrow's evaluator: (offset, lag) as committed, then `later` samples in which nothing was committed."""
    rows = [(offset, offset + lag) for offset, lag in commits]
    rows += [(commits[-1][0], commits[-1][0] + lag_now)] * later
    samples = window(*rows, every=BURROW_EVERY, **FOREIGN)
    return with_facts(samples, slice(len(commits), None), owner=owner)


GROWING = [(1000, 0), (2000, 50), (3000, 100), (4000, 150), (5000, 200)]
NEVER_ZERO = [(1000, 50), (2000, 100), (3000, 150), (4000, 200), (5000, 250)]
STANDING = [(1000, 0), (1000, 50), (1000, 100), (1000, 150), (1000, 200)]
CAUGHT_UP = [(792748079 + each, 0) for each in range(15)]

BURROW: list[tuple[str, list[Sample], LagVerdict]] = [
    ("0: zero lag somewhere", as_burrow(*GROWING, lag_now=200), "ok"),
    ("1: not silent for long enough", as_burrow(*GROWING, lag_now=200, owner=None, later=3), "ok"),
    ("2: silent for long, though lag was zero once", as_burrow(*GROWING, lag_now=200, owner=None, later=5), "stop"),
    ("3: silent for long, and lag never zero", as_burrow(*NEVER_ZERO, lag_now=250, owner=None, later=5), "stop"),
    ("4: the same offset, and lag was zero once", as_burrow(*STANDING, lag_now=200), "ok"),
    (
        "5: the same offset, and lag never zero",
        as_burrow((1000, 100), (1000, 150), (1000, 200), (1000, 250), (1000, 300), lag_now=300),
        "stall",
    ),
    ("6: the same offset, and the same lag", as_burrow(*[(1000, 100)] * 5, lag_now=100), "stall"),
    (
        "7: back, though the lag shrinks",
        as_burrow((1000, 100), (2000, 150), (3000, 200), (2000, 1250), (4000, 300), lag_now=300),
        "rewind",
    ),
    ("8: no lag now", as_burrow(*NEVER_ZERO, lag_now=0, owner=None, later=5), "ok"),
    ("9: new records, and silent", as_burrow(*CAUGHT_UP, lag_now=931, owner=None, later=5), "stop"),
    ("10: one new record", as_burrow(*CAUGHT_UP, lag_now=1, owner=None), "ok"),
    ("11: as 0, with samples missing", as_burrow(*GROWING, lag_now=200)[::2], "ok"),
]


@pytest.mark.parametrize(("samples", "verdict"), [row[1:] for row in BURROW], ids=[row[0] for row in BURROW])
def test_burrows_published_cases_by_number(samples: list[Sample], verdict: LagVerdict) -> None:
    """The facts are those of Burrow's evaluator tests (core/internal/evaluator/caching_test.go)."""
    assert judge(samples, expected_samples=len(samples)).verdict == verdict


def test_burrows_published_groups_have_the_same_lag_completeness_and_verdict() -> None:
    """Those of its storage fixture, of ten samples: one that works, and one that ceased at the half."""
    end = 4321
    works = window(*((1000 + 100 * number, end) for number in range(10)), every=BURROW_EVERY, **FOREIGN)
    silent = window(*((offset, end) for offset in (1000, 1100, 1200, 1400, 1400)), every=STOP_SECONDS)
    ceased = with_facts(silent, slice(0, 3), **FOREIGN)

    assert (works[-1].lag, ceased[-1].lag) == (2421, 2921)
    judged = [judge_group([judge(each, expected_samples=10)]) for each in (works, ceased)]
    assert [(each.verdict, each.completeness) for each in judged] == [("ok", 1.0), ("stop", 0.5)]


def test_a_stop_and_a_stall_take_as_long_as_their_constants_say() -> None:
    for seconds, owner, verdict, before in (
        (STOP_SECONDS, None, "stop", "incomplete"),
        (STALL_SECONDS, "worker-1", "stall", "ok"),
    ):
        samples = window((1, 9), (1, 9), every=seconds, owner=owner, is_polling=True)
        sooner = window((1, 9), (1, 9), every=seconds - 0.1, owner=owner, is_polling=True)

        assert judge(samples, expected_samples=2).verdict == verdict
        assert judge(sooner, expected_samples=2).verdict == before


any_sample = st.builds(
    Sample,
    at=st.just(0.0),
    low=st.integers(0, 50),
    high=st.integers(50, 120),
    committed=st.none() | st.integers(0, 130),
    owner=st.none() | st.sampled_from(["a", "b"]),
    is_polling=st.none() | st.booleans(),
    held=st.none() | st.just("guard"),
    ended=st.none() | st.integers(0, 9),
    highest_ended=st.none() | st.integers(0, 119),
    overdue_seconds=st.none() | st.floats(0, 60),
    age_seconds=st.none() | st.floats(0, 1000),
)
any_window = st.lists(any_sample, max_size=12).map(
    lambda samples: [msgspec.structs.replace(each, at=index * 2.0) for index, each in enumerate(samples)]
)


@given(any_window)
def test_a_lag_is_never_negative_and_without_one_all_is_ok(samples: list[Sample]) -> None:
    assert all(each.lag >= 0 and each.lost >= 0 for each in samples)
    if samples and not samples[-1].lag:
        assert judge(samples, expected_samples=12).verdict == "ok"


@given(any_window, st.integers(1, 10**12), st.floats(0, 1e6))
def test_a_verdict_knows_neither_the_offset_nor_the_hour(samples: list[Sample], shift: int, later: float) -> None:
    """Law: adding one number to every offset, and one to every time, changes nothing."""
    moved = [
        msgspec.structs.replace(
            each,
            at=each.at + round(later),
            low=each.low + shift,
            high=each.high + shift,
            committed=None if each.committed is None else each.committed + shift,
            highest_ended=None if each.highest_ended is None else each.highest_ended + shift,
        )
        for each in samples
    ]

    assert judge(moved, expected_samples=12).verdict == judge(samples, expected_samples=12).verdict


@given(any_window)
def test_what_is_held_is_never_a_stall_nor_a_warning(samples: list[Sample]) -> None:
    held = with_facts(samples, slice(len(samples) - 1, None), held="brake", owner="a")

    assert judge(held, expected_samples=12).verdict in ("ok", "incomplete", "rewind", "held")


@given(any_window)
def test_without_an_owner_it_is_never_held_and_never_a_stall(samples: list[Sample]) -> None:
    alone = with_facts(samples, slice(None), owner=None)

    assert judge(alone, expected_samples=12).verdict in ("ok", "incomplete", "rewind", "stop")


judgements = st.builds(Judged, verdict=st.sampled_from([*SEVERITY]), completeness=st.floats(0, 1))


@given(st.lists(judgements, min_size=1), st.randoms())
def test_a_group_is_as_bad_as_its_worst_partition_in_any_order(partitions: list[Judged], random: Any) -> None:
    shuffled = list(partitions)
    random.shuffle(shuffled)

    group = judge_group(partitions)

    assert SEVERITY[group.verdict] == max(SEVERITY[each.verdict] for each in partitions)
    assert group.completeness == min(each.completeness for each in partitions)
    assert judge_group(shuffled).verdict == group.verdict
    assert SEVERITY[judge_group([*partitions, Judged(verdict="stop")]).verdict] == SEVERITY["stop"]


def test_a_group_without_samples_is_incomplete() -> None:
    assert judge_group([]) == Judged(verdict="incomplete", reason="no partition was sampled", completeness=0.0)
    assert judge(window((5, 5), (5, 5)), expected_samples=10).completeness == pytest.approx(0.2)
    assert judge(window((5, 5)), expected_samples=1).completeness == 1.0
    assert judge(window((5, 5), (5, 5), (5, 5)), expected_samples=2).completeness == 1.0
    assert judge([], expected_samples=0).completeness == 0.0


def test_the_forecast_says_when_the_last_record_that_waits_is_read() -> None:
    draining = window((0, 1000), (100, 1020), **OURS)

    assert forecast(draining) == Forecast(in_per_second=10, out_per_second=50, drained_in_seconds=920 / 40)
    assert forecast(window((0, 10), (10, 10), **OURS)) == Forecast(
        in_per_second=0, out_per_second=5, drained_in_seconds=0
    )
    assert forecast(draining[:1]) is None
    assert forecast([draining[0], draining[0]]) is None
    assert forecast(window((5, 5), (5, 5), **OURS)) == Forecast(in_per_second=0, out_per_second=0, drained_in_seconds=0)


def test_a_forecast_knows_neither_the_offset_nor_the_hour() -> None:
    samples = window((0, 1000), (100, 1020), **OURS)
    moved = [
        msgspec.structs.replace(each, at=each.at + 5_000, low=700, high=each.high + 700, committed=each.position + 700)
        for each in samples
    ]

    assert forecast(moved) == forecast(samples)


@pytest.mark.parametrize("rows", [((0, 10), (0, 10)), ((0, 10), (5, 20)), ((0, 10), (5, 15))])
def test_what_comes_no_slower_than_it_goes_is_never_drained(rows: tuple[tuple[int, int], ...]) -> None:
    found = forecast(window(*rows, **OURS))

    assert found is not None
    assert found.drained_in_seconds == math.inf


def test_a_group_is_drained_when_its_last_partition_is() -> None:
    slow = Forecast(in_per_second=1, out_per_second=2, drained_in_seconds=90)
    idle = Forecast(in_per_second=0, out_per_second=0, drained_in_seconds=0)
    fast = Forecast(in_per_second=1, out_per_second=9, drained_in_seconds=3)

    assert forecast_group([(slow, 90), (idle, 0), (fast, 24)]) == Forecast(
        in_per_second=2, out_per_second=11, drained_in_seconds=90
    )


def test_what_retention_deletes_unread_is_told_apart_from_lag() -> None:
    behind = Sample(at=0, low=40, high=100, committed=10, age_seconds=50.0)

    assert (behind.lag, behind.lost) == (60, 30)
    assert retention_headroom(behind, retention_seconds=60.0) == pytest.approx(10.0)
    assert retention_headroom(behind, retention_seconds=None) == math.inf
    assert retention_headroom(Sample(at=0, low=0, high=5, committed=5), retention_seconds=60.0) == math.inf
    assert retention_headroom(Sample(at=0, low=0, high=5, committed=4), retention_seconds=60.0) == 60.0
    assert Sample(at=0, low=40, high=100).lost == 0
    assert Sample(at=0, low=40, high=100, committed=41).lost == 0


@pytest.mark.parametrize(
    ("lags", "expected"),
    [
        ([], 1.0),
        ([0, 0], 1.0),
        ([5], 1.0),
        ([10, 10, 10], 1.0),
        ([1, 1, 100], 100.0),
        ([1, 5, 100], 20.0),
        ([4, 1, 100, 5, 2], 25.0),
        ([1, 2, 4, 8], 8 / 3),
        ([0, 0, 7], 7.0),
        ([2, 4], 4 / 3),
    ],
)
def test_skew_is_the_largest_lag_to_the_median(lags: list[int], expected: float) -> None:
    assert skew(lags) == pytest.approx(expected)

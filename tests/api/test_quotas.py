"""Quotas: a rate over time, a burst, and nobody who waits for ever."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pabal.api.quotas import Bucket, Quotas
from pabal.config import TenantSettings


def test_a_burst_is_taken_at_once_and_then_the_rate_holds() -> None:
    bucket = Bucket(per_second=2.0, burst=10)

    assert bucket.take(10, now_seconds=0.0) == 0.0
    assert bucket.take(1, now_seconds=0.0) == 0.5
    assert bucket.take(1, now_seconds=0.5) == 0.0


def test_what_is_refused_takes_nothing() -> None:
    bucket = Bucket(per_second=1.0, burst=2)
    bucket.take(2, now_seconds=0.0)

    for _ in range(5):
        assert bucket.take(2, now_seconds=1.0) == 1.0

    assert bucket.take(1, now_seconds=1.0) == 0.0


def test_a_silence_gives_no_more_than_the_burst() -> None:
    bucket = Bucket(per_second=100.0, burst=5)
    bucket.take(5, now_seconds=0.0)

    assert bucket.take(5, now_seconds=1e6) == 0.0
    assert bucket.take(1, now_seconds=1e6) > 0.0


def test_a_request_larger_than_the_bucket_is_taken_when_it_is_full_and_paid_off_afterwards() -> None:
    bucket = Bucket(per_second=10.0, burst=5)

    assert bucket.take(500, now_seconds=0.0) == 0.0
    assert bucket.take(1, now_seconds=0.0) == pytest.approx(49.6)
    assert bucket.take(1, now_seconds=49.6) == pytest.approx(0.0, abs=1e-9)


@given(
    asks=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 50)), min_size=1, max_size=60),
    per_second=st.floats(0.1, 100),
    burst=st.integers(1, 50),
)
def test_over_time_no_more_is_taken_than_the_rate_a_burst_and_one_debt(
    asks: list[tuple[float, int]], per_second: float, burst: int
) -> None:
    bucket = Bucket(per_second=per_second, burst=burst)
    now, taken, largest = 0.0, 0, 0

    for passed, count in asks:
        now += passed
        if bucket.take(count, now_seconds=now) == 0.0:
            taken += count
            largest = max(largest, count)

    assert taken <= burst + now * per_second + max(0, largest - burst) + 1e-6 * taken


@given(count=st.integers(1, 100), per_second=st.floats(0.1, 100), burst=st.integers(1, 50))
def test_whoever_comes_back_when_told_is_taken(count: int, per_second: float, burst: int) -> None:
    bucket = Bucket(per_second=per_second, burst=burst)
    bucket.take(count, now_seconds=0.0)

    wait_seconds = bucket.take(count, now_seconds=0.0)

    assert wait_seconds == 0.0 or bucket.take(count, now_seconds=wait_seconds + 1e-6) == 0.0


def test_a_tenant_without_a_quota_never_waits() -> None:
    quotas = Quotas({"shop": TenantSettings(quota_per_second=0.5), "bank": TenantSettings()})

    assert [quotas.take("bank", 500, now_seconds=0.0), quotas.take("nobody", 500, now_seconds=0.0)] == [0.0, 0.0]
    assert quotas.take("shop", 1, now_seconds=0.0) == 0.0
    assert quotas.take("shop", 1, now_seconds=0.0) == 2.0

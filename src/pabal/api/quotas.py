"""How many deliveries a second a tenant may ask for: a token bucket per tenant. Pure but for its state.

A quota belongs to one api process: behind a load balancer over N of them a tenant gets up to N times as much.
"""

from collections.abc import Mapping

from pabal.config import TenantSettings


class Bucket:
    """A token bucket that can go into debt.

    A request is taken whole or not at all. A request larger than the bucket is taken when the bucket is full. Later
    requests wait until the debt is paid, so the rate holds over time and no request waits for ever.
    """

    def __init__(self, *, per_second: float, burst: float) -> None:
        """`per_second` and `burst` are above 0. It starts full."""
        self._per_second = per_second
        self._burst = burst
        self._tokens = burst
        self._at_seconds = float("-inf")

    def take(self, count: int, *, now_seconds: float) -> float:
        """Take `count` and return 0; or take nothing and return in how many seconds to ask again."""
        passed = max(0.0, now_seconds - self._at_seconds)
        self._tokens = min(self._burst, self._tokens + passed * self._per_second)
        self._at_seconds = now_seconds
        lacking = min(count, self._burst) - self._tokens
        if lacking > 0:
            return lacking / self._per_second
        self._tokens -= count
        return 0.0


class Quotas:
    """The buckets of all tenants that have a quota."""

    def __init__(self, tenants: Mapping[str, TenantSettings]) -> None:
        self._buckets = {
            name: Bucket(
                per_second=tenant.quota_per_second, burst=tenant.quota_burst or max(1.0, tenant.quota_per_second)
            )
            for name, tenant in tenants.items()
            if tenant.quota_per_second is not None
        }

    def take(self, tenant: str, deliveries: int, *, now_seconds: float) -> float:
        """See `Bucket.take`; a tenant without a quota never waits."""
        bucket = self._buckets.get(tenant)
        return 0.0 if bucket is None else bucket.take(deliveries, now_seconds=now_seconds)

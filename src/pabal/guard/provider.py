"""A provider as the guard sees it: the hosts behind it, the tenants at fault, and what a failure is counted against.
Pure.
"""

from collections.abc import Callable

import msgspec

from pabal.guard.callee import Callee
from pabal.guard.circuit import CircuitSettings
from pabal.guard.faults import fault_of, not_before
from pabal.guard.hosts import IDLE_SECONDS, CallAtHost, Hosts
from pabal.guard.memory import Memory
from pabal.guard.settings import GuardSettings
from pabal.outcome import Accepted, Outcome, Rejected, Unknown

MOST_TENANTS = 1_000
"""Per provider: tenants whose settings are at fault."""

_MANY_HOSTS, _MOST_OF_THEM = 5, 0.8
_NOBODY_SECONDS = 10.0
"""For so long, and from the first call on, no host at all has answered well, before it may be our own network that
fails."""


class Guarded(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard knows of a provider. `host_of`: the host that answers for an address (None: the provider does)."""

    host_of: Callable[[str], str] | None = None
    weight: int = 1
    rate_per_second: float | None = None


class ProviderStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a provider stands in this worker: whether its circuit is open, at how many hosts one is, how many calls at
    once it may be given."""

    name: str
    is_open: bool
    hosts_open: int
    concurrency_limit: float


class GuardedProvider(Callee):
    """A provider, the hosts behind it, and the tenants whose settings are at fault."""

    __slots__ = (
        "_answered_at",
        "_circuit",
        "_most",
        "_random",
        "_rates",
        "_say",
        "_throttle",
        "host_of",
        "hosts",
        "tenants",
    )

    def __init__(
        self,
        name: str,
        *,
        guarded: Guarded,
        concurrency: int,
        settings: GuardSettings,
        random: Callable[[], float],
        on_change: Callable[[Callee, float], None],
    ) -> None:
        circuit = CircuitSettings(
            failure_ratio=settings.failure_ratio,
            minimum_calls=settings.minimum_calls,
            window_seconds=settings.window_seconds,
        )
        # Behind hosts a failed probe may be its host's fault, and one good answer says that the way is free.
        own = msgspec.structs.replace(circuit, successes_to_close=1, failures_to_open=3) if guarded.host_of else circuit
        super().__init__(
            name,
            most=concurrency,
            rate_per_second=guarded.rate_per_second,
            circuit=own,
            random=random,
            on_change=on_change,
        )
        self.host_of = guarded.host_of
        self.hosts = Hosts(
            name,
            concurrency=concurrency,
            circuit=circuit,
            random=random,
            on_host=self._host_changed,
            on_change=on_change,
        )
        self.hosts.share_rate(settings.host_rate_per_second)
        self.tenants: Memory[str, Callee] = Memory(most=MOST_TENANTS)
        self._rates = (guarded.rate_per_second, settings.host_rate_per_second)
        self._throttle: float | None = None
        self._answered_at: float | None = None
        self._most, self._circuit, self._random, self._say = concurrency, circuit, random, on_change
        if guarded.host_of is not None:
            self.limit.fix()  # One host's failures must not shrink what the others get.

    def note(
        self,
        outcome: Outcome,
        *,
        at_host: CallAtHost | None,
        tenant: str,
        own: Callee | None,
        is_probe: bool,
        began: float,
        now: float,
    ) -> None:
        """A call of this provider ended: it is counted against what was at fault."""
        fault = fault_of(outcome, has_hosts=at_host is not None)
        if not isinstance(outcome, Accepted | Rejected):
            self.last_reason = outcome.reason
        if own is not None or fault == "settings":
            self._note_tenant(tenant, own, is_ok=fault != "settings", now=now)
        if at_host is None:
            wanted_at = not_before(outcome, now)
            self.end(
                is_ok=fault not in ("ours", "callee"),
                is_probe=is_probe,
                began=began,
                now=now,
                is_certain=fault == "ours" or wanted_at is not None,
                not_before=wanted_at,
                counts=fault != "address",
            )
            return
        # A status is an answer, too: the way is free.
        is_answered = fault in ("none", "address") and not isinstance(outcome, Unknown)
        if is_answered or self._answered_at is None:
            self._answered_at = now
        # A host's failure is not the provider's, unless it is what a probe found; that a host which was refused before
        # still fails says nothing of the others.
        is_failed_probe = is_probe and not is_answered and fault != "ours"
        self.end(
            is_ok=fault != "ours" and not is_failed_probe,
            is_probe=is_probe,
            began=began,
            now=now,
            is_certain=fault == "ours",
            counts=not (is_failed_probe and (at_host.was_refused or fault == "settings")),
        )
        at_host.end(outcome, fault, self.hosts, began=began, now=now)

    def standing(self) -> ProviderStanding:
        """How it stands now."""
        return ProviderStanding(
            name=self.name,
            is_open=self.state != "closed",
            hosts_open=sum(host.state != "closed" for host in self.hosts.by_name.values()),
            concurrency_limit=self.limit.value,
        )

    def throttle(self, per_second: float | None) -> None:
        """See `Guard.throttle`."""
        self._throttle = per_second

    def share_rates(self, share: float) -> None:
        """See `Guard.share_rates`."""
        self.rate.per_second = _shared(_lower(self._rates[0], self._throttle), share)
        self.hosts.share_rate(_shared(self._rates[1], share))

    @property
    def has_rates(self) -> bool:
        """Whether a rate is configured, or the provider is throttled."""
        return self._throttle is not None or any(rate is not None for rate in self._rates)

    def forget_idle(self, now: float) -> None:
        """See `Guard.forget_idle`."""
        self.hosts.forget_idle(now)
        self.tenants.forget_idle(now, idle_seconds=IDLE_SECONDS)

    def _make_tenant(self, tenant: str) -> Callee:
        sure = msgspec.structs.replace(self._circuit, minimum_calls=1, open_seconds=30.0, successes_to_close=1)
        return Callee(
            f"{self.name} tenant {tenant}",
            most=self._most,
            rate_per_second=None,
            circuit=sure,
            random=self._random,
            on_change=self._say,
        )

    def _note_tenant(self, tenant: str, own: Callee | None, *, is_ok: bool, now: float) -> None:
        is_probe = own is not None
        if own is None:
            own = self.tenants.get(tenant, now)
        if own is None:
            own = self._make_tenant(tenant)
            self.tenants.add(tenant, own, now)
        own.last_reason = self.last_reason
        own.count(is_ok=is_ok, is_probe=is_probe, now=now, is_certain=True)
        if own.state == "closed":
            self.tenants.forget(tenant)

    def _host_changed(self, host: Callee, now: float) -> None:
        self._on_change(host, now)
        if host.state == "open" and self.state == "closed" and self._is_everywhere(now):
            self.trip(now)

    def _is_everywhere(self, now: float) -> bool:
        """Whether so many hosts fail, and none answers, that our own network or name server must be at fault."""
        if self._answered_at is None or now - self._answered_at < _NOBODY_SECONDS:
            return False  # However many customers' endpoints are dead: the way to the others is free.
        recent = [host for host in self.hosts.by_name.values() if now - host.used_at < IDLE_SECONDS]
        shut = sum(host.state != "closed" for host in recent)
        return shut >= _MANY_HOSTS and shut >= _MOST_OF_THEM * len(recent)


def _lower(rate: float | None, other: float | None) -> float | None:
    if rate is None or other is None:
        return other if rate is None else rate
    return min(rate, other)


def _shared(rate: float | None, share: float) -> float | None:
    return None if rate is None else rate * share

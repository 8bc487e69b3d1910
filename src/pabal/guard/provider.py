"""A provider as the guard sees it: the hosts behind it, the tenants at fault, and whose doing a failure was. Pure."""

from collections.abc import Callable

import msgspec

from pabal.guard.callee import LONGEST_PARK_SECONDS, Callee
from pabal.guard.circuit import CircuitSettings
from pabal.guard.settings import GuardSettings
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected, Unknown

HOST_SHARE = 0.9
"""The most of a channel's call slots that one host may hold: the others always have the rest."""

MOST_HOSTS = 10_000
"""Per provider; beyond it those without a call under way are forgotten at once (about 1 KB each)."""
IDLE_SECONDS = 60.0

_ANSWERED = (Accepted, Rejected)
_MANY_HOSTS, _MOST_OF_THEM = 5, 0.8
_NOBODY_SECONDS = 10.0
"""For so long, and from the first call on, no host at all has answered well, before it may be our own network that
fails."""


class Guarded(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard knows of a provider. `host_of`: who answers for an address (None: the provider itself)."""

    host_of: Callable[[str], str] | None = None
    weight: int = 1
    rate_per_second: float | None = None


class GuardedProvider(Callee):
    """A provider, the hosts behind it, and the tenants whose settings are at fault."""

    __slots__ = (
        "_answered_at",
        "_circuit",
        "_most",
        "_random",
        "_rates",
        "_say",
        "_share",
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
        self.hosts: dict[str, Callee] = {}
        self.tenants: dict[str, Callee] = {}
        self._rates = (guarded.rate_per_second, settings.host_rate_per_second)
        self._share = 1.0
        self._answered_at: float | None = None
        self._most, self._circuit, self._random, self._say = concurrency, circuit, random, on_change
        if guarded.host_of is not None:
            self.limit.fix()  # One host's failures must not shrink what the others get.

    def host(self, address: str, now: float) -> Callee:
        """Who answers for an address."""
        assert self.host_of is not None
        name = self.host_of(address)
        host = self.hosts.get(name)
        if host is None:
            if len(self.hosts) >= MOST_HOSTS:
                self.forget_idle(now, idle_seconds=0.0)
            host = self.hosts[name] = self._make_host(name)
        return host

    def note(
        self,
        outcome: Outcome,
        *,
        host: Callee | None,
        tenant: str,
        own: Callee | None,
        provider_probe: bool,
        host_probe: bool,
        began: float,
        now: float,
    ) -> None:
        """How a call of this provider ended: whose doing was it?"""
        is_ok, is_ours, is_tenants, not_before = True, False, False, None
        if not isinstance(outcome, _ANSWERED):
            is_ok = False
            self.last_reason = outcome.reason
            if host is not None:
                host.last_reason = outcome.reason
            is_ours, is_tenants, not_before = _fault_of(outcome, now=now)
        if own is not None or is_tenants:
            self._note_tenant(tenant, own, is_ok=not is_tenants, now=now)
        if host is None:
            self.end(
                is_ok=is_ok or is_tenants,
                is_probe=provider_probe,
                began=began,
                now=now,
                is_certain=is_ours or not_before is not None,
                not_before=not_before,
            )
            return
        if is_ok or self._answered_at is None:
            self._answered_at = now
        if provider_probe and host_probe and not (is_ok or is_ours):
            self.circuit.give_back(is_probe=True)
            provider_probe = False  # That a host which was refused before still fails says nothing of the others.
        # A host's failure is not the provider's, unless it is what a probe found.
        self.end(
            is_ok=is_ok or not (is_ours or provider_probe),
            is_probe=provider_probe,
            began=began,
            now=now,
            is_certain=is_ours,
        )
        host.end(
            is_ok=is_ok or is_ours or is_tenants,
            is_probe=host_probe,
            began=began,
            now=now,
            is_certain=not_before is not None,
            not_before=not_before,
        )

    def share_rates(self, share: float) -> None:
        """See `Guard.share_rates`."""
        self._share = share
        self.rate.per_second = _shared(self._rates[0], share)
        for host in self.hosts.values():
            host.rate.per_second = _shared(self._rates[1], share)

    @property
    def has_rates(self) -> bool:
        """Whether any rate is configured."""
        return any(rate is not None for rate in self._rates)

    def forget_idle(self, now: float, *, idle_seconds: float) -> None:
        """Forget hosts without a call for so long; one whose circuit is open a good while longer."""
        for callees in (self.hosts, self.tenants):
            for name, callee in list(callees.items()):
                idle = idle_seconds + (0.0 if callee.state == "closed" else LONGEST_PARK_SECONDS)
                if callee.limit.in_flight == 0 and now - max(callee.used_at, callee.circuit.open_until) > idle:
                    del callees[name]

    def _make_host(self, host: str) -> Callee:
        return Callee(
            f"{self.name} {host}",
            most=max(int(self._most * HOST_SHARE), 1),
            rate_per_second=_shared(self._rates[1], self._share),
            circuit=self._circuit,
            random=self._random,
            on_change=self._host_changed,
        )

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
            own = self.tenants.setdefault(tenant, self._make_tenant(tenant))
        own.last_reason = self.last_reason
        before = own.state
        own.circuit.end(is_ok=is_ok, is_probe=is_probe, now=now, is_certain=True)
        own.used_at = now
        if own.state != before:
            own.changed(now)
        if own.state == "closed":
            self.tenants.pop(tenant, None)

    def _host_changed(self, host: Callee, now: float) -> None:
        self._on_change(host, now)
        if host.state == "open" and self.state == "closed" and self._is_everywhere(now):
            self.trip(now)

    def _is_everywhere(self, now: float) -> bool:
        """Whether so many hosts fail, and nobody answers, that it is us: our network, our name server."""
        if self._answered_at is None or now - self._answered_at < _NOBODY_SECONDS:
            return False  # However many customers' endpoints are dead: the way to the others is free.
        recent = [host for host in self.hosts.values() if now - host.used_at < IDLE_SECONDS]
        shut = sum(host.state != "closed" for host in recent)
        return shut >= _MANY_HOSTS and shut >= _MOST_OF_THEM * len(recent)


def _fault_of(outcome: Deferred | Misconfigured | Unknown, *, now: float) -> tuple[bool, bool, float | None]:
    """Of a call that failed: is it our doing, is it the tenant's, and before when is nothing wanted?"""
    if isinstance(outcome, Misconfigured):
        return not outcome.tenant_only, outcome.tenant_only, None
    if isinstance(outcome, Deferred) and outcome.retry_after_seconds is not None:
        # More is not believed: it stands between a delivery and its expiry.
        return False, False, now + min(outcome.retry_after_seconds, LONGEST_PARK_SECONDS)
    return False, False, None


def _shared(rate: float | None, share: float) -> float | None:
    return None if rate is None else rate * share

"""What stands before a call of one channel's providers: may it be made now, by whom, and if not, what then. Pure.

A worker asks `admit` before a call and gets a `Permit`, or what to do instead; it tells the permit how the call went.
What one host or one tenant refuses concerns that host or tenant alone; what a whole provider refuses goes to another
provider, and if there is none, the channel pauses.
"""

from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec

from pabal.guard.balance import Balance
from pabal.guard.callee import LONGEST_PARK_SECONDS, PATIENCE_SECONDS, Callee
from pabal.guard.circuit import CircuitSettings
from pabal.outcome import Accepted, Deferred, Misconfigured, Outcome, Rejected

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


class GuardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[guard]`. A circuit opens when at least `minimum_calls` ended within `window_seconds` and
    `failure_ratio` of them failed. `host_rate_per_second`: calls of one destination host (None: any number).

    A class's consumption stops when at least `brake_records` within a minute cannot be read, and they are at least
    `brake_ratio` of all.
    """

    failure_ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    minimum_calls: Annotated[int, msgspec.Meta(ge=1)] = 10
    window_seconds: Annotated[float, msgspec.Meta(gt=0)] = 30.0
    host_rate_per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None
    brake_ratio: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    brake_records: Annotated[int, msgspec.Meta(ge=1)] = 100


DEFAULT_GUARD = GuardSettings()


class Guarded(msgspec.Struct, frozen=True, kw_only=True):
    """What the guard knows of a provider. `host_of`: who answers for an address (None: the provider itself)."""

    host_of: Callable[[str], str] | None = None
    weight: int = 1
    rate_per_second: float | None = None


class InLine(msgspec.Struct, frozen=True, gc=False):
    """Wait in memory: `callee` is expected to take it within about two seconds, if there is `room`."""

    callee: Callee


class ParkFor(msgspec.Struct, frozen=True, gc=False):
    """Send it down the delay line: `by` will not take it for longer than is waited in memory."""

    seconds: float
    by: str


class Full(msgspec.Struct, frozen=True, gc=False):
    """Every provider has as many calls as it may have: ask again when one has ended, or in a moment."""


class Shut(msgspec.Struct, frozen=True, gc=False):
    """Every provider refuses: take nothing more for this channel, and ask again in a moment."""


class NoSuchProvider(msgspec.Struct, frozen=True, gc=False):
    """It may only be carried by a provider that is not configured (any more)."""

    name: str


Refusal = InLine | ParkFor | Full | Shut | NoSuchProvider

FULL, SHUT = Full(), Shut()


class Permit:
    """One call that may be made. `call`, then `end`, in this order; `release` in any case, as the last.

    It holds its place from `admit` to `release`, as long as the worker's slot does: then whoever has the slot has the
    next place too.
    """

    __slots__ = ("_began", "_host", "_host_probe", "_is_open", "_own", "_provider", "_provider_probe", "_tenant")

    def __init__(
        self, provider: "_Provider", host: Callee | None, own: Callee | None, *, tenant: str, now: float
    ) -> None:
        """`own`: the tenant as a callee, if its settings were at fault the last time: this is a probe of them."""
        self._provider = provider
        self._host = host
        self._own = own
        self._tenant = tenant
        self._began = 0.0
        self._is_open = True
        self._provider_probe = provider.begin(now)
        self._host_probe = host is not None and host.begin(now)
        if own is not None:
            own.circuit.begin()

    @property
    def provider(self) -> str:
        """Who is to be called."""
        return self._provider.name

    @property
    def callee(self) -> Callee:
        """Whose calls these are: those in its line may look again once the call has ended."""
        return self._host or self._provider

    def call(self, now: float) -> None:
        """The call is made now."""
        self._began = now
        self._provider.limit.call(now)
        if self._host is not None:
            self._host.limit.call(now)

    def end(self, outcome: Outcome, now: float) -> None:
        """The call was answered, or was not."""
        self._is_open = False
        self._provider.note(
            outcome,
            host=self._host,
            tenant=self._tenant,
            own=self._own,
            provider_probe=self._provider_probe,
            host_probe=self._host_probe,
            began=self._began,
            now=now,
        )

    def release(self, now: float) -> None:
        """Nothing more comes, once: the place is free, and what has not ended is given back."""
        if not self._is_open:
            self._provider.leave()
            if self._host is not None:
                self._host.leave()
            return
        for callee, is_probe in ((self._provider, self._provider_probe), (self._host, self._host_probe)):
            if callee is not None:
                if self._began:
                    callee.limit.abandon(now)
                callee.give_back(is_probe=is_probe)
        if self._own is not None:
            self._own.circuit.give_back(is_probe=True)


class Guard:
    """The guard of one channel in one worker. `random` (0 to 1) spreads what would come back together.

    `on_change` hears each change of a circuit: for the log, and for whoever shows it.
    """

    def __init__(
        self,
        *,
        providers: Mapping[str, Guarded],
        concurrency: int,
        settings: GuardSettings,
        random: Callable[[], float],
        on_change: Callable[[Callee, float], None],
    ) -> None:
        self._balance = Balance({name: guarded.weight for name, guarded in providers.items()})
        self._tell = on_change
        self._is_shut = False
        self._providers = {
            name: _Provider(
                name,
                guarded=guarded,
                concurrency=concurrency,
                settings=settings,
                random=random,
                on_change=self._changed,
            )
            for name, guarded in providers.items()
        }
        self._only = next(iter(self._providers.values())) if len(providers) == 1 else None

    def admit(self, *, tenant: str, address: str, pinned: str | None, parks: int, now: float) -> Permit | Refusal:
        """May a delivery be called now? `pinned`: the one provider that may; `parks`: its parks in a row so far."""
        provider = self._only
        if provider is None or (pinned is not None and pinned != provider.name):
            chosen = self._choose(pinned, parks=parks, now=now)
            if not isinstance(chosen, _Provider):
                return chosen
            provider = chosen
        elif not provider.is_free(now):
            return SHUT if provider.state != "closed" else FULL
        host = provider.host(address, now) if provider.host_of is not None else None
        if host is not None and host.limit.in_flight and provider.state != "closed":
            return InLine(host)  # One probe of a host says all: one that hangs must not be all of the probes.
        if host is not None and not host.is_free(now):
            if host.circuit.reopens_in(now) > PATIENCE_SECONDS:
                return ParkFor(host.park_seconds(parks=parks, now=now), host.name)
            return InLine(host)
        # Last, as it may let a probe through, which then has to be made.
        own = provider.tenants.get(tenant) if provider.tenants else None
        if own is not None and not own.circuit.admits(now):
            return ParkFor(own.park_seconds(parks=parks, now=now), own.name)
        return Permit(provider, host, own, tenant=tenant, now=now)

    def is_shut(self) -> bool:
        """Whether every provider refuses: nothing more should be taken from the log for this channel."""
        return self._is_shut

    def lets_probe(self, now: float) -> bool:
        """Whether a provider would take a call now. If every one is shut, that call finds out whether it still is."""
        return any(provider.is_free(now) for provider in self._providers.values())

    def share_rates(self, share: float) -> None:
        """This worker has `share` (0 to 1) of the channel's partitions, and so of the rates."""
        for provider in self._providers.values():
            provider.share_rates(share)

    @property
    def has_rates(self) -> bool:
        """Whether any rate is configured."""
        return any(provider.has_rates for provider in self._providers.values())

    def forget_idle(self, now: float) -> None:
        """Forget hosts that nothing was called at for a while. To be called every few seconds."""
        for provider in self._providers.values():
            provider.forget_idle(now, idle_seconds=IDLE_SECONDS)

    def _choose(self, pinned: str | None, *, parks: int, now: float) -> "_Provider | Refusal":
        if pinned is not None:
            provider = self._providers.get(pinned)
            if provider is None:
                return NoSuchProvider(pinned)
            if provider.is_free(now):
                return provider
            # The others of the channel go on: this one delivery waits for its provider.
            if provider.circuit.reopens_in(now) > PATIENCE_SECONDS:
                return ParkFor(provider.park_seconds(parks=parks, now=now), provider.name)
            return InLine(provider)
        name = self._balance.pick(lambda name: self._providers[name].is_free(now), now=now)
        if name is None:
            return SHUT if self.is_shut() else FULL
        return self._providers[name]

    def _changed(self, callee: Callee, now: float) -> None:
        if callee.name in self._providers and callee is self._providers[callee.name]:
            if callee.state == "closed":
                self._balance.up(callee.name, now=now)
            else:
                self._balance.down(callee.name, now=now)
            self._is_shut = all(provider.state != "closed" for provider in self._providers.values())
        self._tell(callee, now)


class _Provider(Callee):
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
        is_ok, is_ours, is_tenants = True, False, False
        not_before = None
        if not isinstance(outcome, _ANSWERED):
            is_ok = False
            self.last_reason = outcome.reason
            if host is not None:
                host.last_reason = outcome.reason
            if isinstance(outcome, Misconfigured):
                is_ours, is_tenants = not outcome.tenant_only, outcome.tenant_only
            elif isinstance(outcome, Deferred) and outcome.retry_after_seconds is not None:
                # More is not believed: it stands between a delivery and its expiry.
                not_before = now + min(outcome.retry_after_seconds, LONGEST_PARK_SECONDS)
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


def _shared(rate: float | None, share: float) -> float | None:
    return None if rate is None else rate * share

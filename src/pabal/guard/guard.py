"""What stands before a call of one channel's providers: may it be made now, at which, and if not, what then. Pure.

A worker asks `admit` before a call and gets a `Permit`, or what to do instead; it tells the permit how the call went.
What one URL, tenant or host refuses concerns that alone; what a whole provider refuses goes to another provider, and if
there is none, the channel pauses.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from pabal.guard.balance import Balance
from pabal.guard.callee import PATIENCE_SECONDS, Callee
from pabal.guard.hosts import CallAtHost
from pabal.guard.provider import Guarded, GuardedProvider, ProviderStanding
from pabal.guard.settings import GuardSettings
from pabal.outcome import Outcome


class InQueue(msgspec.Struct, frozen=True, gc=False):
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


Refusal = InQueue | ParkFor | Full | Shut | NoSuchProvider

FULL, SHUT = Full(), Shut()


class Permit:
    """One call that may be made. `call`, then `end`, in this order; `release` in any case, as the last.

    It holds its place from `admit` to `release`, as long as the delivery has its call slot: the next delivery in the
    slot finds the place free too.
    """

    __slots__ = ("_at_host", "_began", "_is_open", "_is_probe", "_own", "_provider", "_tenant")

    def __init__(
        self, provider: GuardedProvider, at_host: CallAtHost | None, own: Callee | None, *, tenant: str, now: float
    ) -> None:
        """`own`: the tenant as a callee, if its settings were at fault the last time: this is a probe of them."""
        self._provider = provider
        self._at_host = at_host
        self._own = own
        self._tenant = tenant
        self._began = 0.0
        self._is_open = True
        self._is_probe = provider.begin(now)
        if own is not None:
            own.circuit.begin()

    @property
    def provider(self) -> str:
        """The name of the provider that is to be called."""
        return self._provider.name

    @property
    def callees(self) -> tuple[Callee, ...]:
        """What is called, the narrowest first. What waits in their queues may go on once the call has ended."""
        return (self._provider,) if self._at_host is None else self._at_host.callees

    def call(self, now: float) -> None:
        """The call is made now."""
        self._began = now
        self._provider.limit.call(now)
        if self._at_host is not None:
            self._at_host.call(now)

    def end(self, outcome: Outcome, now: float) -> None:
        """The call was answered, or was not."""
        self._is_open = False
        self._provider.note(
            outcome,
            at_host=self._at_host,
            tenant=self._tenant,
            own=self._own,
            is_probe=self._is_probe,
            began=self._began,
            now=now,
        )

    def release(self, now: float) -> None:
        """Nothing more comes, once: the place is free, and what has not ended is given back."""
        if not self._is_open:
            self._provider.leave()
            if self._at_host is not None:
                self._at_host.leave()
            return
        if self._began:
            self._provider.limit.abandon(now)
        self._provider.give_back(is_probe=self._is_probe)
        if self._at_host is not None:
            self._at_host.give_back(now, was_made=bool(self._began))
        if self._own is not None:
            self._own.circuit.give_back(is_probe=True)


class Guard:
    """The guard of one channel in one worker. `random` (0 to 1) spreads what would come back together.

    `on_change` is called with each change of a circuit.
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
            name: GuardedProvider(
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
            if not isinstance(chosen, GuardedProvider):
                return chosen
            provider = chosen
        elif not provider.is_free(now):
            return SHUT if provider.state != "closed" else FULL
        at = url = None
        if provider.host_of is not None:
            hosts = provider.hosts
            at = hosts.find(provider.host_of(address), tenant, now)
            host = at.host
            url = hosts.urls.get((tenant, address), now) if hosts.urls.by_key else None
            if host.limit.in_flight and provider.state != "closed":
                return InQueue(host)  # One probe of a host says all: a probe that hangs must not use up the rest.
            if not host.is_free(now):
                return _refused_by(host, parks=parks, now=now)
            if not at.is_free(now):
                return _refused_by(at, parks=parks, now=now)
            if url is not None and not url.is_free(now):
                return _refused_by(url, parks=parks, now=now)
        # Last, as it may let a probe through, which then has to be made.
        own = provider.tenants.get(tenant, now) if provider.tenants.by_key else None
        if own is not None and not own.circuit.admits(now):
            return ParkFor(own.park_seconds(parks=parks, now=now), own.name)
        at_host = CallAtHost(at, url, tenant=tenant, address=address, now=now) if at is not None else None
        return Permit(provider, at_host, own, tenant=tenant, now=now)

    def is_shut(self) -> bool:
        """Whether every provider refuses: nothing more should be taken from the log for this channel."""
        return self._is_shut

    def standings(self) -> Sequence[ProviderStanding]:
        """How each provider stands."""
        return [provider.standing() for provider in self._providers.values()]

    def lets_probe(self, now: float) -> bool:
        """Whether a provider would take a call now. If every one is shut, that call finds out whether it still is."""
        return any(provider.is_free(now) for provider in self._providers.values())

    def throttle(self, provider: str, per_second: float | None) -> None:
        """Allow a provider at most `per_second` calls, by all workers together (None: its configured rate again).

        It holds from the next `share_rates` on. A configured rate that is lower stays. Raises KeyError for a provider
        that this channel does not have.
        """
        self._providers[provider].throttle(per_second)

    def share_rates(self, share: float) -> None:
        """This worker has `share` (0 to 1) of the channel's partitions, and so of the rates."""
        for provider in self._providers.values():
            provider.share_rates(share)

    @property
    def has_rates(self) -> bool:
        """Whether any rate is configured, or any provider is throttled."""
        return any(provider.has_rates for provider in self._providers.values())

    def forget_idle(self, now: float) -> None:
        """Forget what nothing was called at for a while. To be called every few seconds."""
        for provider in self._providers.values():
            provider.forget_idle(now)

    def _choose(self, pinned: str | None, *, parks: int, now: float) -> GuardedProvider | Refusal:
        if pinned is not None:
            provider = self._providers.get(pinned)
            if provider is None:
                return NoSuchProvider(pinned)
            if provider.is_free(now):
                return provider
            # The others of the channel go on: this one delivery waits for its provider.
            return _refused_by(provider, parks=parks, now=now)
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


def _refused_by(callee: Callee, *, parks: int, now: float) -> ParkFor | InQueue:
    if callee.circuit.reopens_in(now) > PATIENCE_SECONDS:
        return ParkFor(callee.park_seconds(parks=parks, now=now), callee.name)
    return InQueue(callee)

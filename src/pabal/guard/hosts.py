"""What is called behind a provider: hosts, the tenants at each of them, and their URLs that refused. Pure.

A refusal counts against the narrowest thing that it can be about: an answer, or silence on a connection that came
about, against the URL. Where a second URL of the tenant refuses too, against the tenant at that host; where a second
tenant is refused too, against the host; always with no acceptance between. That no connection comes about is the
host's at once. For hosts are shared: one belongs to a chat vendor or an automation platform, and to all its customers.
"""

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from pabal.evidence import Evidence
from pabal.guard.callee import Callee
from pabal.guard.circuit import CircuitSettings
from pabal.guard.faults import Fault, not_before
from pabal.guard.memory import Memory
from pabal.outcome import Accepted, Outcome, Rejected

HOST_SHARE: Final = 0.9
"""The most of a channel's call slots that one host may hold: the others always have the rest."""
TENANT_SHARE: Final = 0.9
"""The most of its host's slots that one tenant may hold there, likewise."""

MOST_HOSTS = 10_000
"""Per provider, a host counting once for each tenant at it. About 2 KB each."""
MOST_URLS = 4_096
"""Per provider: URLs that refused and have not accepted since. About 2 KB each."""

IDLE_SECONDS: Final = 60.0

_SEVERAL: Final = 2


class Host(Callee):
    """One host behind a provider. `refusals`: which tenants were refused there; `tenants`: how many are known."""

    __slots__ = ("refusals", "tenants")

    refusals: Evidence
    tenants: int


class TenantAtHost(Callee):
    """One tenant at one host. `refusals`: which of its URLs refused. It has the limit: what is slow or fails for one
    tenant leaves the others their calls."""

    __slots__ = ("host", "host_name", "refusals")

    host: Host
    host_name: str
    refusals: Evidence

    def is_idle(self, now: float, *, seconds: float) -> bool:
        """See `Callee.is_idle`; the last tenant of a host is what remembers it."""
        return super().is_idle(now, seconds=seconds) and (
            self.host.tenants > 1 or self.host.is_idle(now, seconds=seconds)
        )


class Hosts:
    """The hosts of one provider, found by host and tenant, and the memos of URLs.

    A memo is made when a URL refuses a tenant, and is dropped when a call there ends well. All of it is bounded, and
    what is forgotten for lack of room is called as if it had never refused.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int,
        circuit: CircuitSettings,
        random: Callable[[], float],
        on_host: Callable[[Callee, float], None],
        on_change: Callable[[Callee, float], None],
    ) -> None:
        """`name` is the provider's. `on_host` is called with each change of a host's circuit, `on_change` with those
        of every other circuit."""
        self.by_name: dict[str, Host] = {}
        self.rate_per_second: float | None = None
        self.tenants: Memory[tuple[str, str], TenantAtHost] = Memory(most=MOST_HOSTS, on_forget=self._forget)
        self.urls: Memory[tuple[str, str], Callee] = Memory(most=MOST_URLS)
        self._name = name
        self._most = max(int(concurrency * HOST_SHARE), 1)
        self._circuit = circuit
        self._random = random
        self._on_host = on_host
        self._on_change = on_change

    def find(self, host_name: str, tenant: str, now: float) -> TenantAtHost:
        """The tenant at this host, and by it the host."""
        key = (host_name, tenant)
        found = self.tenants.get(key, now)
        if found is None:
            found = self._make_tenant(host_name, tenant)
            self.tenants.add(key, found, now)
        return found

    def forgive(self, tenant: str, address: str, now: float) -> None:
        """A call of this URL ended well: what it refused before is over, but for the steps that follow an outage."""
        memo = self.urls.get((tenant, address), now)
        if memo is None:
            return
        memo.recover(now)
        if memo.limit.is_whole:
            self.urls.forget((tenant, address))

    def memo_of(self, at: TenantAtHost, tenant: str, address: str, now: float) -> Callee:
        """The memo of a URL that refused this tenant, which is made if there is none."""
        key = (tenant, address)
        memo = self.urls.get(key, now)
        if memo is None:
            memo = self._make_memo(at, address)
            self.urls.add(key, memo, now)
        return memo

    def share_rate(self, per_second: float | None) -> None:
        """So many calls a second each host may be given from now on."""
        self.rate_per_second = per_second
        for host in self.by_name.values():
            host.rate.per_second = per_second

    def forget_idle(self, now: float) -> None:
        """Forget what nothing was called at for a while, and what is refused a good while later."""
        self.tenants.forget_idle(now, idle_seconds=IDLE_SECONDS)
        self.urls.forget_idle(now, idle_seconds=IDLE_SECONDS)

    def _make_tenant(self, host_name: str, tenant: str) -> TenantAtHost:
        host = self.by_name.get(host_name)
        if host is None:
            host = self.by_name[host_name] = self._make_host(host_name)
        host.tenants += 1
        made = TenantAtHost(
            f"{host.name} tenant {tenant}",
            most=max(int(self._most * TENANT_SHARE), 1),
            rate_per_second=None,
            circuit=self._circuit,
            random=self._random,
            on_change=self._on_change,
        )
        made.host, made.host_name = host, host_name
        made.refusals = Evidence(enough=_SEVERAL, seconds=self._circuit.window_seconds)
        return made

    def _make_host(self, host_name: str) -> Host:
        host = Host(
            f"{self._name} {host_name}",
            most=self._most,
            rate_per_second=self.rate_per_second,
            circuit=self._circuit,
            random=self._random,
            on_change=self._on_host,
        )
        host.limit.fix()  # What is slow or fails for one tenant must not shrink what the others get.
        host.refusals = Evidence(enough=_SEVERAL, seconds=self._circuit.window_seconds)
        host.tenants = 0
        return host

    def _make_memo(self, at: TenantAtHost, address: str) -> Callee:
        # Not the URL itself, which is a secret with many vendors: this name goes into logs and records.
        digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        memo = Callee(
            f"{at.name} URL {digest}",
            most=self._most,
            rate_per_second=None,
            circuit=msgspec.structs.replace(self._circuit, successes_to_close=1),
            random=self._random,
            on_change=self._on_change,
        )
        memo.limit.fix()  # The tenant's limit is enough, but for the steps after an outage.
        return memo

    def _forget(self, tenant: TenantAtHost) -> None:
        tenant.host.tenants -= 1
        if tenant.host.tenants == 0:
            del self.by_name[tenant.host_name]


class CallAtHost:
    """One call behind a provider, of a tenant's URL at a host. `url` is its memo, if the URL refused before.

    Made when the call is permitted; then `call`, `end` and `leave`, or `give_back`.
    """

    __slots__ = ("_address", "_at", "_at_probe", "_host_probe", "_tenant", "_url", "_url_probe")

    def __init__(self, at: TenantAtHost, url: Callee | None, *, tenant: str, address: str, now: float) -> None:
        self._at = at
        self._url = url
        self._tenant = tenant
        self._address = address
        self._host_probe = at.host.begin(now)
        self._at_probe = at.begin(now)
        self._url_probe = url is not None and url.begin(now)

    @property
    def callees(self) -> tuple[Callee, ...]:
        """What has a place more once this is over, the narrowest first."""
        return (self._at, self._at.host) if self._url is None else (self._url, self._at, self._at.host)

    @property
    def was_refused(self) -> bool:
        """Whether it is a probe of what was refused before."""
        return self._host_probe or self._at_probe or self._url_probe

    def call(self, now: float) -> None:
        """The call is made now."""
        self._at.limit.call(now)
        self._at.host.limit.call(now)
        if self._url is not None:
            self._url.limit.call(now)

    def end(self, outcome: Outcome, fault: Fault, hosts: Hosts, *, began: float, now: float) -> None:
        """The call ended: told to the URL, the tenant at the host and the host, as far as it says something of each."""
        at, host = self._at, self._at.host
        is_ok = fault == "none"
        if isinstance(outcome, Accepted):
            if at.refusals.refused_at:
                at.refusals.accepted()
            if host.refusals.refused_at:
                host.refusals.accepted()
        elif not isinstance(outcome, Rejected):
            at.last_reason = host.last_reason = outcome.reason
        # That what was refused before still fails says nothing of anything wider.
        is_news = fault == "address" and not self._url_probe
        at_counts = is_news and at.refusals.refused(hash(self._address), now=now)
        is_news = is_news and not self._at_probe
        host_counts = fault == "callee" or (is_news and host.refusals.refused(self._tenant, now=now))
        self._note_url(outcome, fault, hosts, began=began, now=now)
        at.end(
            is_ok=fault not in ("address", "callee"),
            is_probe=self._at_probe,
            began=began,
            now=now,
            counts=is_ok or at_counts,
        )
        wanted_at = not_before(outcome, now) if fault == "callee" else None
        host.end(
            is_ok=not host_counts,
            is_probe=self._host_probe,
            began=began,
            now=now,
            is_certain=wanted_at is not None,
            not_before=wanted_at,
            counts=is_ok or host_counts,
        )

    def leave(self) -> None:
        """Nothing more is to be done about a call that ended."""
        self._at.leave()
        self._at.host.leave()
        if self._url is not None:
            self._url.leave()

    def give_back(self, now: float, *, was_made: bool) -> None:
        """It was not made after all, or was cut off by ourselves."""
        for callee, is_probe in (
            (self._at.host, self._host_probe),
            (self._at, self._at_probe),
            (self._url, self._url_probe),
        ):
            if callee is not None:
                if was_made:
                    callee.limit.abandon(now)
                callee.give_back(is_probe=is_probe)

    def _note_url(self, outcome: Outcome, fault: Fault, hosts: Hosts, *, began: float, now: float) -> None:
        url = self._url
        if url is not None:
            url.limit.end(is_ok=fault == "none", began=began, now=now)
        if fault == "none":
            if hosts.urls.by_key:
                hosts.forgive(self._tenant, self._address, now)
        elif fault == "address":
            memo = hosts.memo_of(self._at, self._tenant, self._address, now)
            memo.last_reason = self._at.last_reason
            wanted_at = not_before(outcome, now)
            memo.count(
                is_ok=False,
                is_probe=self._url_probe and memo is url,
                now=now,
                is_certain=wanted_at is not None,
                not_before=wanted_at,
            )
        elif url is not None:
            url.circuit.give_back(is_probe=self._url_probe)

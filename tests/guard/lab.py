"""A guard in the hands of a test, and its time."""

from collections.abc import Callable, Iterable
from typing import Any

from pabal.guard import Callee, Guard, Guarded, GuardSettings, Permit
from pabal.guard.hosts import Hosts
from pabal.outcome import Deferred, Outcome, Rejected, Unknown

DOWN, GONE, LOST = Deferred(reason="no connection"), Rejected(reason="410"), Unknown(reason="timeout")
REFUSED = Deferred(reason="503", address_only=True)
HOSTS = Guarded(host_of=lambda address: address.split("/", 3)[2])


class Lab:
    """A guard, and the time."""

    def __init__(
        self,
        *,
        concurrency: int = 128,
        settings: GuardSettings | None = None,
        providers: dict[str, Guarded] | None = None,
    ) -> None:
        self.now = 1000.0
        self.changes: list[tuple[str, str]] = []
        self.reasons: dict[str, str | None] = {}
        """Why each was refused, as known when its circuit opened."""
        self.guard = Guard(
            providers=providers or {"hooks": HOSTS},
            concurrency=concurrency,
            settings=settings or GuardSettings(),
            random=lambda: 0.0,
            on_change=self._note,
        )

    @property
    def hosts(self) -> Hosts:
        """What the guard remembers behind its provider `hooks`."""
        return self.guard._providers["hooks"].hosts

    def _note(self, callee: Callee, now: float) -> None:
        del now
        self.changes.append((callee.name, callee.state))
        if callee.state == "open":
            self.reasons[callee.name] = callee.last_reason

    def ask(
        self, address: str = "https://a/", *, tenant: str = "shop", pinned: str | None = None, parks: int = 0
    ) -> Any:
        return self.guard.admit(tenant=tenant, address=address, pinned=pinned, parks=parks, now=self.now)

    def permit(self, address: str = "https://a/", **about: Any) -> Permit:
        answer = self.ask(address, **about)
        assert isinstance(answer, Permit), answer
        return answer

    def call(self, outcome: Outcome, address: str = "https://a/", *, count: int = 1, **about: Any) -> None:
        for _ in range(count):
            self._make(outcome, self.permit(address, **about))

    def call_if_permitted(self, outcome: Outcome, address: str, **about: Any) -> None:
        if isinstance(answer := self.ask(address, **about), Permit):
            self._make(outcome, answer)

    def _make(self, outcome: Outcome, permit: Permit) -> None:
        permit.call(self.now)
        permit.end(outcome, self.now + 0.01)
        permit.release(self.now + 0.01)


def permits(ask: Callable[[], Any], *, most: int = 1000) -> Iterable[Permit]:
    """As many as are given."""
    for _ in range(most):
        answer = ask()
        if not isinstance(answer, Permit):
            return
        yield answer

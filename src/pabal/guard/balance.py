"""Which of several providers carries a delivery: by weight, away from what is down at once, back in steps. Pure.

The turns are nginx's smooth weighted round robin: exact over any run of deliveries, and no two in a row need to go the
same way. What is taken off a provider and given back in tenths is GOV.UK Notify's rule for its SMS providers.
"""

from collections.abc import Callable, Mapping

FIRST_SHARE = 0.1
STEP = 0.1
STEP_SECONDS = 30.0
"""A provider that was down has all of its weight again five minutes after it came back."""


class Balance:
    """Weights of providers by name, and what each has of its own at the moment. Times as in `Circuit`."""

    def __init__(self, weights: Mapping[str, int]) -> None:
        self._weights = dict(weights)
        self._share = dict.fromkeys(weights, 1.0)
        self._stepped_at = dict.fromkeys(weights, 0.0)
        self._credit = dict.fromkeys(weights, 0.0)

    def pick(self, is_usable: Callable[[str], bool], *, now: float) -> str | None:
        """The next provider of all that are usable; None: no provider is."""
        total, chosen = 0.0, None
        for name, weight in self._weights.items():
            if not is_usable(name):
                continue
            gain = weight * self._share_of(name, now)
            total += gain
            self._credit[name] += gain
            if chosen is None or self._credit[name] > self._credit[chosen]:
                chosen = name
        if chosen is not None:
            self._credit[chosen] -= total
        return chosen

    def down(self, name: str, *, now: float) -> None:
        """It refuses; what it gets from now on, once it is usable, begins with a tenth."""
        self._share[name] = FIRST_SHARE
        self._stepped_at[name] = now
        self._credit[name] = 0.0

    def up(self, name: str, *, now: float) -> None:
        """It takes deliveries again: its steps begin now."""
        self._stepped_at[name] = now

    def share(self, name: str) -> float:
        """What it has of its weight, 0.1 to 1."""
        return self._share[name]

    def _share_of(self, name: str, now: float) -> float:
        share = self._share[name]
        if share < 1.0 and now - self._stepped_at[name] >= STEP_SECONDS:
            share = self._share[name] = min(share + STEP, 1.0)
            self._stepped_at[name] = now
        return share

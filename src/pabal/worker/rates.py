"""A channel's rates, as its workers share them: each worker has as much of a rate as it has of the partitions.

The share follows an assignment at once. A group revokes a partition from one member before another member gets it. So
there is no moment in which both count it, and all shares together are never more than the whole.
"""

import asyncio
from collections.abc import Collection, Sequence

from pabal.broker.port import Admin
from pabal.guard import Guard
from pabal.runtime import insist
from pabal.worker.intake import Intake

_LOOK_EVERY_SECONDS = 2.0
"""How often the partitions of the topics are counted. There are more only when a person adds some."""


class SharedRates:
    """One worker's share of the rates of one channel. Until it is known, no provider that has a rate is called."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._intakes: Sequence[Intake] = ()
        self._total = 0
        self._has_rates = asyncio.Event()
        self.settle()

    def attend(self, intakes: Sequence[Intake]) -> None:
        """These read the channel's partitions."""
        self._intakes = intakes

    def throttle(self, provider: str, per_second: float | None) -> None:
        """See `Guard.throttle`. At the first rate of a channel the provider waits until partitions are counted."""
        self._guard.throttle(provider, per_second)
        self.settle()

    def settle(self) -> None:
        """Share anew: the intakes have other partitions than before, or there are other rates."""
        if self._guard.has_rates:
            self._has_rates.set()
        else:
            self._has_rates.clear()
        owned = sum(intake.partitions for intake in self._intakes)
        self._guard.share_rates(owned / self._total if self._total else 0.0)

    async def follow(self, admin: Admin) -> None:
        """Know how many partitions there are while there is a rate, for ever."""
        while True:
            await self._has_rates.wait()
            self._total = sum([await _count(admin, intake.topic) for intake in self._intakes])
            self.settle()
            await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def _count(admin: Admin, topic: str) -> int:
    partitions: Collection[object] = await insist(lambda: admin.watermarks(topic))
    return len(partitions)

"""A log whose consumers stop to poll when a test says so, as those of a process that is frozen."""

import asyncio
from collections.abc import Sequence

from pabal.broker.port import Admin, Assignment, Broker, Consumer, Producer, Reader, Record


class StuckConsumer:
    """A consumer whose polls stop to come back, as those of a process that is frozen."""

    def __init__(self, inner: Consumer) -> None:
        self._inner = inner
        self.is_stuck = False
        self.ends = asyncio.Semaphore(0)
        """One release lets one stuck poll end with nothing, as its time is over when the process wakes."""

        self.commit, self.seek, self.close = inner.commit, inner.seek, inner.close
        self.pause, self.resume = inner.pause, inner.resume

    async def poll(self, *, limit: int, timeout_seconds: float) -> Sequence[Record]:
        if self.is_stuck:
            await self.ends.acquire()
            return ()
        return await self._inner.poll(limit=limit, timeout_seconds=timeout_seconds)


class StuckBroker:
    """A log whose consumer gets stuck when a test says so."""

    def __init__(self, inner: Broker) -> None:
        self._inner = inner
        self.consumers: list[StuckConsumer] = []
        self.ailments, self.close = inner.ailments, inner.close

    def consumer(
        self, group: str, topics: Sequence[str], assignment: Assignment, *, instance: str | None = None
    ) -> Consumer:
        self.consumers.append(StuckConsumer(self._inner.consumer(group, topics, assignment, instance=instance)))
        return self.consumers[-1]

    def producer(self, *, deadline_seconds: float = 5.0) -> Producer:
        return self._inner.producer(deadline_seconds=deadline_seconds)

    def reader(self) -> Reader:
        return self._inner.reader()

    def admin(self) -> Admin:
        return self._inner.admin()

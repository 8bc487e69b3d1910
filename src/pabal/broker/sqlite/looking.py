"""Looks at an embedded log, and changes nothing: no file is made, no process is woken."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from pabal.broker.port import Record, TopicPartition, TopicSpec, Watermarks
from pabal.broker.sqlite.storage import Storage
from pabal.clock import Clock
from pabal.errors import UnknownTopic

_READ_BYTES = 1 << 20


class SqliteLook:
    """The reading half of an admin and of a reader (`pabal.broker.port`). One task at a time."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @classmethod
    async def open(cls, path: Path, *, clock: Clock) -> Self:
        """Raises LogUnavailable (no such file, no right to read it), LogError (no log, or of another version)."""
        return cls(await asyncio.to_thread(Storage.to_look_at, path, clock=clock))

    async def topics(self) -> Mapping[str, TopicSpec]:
        """See `Admin.topics`."""
        return (await asyncio.to_thread(self._storage.catalogue)).topics

    async def watermarks(self, topic: str) -> Mapping[TopicPartition, Watermarks]:
        """See `Admin.watermarks`."""
        catalogue = await asyncio.to_thread(self._storage.catalogue)
        if topic not in catalogue.topics:
            raise UnknownTopic(topic)
        return {
            name: catalogue.pulse.watermarks[number]
            for number, name in catalogue.partitions.items()
            if name.topic == topic
        }

    async def read(self, partition: TopicPartition, *, start: int | None = None) -> AsyncIterator[Sequence[Record]]:
        """See `Reader.read`."""
        catalogue = await asyncio.to_thread(self._storage.catalogue)
        [number] = [number for number, name in catalogue.partitions.items() if name == partition]
        low, high = catalogue.pulse.watermarks[number]
        at = low if start is None else start
        while at < high:
            span = await asyncio.to_thread(self._storage.read, number, partition, start=at, stop=high, size=_READ_BYTES)
            at = span.next
            if span.records:
                yield span.records

    async def close(self) -> None:
        """Let go."""
        await asyncio.to_thread(self._storage.close)

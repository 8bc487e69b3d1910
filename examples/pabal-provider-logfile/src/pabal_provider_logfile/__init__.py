"""Writes webhook deliveries to a file, one JSON object per line, each key once."""

import asyncio
import os
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec

from pabal.channels.port import Rendered
from pabal.outcome import Accepted, Deferred, Outcome, Unknown
from pabal.providers.options import Options, read_options
from pabal.providers.port import Provider, ProviderContext


class LogfileOptions(Options, frozen=True, kw_only=True):
    """The table `[providers.logfile]`. The directory of `path` must exist; the file is made."""

    path: Annotated[str, msgspec.Meta(min_length=1)]
    timeout_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0


def create(options: Mapping[str, Any], context: ProviderContext) -> Provider:
    """The entry point. Reads the options and opens nothing."""
    del context
    return LogfileProvider(read_options(options, LogfileOptions, path="$.providers.logfile"))


class LogfileProvider:
    """See `pabal.providers.port.Provider`. One process at a time may write to a file."""

    channel = "webhook"
    # The file itself is the memory of what was written, so a key is recognised for as long as the file is kept.
    deduplicates_for: timedelta | None = timedelta(days=365)

    def __init__(self, options: LogfileOptions) -> None:
        self.timeout_seconds = options.timeout_seconds
        self._journal = _Journal(Path(options.path))

    async def send(self, rendered: Rendered, *, to: str, tenant: str, idempotency_key: str) -> Outcome:
        """Append one line, unless the file has one under this key."""
        line = msgspec.json.encode({"key": idempotency_key, "tenant": tenant, "to": to, "body": rendered.body}) + b"\n"
        try:
            async with asyncio.timeout(self.timeout_seconds):
                await asyncio.to_thread(self._journal.append, idempotency_key, line)
        except TimeoutError:
            # The thread cannot be stopped: the line may still be written.
            return Unknown(reason=f"the file system did not answer within {self.timeout_seconds:g} s")
        except OSError as error:
            return Deferred(reason=f"cannot write the file: {error.strerror}")
        return Accepted()

    async def close(self) -> None:
        """Nothing is held open between calls."""


class _Line(msgspec.Struct):
    key: str


class _Journal:
    """The file. Used from threads: a lock, not the event loop, keeps its lines apart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._keys: set[str] | None = None

    def append(self, key: str, line: bytes) -> None:
        """Write the line and have it on the disk, or raise OSError and leave the file as it was."""
        with self._lock, self._path.open("ab", buffering=0) as file:
            if self._keys is None:
                self._keys = self._recover(file.fileno())
            if key in self._keys:
                return
            end = os.fstat(file.fileno()).st_size
            try:
                if file.write(line) != len(line):
                    raise OSError(None, "the disk is full")
                os.fsync(file.fileno())
            except OSError:
                os.truncate(file.fileno(), end)
                raise
            self._keys.add(key)

    def _recover(self, descriptor: int) -> set[str]:
        """The keys in the file; cuts off a line that a crash left unfinished."""
        content = self._path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        os.truncate(descriptor, len(whole))
        return {msgspec.json.decode(line, type=_Line).key for line in whole.splitlines()}

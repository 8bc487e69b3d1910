"""The public contract with a file at the far end, and what only this provider promises."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from pabal_provider_logfile import LogfileOptions, LogfileProvider

from pabal.channels.port import Rendered
from pabal.outcome import Accepted, Outcome
from pabal.providers.port import Provider
from pabal.testing import FarSide, ProviderContract


class File(FarSide):
    """A file in a directory of its own."""

    to = "https://example.com/hook"
    can_hang: ClassVar[bool] = False

    def __init__(self, root: Path) -> None:
        self.directory = root / "log"
        self.directory.mkdir()
        self.path = self.directory / "webhooks.jsonl"
        self.away = root / "away"

    def connect(self) -> Provider:
        """A provider that writes to it."""
        return LogfileProvider(LogfileOptions(path=str(self.path), timeout_seconds=self.timeout_seconds))

    async def accept(self) -> None:
        """Put the directory back, and the file where it was."""
        if self.away.exists():
            self.away.rename(self.directory)
        if self.path.is_dir():
            self.path.rmdir()

    async def refuse(self) -> None:
        """A directory stands where the file should be."""
        self.path.mkdir()

    async def hang(self) -> None:
        """Not called, as `can_hang` is false."""

    async def vanish(self) -> None:
        """The directory is gone, as when a disk is not mounted."""
        self.directory.rename(self.away)

    def arrived(self) -> Sequence[str]:
        """The keys in the file."""
        return keys(self.path)


class TestLogfileProvider(ProviderContract):
    """Every law of a provider."""

    @asynccontextmanager
    async def far_side(self) -> AsyncIterator[FarSide]:
        """A new file."""
        with TemporaryDirectory() as root:
            yield File(Path(root))


def keys(path: Path) -> list[str]:
    """The keys in the file, in order."""
    return [json.loads(line)["key"] for line in path.read_text().splitlines()] if path.is_file() else []


async def send(path: Path, key: str) -> Outcome:
    """Send through a provider that has just been started."""
    provider = LogfileProvider(LogfileOptions(path=str(path)))
    return await provider.send(Rendered(body="{}"), to="https://example.com/", tenant="acme", idempotency_key=key)


async def test_a_key_is_written_once_even_across_a_restart(tmp_path: Path) -> None:
    """The file is the memory."""
    path = tmp_path / "log.jsonl"

    outcomes = [await send(path, key) for key in ("a", "b", "a")]

    assert outcomes == [Accepted()] * 3
    assert keys(path) == ["a", "b"]


async def test_a_line_that_a_crash_left_unfinished_is_cut_off(tmp_path: Path) -> None:
    """Its delivery was not accepted, so it comes again."""
    path = tmp_path / "log.jsonl"
    path.write_text('{"key":"a"}\n{"key":"b","ten')

    await send(path, "b")

    assert keys(path) == ["a", "b"]

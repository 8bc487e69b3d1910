"""Why a class takes nothing from the log, and the wait for the end of that."""

import asyncio
import contextlib
from collections.abc import Collection
from typing import Final, Literal, get_args

HoldReason = Literal["brake", "directive"]
"""Why a class is held: too much of what it reads is unreadable, or a person said so."""

IdleReason = HoldReason | Literal["guard"]
"""Why an intake takes nothing: its class is held, or every provider of its channel refuses."""

IDLE_REASONS: Final[tuple[IdleReason, ...]] = ("guard", *get_args(HoldReason))


class Holds:
    """The reasons why one intake takes nothing at the moment; there may be several at once."""

    def __init__(self) -> None:
        self._reasons: set[IdleReason] = set()
        self._changed = asyncio.Event()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._reasons)

    @property
    def reasons(self) -> Collection[IdleReason]:
        """All that there are."""
        return self._reasons

    def add(self, reason: IdleReason) -> None:
        """There is one more. Safe to repeat."""
        self._reasons.add(reason)

    def remove(self, reason: IdleReason) -> None:
        """There is one less. Harmless when it was none."""
        if reason in self._reasons:
            self._reasons.remove(reason)
            self._changed.set()

    async def wait_for_change(self, *, timeout_seconds: float) -> None:
        """Until a reason is gone, or the time is over."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_seconds)

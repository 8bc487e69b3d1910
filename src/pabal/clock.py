"""Time as an argument: the wall clock, and a boot-time clock for leases.

Instants are aware UTC `datetime`s. Leases are counted on a clock that no operator can step and that goes on
while the machine sleeps; it starts anew at each boot, so it always travels with the boot's id.
"""

import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the time is. Safe to call from any thread."""

    @property
    def boot_id(self) -> str:
        """Names this boot of the machine; instants of `boot_seconds` compare only under one id."""
        ...

    def now(self) -> datetime:
        """The wall clock, aware, UTC."""
        ...

    def boot_seconds(self) -> float:
        """Seconds since boot, sleep included; never steps back within one boot."""
        ...


class SystemClock:
    """The machine's clocks."""

    def __init__(self) -> None:
        self.boot_id = _read_boot_id()

    def now(self) -> datetime:
        """See `Clock.now`."""
        return datetime.now(UTC)

    def boot_seconds(self) -> float:
        """See `Clock.boot_seconds`. CLOCK_BOOTTIME where there is one (Linux), else the monotonic clock."""
        return time.clock_gettime(_BOOT_CLOCK)


class ManualClock:
    """A clock that moves when told to, for tests; its boot id changes with `reboot`."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.boot_id = "boot-1"
        self._now = start
        self._boot_seconds = 1000.0

    def now(self) -> datetime:
        """See `Clock.now`."""
        return self._now

    def boot_seconds(self) -> float:
        """See `Clock.boot_seconds`."""
        return self._boot_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._now += timedelta(seconds=seconds)
        self._boot_seconds += seconds

    def reboot(self) -> None:
        """Start the boot-time clock anew under a new id."""
        self.boot_id = f"boot-{int(self.boot_id.removeprefix('boot-')) + 1}"
        self._boot_seconds = 0.0


_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _read_boot_id() -> str:
    linux = Path("/proc/sys/kernel/random/boot_id")
    if linux.exists():
        return linux.read_text().strip()
    # Elsewhere: the boot's instant to the minute, the same for every process of this boot (RFC 9562 namespace use).
    started = int((time.time() - time.clock_gettime(_BOOT_CLOCK)) // 60)
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"boot:{started}"))

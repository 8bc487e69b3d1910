"""The machine's clocks, ahead by as much as a test says."""

from datetime import datetime, timedelta

from pabal.clock import SystemClock


class ShiftedClock(SystemClock):
    """Goes as the machine's clocks do, `ahead` of them."""

    ahead = timedelta()

    def now(self) -> datetime:
        return super().now() + self.ahead

    def boot_seconds(self) -> float:
        return super().boot_seconds() + self.ahead.total_seconds()

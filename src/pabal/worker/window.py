"""How many records of one class may be in flight in one worker."""

import asyncio


class Window:
    """At most `most` records in flight. A full window is open again once a quarter of it is free: to poll again for
    each single record that ends would cost a poll per record."""

    def __init__(self, most: int) -> None:
        self.in_flight = 0
        self._most = most
        self._low_water = most * 3 // 4
        self._has_room = asyncio.Event()

    @property
    def room(self) -> int:
        """How many records more may be taken; not above 0: none."""
        return self._most - self.in_flight

    def take(self, count: int) -> None:
        """So many records were taken."""
        self.in_flight += count

    def end(self) -> None:
        """One record has ended."""
        self.in_flight -= 1
        if self.in_flight <= self._low_water:
            self._has_room.set()

    async def wait_for_room(self, *, timeout_seconds: float) -> bool:
        """Until a quarter of the window is free. Returns whether it is; False: the time was over first."""
        self._has_room.clear()
        try:
            await asyncio.wait_for(self._has_room.wait(), timeout_seconds)
        except TimeoutError:
            return False
        return True

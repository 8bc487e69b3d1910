"""The store as the API reads it: look-ups find what the recorder has folded so far, and say how far it is behind."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import Final, TypeVar

from pabal.api.problems import RequestRefused, log_unavailable
from pabal.broker.port import Admin
from pabal.clock import Clock
from pabal.errors import LogError
from pabal.groups import RECORDER_GROUP
from pabal.store.port import Store

MAX_WAIT_SECONDS: Final = 4.0
"""How long a look-up may wait for the recorder: less than the 5 s that a server which stops gives to requests under way
(`pabal.serving`), so that no waiting look-up is cut off."""

MOST_WAITING: Final = 20
"""Look-ups of one tenant that may wait at a time in one process; one more is answered at once, as without `wait`. Each
asks the store four times a second, and hundreds would slow down what is accepted beside them."""

LAG_TIMEOUT_SECONDS: Final = 2.0
LAG_FOR_SECONDS: Final = 0.25
"""How long a measured lag stands: many look-ups of what is not there cost the log one question."""

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.25

T = TypeVar("T")


class LaggingStore:
    """Asks the store, waits for the recorder, and measures its lag."""

    def __init__(self, store: Store | None, *, admin: Admin, topics: Collection[str], clock: Clock) -> None:
        """`store` is None where none is configured. `topics` are the topics in which a new delivery first appears."""
        self._store = store
        self._admin = admin
        self._topics = topics
        self._clock = clock
        self._lag = 0
        self._lag_until = float("-inf")
        self._asking = asyncio.Lock()
        self._waiting: Counter[str] = Counter()

    @property
    def store(self) -> Store:
        """The store. Raises RequestRefused: no_store."""
        if self._store is None:
            raise RequestRefused("no_store", "no store is configured for this API, so nothing can be looked up")
        return self._store

    async def find(self, ask: Callable[[], Awaitable[T]], *, what: str, tenant: str, wait_seconds: float) -> T:
        """What `ask` finds (anything true). It is asked again at growing intervals for as long as the caller waits.

        Raises RequestRefused: not_recorded_yet while the store is behind the log, else not_found.
        """
        found = await ask()
        if not found and wait_seconds > 0 and self._waiting[tenant] < MOST_WAITING:
            self._waiting[tenant] += 1
            try:
                found = await _ask_on(ask, wait_seconds=wait_seconds) or found
            finally:
                self._waiting[tenant] -= 1
        if not found:
            raise await self._missing(what)
        return found

    async def lag(self) -> int:
        """How many records of the log the recorder has not committed yet. Raises RequestRefused: log_unavailable."""
        try:
            async with asyncio.timeout(LAG_TIMEOUT_SECONDS), self._asking:
                if self._clock.boot_seconds() >= self._lag_until:
                    self._lag = await self._ask_lag()
                    self._lag_until = self._clock.boot_seconds() + LAG_FOR_SECONDS
                return self._lag
        except (LogError, TimeoutError):
            raise log_unavailable(
                "nothing of that id is recorded, and the log does not say whether it may be"
            ) from None

    async def _missing(self, what: str) -> RequestRefused:
        lag = await self.lag()
        if lag == 0:
            return RequestRefused("not_found", f"there is no such {what}")
        return RequestRefused(
            "not_recorded_yet",
            f"no such {what} is recorded, but the recorder is behind (records: {lag})",
            headers=[(b"retry-after", b"1")],
            lag_records=lag,
        )

    async def _ask_lag(self) -> int:
        # In this order: what is appended in between is lag, and never the other way round.
        committed = await self._admin.committed(RECORDER_GROUP, self._topics)
        watermarks = await asyncio.gather(*(self._admin.watermarks(topic) for topic in self._topics))
        return sum(
            max(0, mark.high - committed.get(partition, mark.low))
            for marks in watermarks
            for partition, mark in marks.items()
        )


async def _ask_on(ask: Callable[[], Awaitable[T]], *, wait_seconds: float) -> T | None:
    for pause in pauses(wait_seconds):
        await asyncio.sleep(pause)
        if found := await ask():
            return found
    return None


def pauses(wait_seconds: float) -> Iterator[float]:
    """Growing pauses that come to `wait_seconds` together."""
    left, pause = wait_seconds, _FIRST_PAUSE_SECONDS
    while left > 0:
        yield min(pause, left)
        left -= pause
        pause = min(pause * 1.6, _LONGEST_PAUSE_SECONDS)

"""Callers that never give up: every request keeps its idempotency key, and is made again until it is answered 202."""

import asyncio
import itertools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

import aiohttp
import msgspec

from chaos.account import Asked

_PATIENCE_SECONDS = 10.0
"""Of one try; longer than the API's own deadline, so that its 503 comes first."""

_AGAIN_AFTER_SECONDS = 0.25
"""Sooner than any `Retry-After` asks: the API has to bear that, and recovery is not measured by a caller's patience."""

To = Callable[[int], dict[str, str]]
"""Whom the nth request is for."""


class _Made(msgspec.Struct):
    id: str


class _Answer(msgspec.Struct):
    deliveries: list[_Made]


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: a tenant's key, and until when its deliveries are of use (None: as long as their class says)."""

    api_key: str
    expires_at: datetime | None = None


class Load:
    """Asks for one webhook or mail per request. `begin` as often as wanted, `finish` before it is read."""

    def __init__(self, *, port: int, api_key: str) -> None:
        self.accepted: dict[str, Asked] = {}
        """Per delivery id answered with 202."""
        self.refused: Counter[str] = Counter()
        """Tries that were not, by status or kind of error."""
        self.unhinted = 0
        """Answers 503 and 429 that did not say when to come again."""
        self._url = f"http://127.0.0.1:{port}/v1/notifications"
        self._api_key = api_key
        self._run = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()
        self._ending = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def burst(
        self, count: int, *, to: To, connections: int = 32, send_at: datetime | None = None, as_: Caller | None = None
    ) -> None:
        """Begin to ask `count` times, as fast as that many callers get answers."""
        turns = iter(range(count))
        for _ in range(min(connections, count)):
            self._spawn(self._call_in_turn(turns, to=to, send_at=send_at, as_=as_ or Caller(api_key=self._api_key)))

    def steady(self, rate: float, *, to: To, callers: int = 64) -> None:
        """Begin to ask `rate` times a second, until `finish`; callers who are all busy ask later."""
        self._spawn(self._pace(rate, to=to, free=asyncio.Semaphore(callers)))

    async def finish(self) -> None:
        """Begin nothing more, and wait until everything begun was accepted. Raises what no caller expects."""
        self._ending.set()
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def answered(self) -> None:
        """Wait until every burst was accepted. Raises what no caller expects."""
        await asyncio.gather(*self._tasks)

    def stop(self) -> None:
        """Give up: for runs that have failed."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        # One that failed stays, so that `finish` raises it.
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)

    async def _call_in_turn(self, turns: Iterator[int], *, to: To, send_at: datetime | None, as_: Caller) -> None:
        more = {"send_at": send_at, "expires_at": as_.expires_at}
        times = {name: time.isoformat() for name, time in more.items() if time is not None}
        async with self._session(as_.api_key) as http:
            for _ in turns:
                await self._insist(http, next(self._numbers), to=to, times=times)

    async def _pace(self, rate: float, *, to: To, free: asyncio.Semaphore) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        async with self._session(self._api_key) as http, asyncio.TaskGroup() as calls:

            async def call(number: int) -> None:
                try:
                    await self._insist(http, number, to=to)
                finally:
                    free.release()

            for turn in itertools.count():
                await asyncio.sleep(max(began + turn / rate - loop.time(), 0.0))
                if self._ending.is_set():
                    return
                await free.acquire()
                calls.create_task(call(next(self._numbers)))

    async def _insist(self, http: aiohttp.ClientSession, number: int, *, to: To, times: Mapping[str, str] = {}) -> None:
        """One request until it is accepted."""
        first_asked = time.time_ns()
        body = {"to": [to(number)], "class": "standard", "content": {"title": f"Order {number}", "body": "shipped"}}
        body |= times
        headers = {"idempotency-key": f"{self._run}-{number:08d}"}
        while True:
            try:
                async with http.post(self._url, json=body, headers=headers) as answer:
                    text = await answer.read()
                    if answer.status == 202:
                        self._accept(text, first_asked_ns=first_asked)
                        return
                    self._refuse(answer, text)
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                self.refused[type(error).__name__] += 1
            await asyncio.sleep(_AGAIN_AFTER_SECONDS)

    def _accept(self, text: bytes, *, first_asked_ns: int) -> None:
        now = time.time_ns()
        for made in msgspec.json.decode(text, type=_Answer).deliveries:
            self.accepted[made.id] = Asked(first_asked_ns=first_asked_ns, accepted_ns=now)

    def _refuse(self, answer: aiohttp.ClientResponse, text: bytes) -> None:
        if answer.status not in (429, 503):
            raise UnexpectedAnswer(f"{answer.status}: {text[:500].decode(errors='replace')}")
        self.refused[str(answer.status)] += 1
        self.unhinted += "Retry-After" not in answer.headers

    def _session(self, api_key: str) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            headers={"authorization": f"Bearer {api_key}"},
            timeout=aiohttp.ClientTimeout(total=_PATIENCE_SECONDS),
            connector=aiohttp.TCPConnector(limit=0),
        )


class UnexpectedAnswer(Exception):
    """The API refused for good what it ought to take."""

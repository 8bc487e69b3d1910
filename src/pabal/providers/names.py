"""Host names to addresses: look-ups that end, one at a time for each name, each answer shared and remembered.

c-ares asks the name servers, without a thread per question. So a name without an answer holds up nothing but its own
calls, however many such names there are. c-ares reads `/etc/hosts`, `/etc/resolv.conf` (servers, search domains and
`ndots`) and the order of `/etc/nsswitch.conf`, and asks for IPv4 and IPv6. Tenants need no shares of it: a look-up
costs its own call's slot and a few hundred bytes.
"""

import asyncio
import math
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import aiodns

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""The addresses of a host name, none or several, IPv4 and IPv6 as text. Raises socket.gaierror."""

_FOUND_SECONDS: Final = 10.0
_FAILED_SECONDS: Final = 5.0
"""RFC 9520 §3.2: a failure is remembered for a second at least; well below a ladder's rungs, which try again."""
_REMEMBERED: Final = 2048
_TRY_SECONDS: Final = 1.0
"""What c-ares waits for a server in its first round; it doubles that in each that follows."""
_ROUNDS: Final = 2

_SAID: Final[Mapping[int, tuple[int, str]]] = {
    aiodns.error.ARES_ENOTFOUND: (socket.EAI_NONAME, "Name or service not known"),
    aiodns.error.ARES_ENODATA: (socket.EAI_NONAME, "nothing found"),
    aiodns.error.ARES_EBADNAME: (socket.EAI_NONAME, "not a host name"),
    aiodns.error.ARES_ETIMEOUT: (socket.EAI_AGAIN, "no name server answered in time"),
    aiodns.error.ARES_ECONNREFUSED: (socket.EAI_AGAIN, "no name server is there"),
    aiodns.error.ARES_ESERVFAIL: (socket.EAI_AGAIN, "the name server failed"),
    aiodns.error.ARES_EREFUSED: (socket.EAI_AGAIN, "the name server refused"),
}


class NameServers:
    """A `Lookup` that asks the name servers of this machine. For one event loop."""

    def __init__(self, **settings: Any) -> None:
        """`settings` of c-ares' channel, for tests: `servers`, `udp_port`, `timeout`. Opens nothing yet."""
        self._settings = {"timeout": _TRY_SECONDS, "tries": _ROUNDS, **settings}
        self._resolver: aiodns.DNSResolver | None = None

    async def __call__(self, name: str) -> Sequence[str]:
        """See `Lookup`."""
        if self._resolver is None:
            self._resolver = aiodns.DNSResolver(**self._settings)
        try:
            found = await self._resolver.getaddrinfo(name, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            raise socket.gaierror(*_SAID.get(error.args[0], (socket.EAI_FAIL, "the look-up failed"))) from None
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
        return [_address(node.addr) for node in found.nodes]

    async def close(self) -> None:
        """Let go of the sockets. Idempotent."""
        resolver, self._resolver = self._resolver, None
        if resolver is not None:
            await resolver.close()


def _address(found: tuple[Any, ...]) -> str:
    address, *_, scope = (*found, 0) if len(found) == 2 else found
    text = address.decode() if isinstance(address, bytes) else str(address)
    return f"{text}%{scope}" if scope else text


class Names:
    """What names stand for, as lately asked. Calls that ask for one name at the same time share one question."""

    def __init__(self, lookup: Lookup, *, deadline_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """`deadline_seconds`: of one question, however many calls wait for it."""
        self._lookup = lookup
        self._now = now
        self._deadline_seconds = deadline_seconds
        self._under_way: dict[str, asyncio.Task[Sequence[str]]] = {}
        self._known: OrderedDict[str, tuple[float, Sequence[str] | socket.gaierror]] = OrderedDict()
        """Until when (as `now` says), and what."""

    async def addresses(self, name: str) -> Sequence[str]:
        """Its addresses, at least one. Raises socket.gaierror."""
        until, known = self._known.get(name, (-math.inf, ()))
        if until > self._now():
            if isinstance(known, socket.gaierror):
                raise socket.gaierror(*known.args)
            return known
        question = self._under_way.get(name)
        if question is None:
            question = self._under_way[name] = asyncio.create_task(self._ask(name))
            question.add_done_callback(_look_at)
        # A call that gives up does not end the question of the others.
        return await asyncio.shield(question)

    async def close(self) -> None:
        """End the questions under way: the calls that wait for them are cancelled. Idempotent."""
        questions = list(self._under_way.values())
        for question in questions:
            question.cancel()
        await asyncio.gather(*questions, return_exceptions=True)

    async def _ask(self, name: str) -> Sequence[str]:
        try:
            async with asyncio.timeout(self._deadline_seconds):
                found = await self._lookup(name)
            if not found:
                raise socket.gaierror(socket.EAI_NONAME, "nothing found")
        except TimeoutError:
            failure = socket.gaierror(socket.EAI_AGAIN, "no name server answered in time")
            self._remember(name, failure, seconds=_FAILED_SECONDS)
            raise failure from None
        except socket.gaierror as failure:
            self._remember(name, failure, seconds=_FAILED_SECONDS)
            raise
        finally:
            del self._under_way[name]
        self._remember(name, found, seconds=_FOUND_SECONDS)
        return found

    def _remember(self, name: str, what: Sequence[str] | socket.gaierror, *, seconds: float) -> None:
        self._known.pop(name, None)
        self._known[name] = (self._now() + seconds, what)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def _look_at(question: asyncio.Task[Sequence[str]]) -> None:
    """Looks at a failure that no call waits for any more, so that asyncio does not warn of it."""
    if not question.cancelled():
        question.exception()

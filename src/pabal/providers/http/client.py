"""The HTTP client of providers: one request, also to a URL that a stranger chose, and what is known of its outcome.

Two things are its own:

* **The guard.** Every address is judged when the socket to it is made: the very address that is then connected to.
  Literal addresses, every candidate of a name, and a name that answers differently the second time (DNS rebinding)
  pass through the same gate. Redirects are not followed and proxies of the environment are not used, so there is no way
  around it.
* **Whether the request may have left.** A failure before the message is handed to the transport is `Unsent`, whatever
  it was. A failure after that and before a status is `Unanswered`.

The connections are aiohttp's (pool, TLS, the race between IPv4 and IPv6). The message is written here: it always looks
the same, and `ClientSession` takes longer over it than all the rest of a call (docs/why.md). `reading` reads the answer
and bounds what it may cost; `names` looks names up.
"""

import asyncio
import functools
import math
import os
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from pabal.deadlines import Deadlines
from pabal.providers.addresses import AddressGuard
from pabal.providers.http.exchange import (
    SNIPPET_BYTES,
    Exchange,
    Forbidden,
    HttpAnswer,
    HttpBody,
    Method,
    NotAUrl,
    Unanswered,
    Unsent,
)
from pabal.providers.http.reading import AnswerReader, Connector, Kept, NoAnswer
from pabal.providers.names import Lookup, Names, NameServers

_DRAIN_SECONDS = 1.0
"""How long the rest of an answer is waited for once its status is known."""
_KEEPALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which Node, Apache httpd and uvicorn hang up on an idle connection: a request written
into a connection that is being closed has an unknown outcome."""
_TARGETS = 2048
_CONNECTIONS_TRIED = 3
"""For one call: on a connection of the pool, something may have come meanwhile."""
_NO_HEADERS: Mapping[str, str] = {}
_BREAKS_HEAD = re.compile(r"[\r\n\0]")
"""What would end a line of the message's head early (RFC 9112 §2.2, RFC 9110 §5.5)."""


class HttpClient:
    """Calls any URL that the guard lets through. For one event loop; any number of concurrent calls.

    `timeout_seconds` bounds a call as a whole; connecting may take half of it, so that an endpoint that is slow to
    reach is still given time to answer. The number of connections is not bounded here: the caller bounds its calls.
    """

    def __init__(
        self,
        *,
        guard: AddressGuard,
        timeout_seconds: float,
        user_agent: str,
        tls: ssl.SSLContext | None = None,
        lookup: Lookup | None = None,
        kept_bytes: int = SNIPPET_BYTES,
        kept_headers: Sequence[str] = (),
    ) -> None:
        """`tls`: which authorities to trust (None: the system's). `lookup`: of host names (None: `NameServers`).

        `kept_bytes` and `kept_headers`: what an answer keeps of its body (at most 64 KiB are read) and of its head.
        Opens nothing yet.
        """
        self._guard = guard
        self._connecting = aiohttp.ClientTimeout(
            connect=timeout_seconds / 2,
            ceil_threshold=math.inf,  # else aiohttp rounds up to whole seconds, beyond what was promised
        )
        self._deadlines = Deadlines(timeout_seconds)
        self._user_agent = user_agent
        self._tls = tls
        self._kept = Kept.of(body_bytes=kept_bytes, headers=kept_headers)
        self._resolver = _GuardedResolver(guard, lookup=lookup, deadline_seconds=timeout_seconds / 2)
        self._connector: Connector | None = None
        self._closed = False
        self._target = functools.lru_cache(_TARGETS)(self._make_target)

    async def request(
        self, method: Method, url: str, *, body: HttpBody | None = None, headers: Mapping[str, str] = _NO_HEADERS
    ) -> Exchange:
        """Send one request; the URL is used as it is spelt.

        Raises only on cancellation, on use after `close`, and ValueError for a header that would break the head.
        """
        connector = self._open()
        try:
            target = self._target(method, url)
        except ValueError:
            return NotAUrl()
        message = _message(target.head, body=body, headers=headers)
        may_have_left = False
        try:
            with self._deadlines.start() as deadline:
                connection, transport, reader = await self._connect(connector, target)
                try:
                    may_have_left = True
                    reader.expect()
                    transport.write(message)
                    head = await reader.read_head()
                except BaseException:
                    _drop(connection)
                    raise
        except (aiohttp.ClientError, NoAnswer, TimeoutError, OSError) as error:
            return _failure(error, may_have_left=may_have_left)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # This call was not cancelled: `close` cancels the look-ups, and so the calls that wait for them.
                return Unsent(reason="the client was closed")
            raise
        try:
            start = await reader.read_start(until=min(asyncio.get_running_loop().time() + _DRAIN_SECONDS, deadline.at))
        finally:
            # A connection that still carries this exchange is of no use to another.
            if reader.is_reusable and not transport.get_write_buffer_size():
                connection.release()
            else:
                _drop(connection)
        return HttpAnswer(status=head.status, headers=head.headers, body=start)

    async def close(self) -> None:
        """Let go of the connections; calls under way end as failures. Idempotent."""
        self._closed = True
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()
        await self._resolver.close()

    def _open(self) -> Connector:
        if self._connector is None:
            if self._closed:
                raise RuntimeError("the HTTP client is closed")
            # Made at the first call because it belongs to the running loop.
            self._connector = Connector(
                kept=self._kept,
                limit=0,
                keepalive_timeout=_KEEPALIVE_SECONDS,
                use_dns_cache=False,  # `Names` has one, which remembers failures too
                resolver=self._resolver,
                socket_factory=functools.partial(_guarded_socket, guard=self._guard),
                ssl=self._tls or True,
            )
        return self._connector

    async def _connect(
        self, connector: Connector, target: "_Target"
    ) -> tuple[aiohttp.connector.Connection, asyncio.Transport, AnswerReader]:
        """A connection on which nothing has come yet, and its two ends. Raises what connecting raises."""
        for _ in range(_CONNECTIONS_TRIED):
            connection = await connector.connect(target.request, [], self._connecting)
            ends = _ready(connection)
            if ends is not None:
                return connection, *ends
            _drop(connection)
        raise aiohttp.ClientConnectionError("closed, or spoken on, before the first byte")

    def _make_target(self, method: Method, url: str) -> "_Target":
        """Raises ValueError: it is no absolute http or https URL."""
        parsed = URL(url, encoded=True)  # As it is spelt: requoting could break a signature in the query.
        if parsed.scheme not in ("http", "https") or _BREAKS_HEAD.search(url):
            raise ValueError(url)
        request = aiohttp.ClientRequest(method, parsed, loop=asyncio.get_running_loop())
        lines = [f"{method} {parsed.raw_path_qs} HTTP/1.1", f"User-Agent: {self._user_agent}"]
        # Authorization: of a URL with a user name and a password.
        lines += [f"{name}: {request.headers[name]}" for name in ("Host", "Authorization") if name in request.headers]
        return _Target(request=request, head="\r\n".join(lines))


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """A URL: how it is connected to, and how every message to it begins."""

    request: aiohttp.ClientRequest
    head: str


def _message(head: str, *, body: HttpBody | None, headers: Mapping[str, str]) -> bytes:
    lines = [head]
    if body is not None:
        lines += (f"Content-Type: {body.content_type}", f"Content-Length: {len(body.content)}")
    for name, value in headers.items():
        if _BREAKS_HEAD.search(name) or _BREAKS_HEAD.search(value):
            raise ValueError(f"header {name!r} holds a line's end: {value!r}")
        lines.append(f"{name}: {value}")
    message = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return message if body is None else message + body.content


def _ready(connection: aiohttp.connector.Connection) -> tuple[asyncio.Transport, AnswerReader] | None:
    """The two ends of a connection on which nothing has come yet; None: it cannot be used."""
    reader = connection.protocol
    transport = connection.transport
    if reader is None or transport is None or reader.should_close or transport.is_closing():
        return None
    assert isinstance(reader, AnswerReader), "made by our connector"
    return transport, reader


def _drop(connection: aiohttp.connector.Connection) -> None:
    """Close it, without a wait for what the far side does not take: that would keep the socket for ever."""
    transport = connection.transport
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()
    connection.close()


class _ForbiddenAddress(OSError):
    """The guard refuses the address; an OSError, as that is what aiohttp expects of a socket."""


def _guarded_socket(address_info: tuple[Any, ...], *, guard: AddressGuard) -> socket.socket:
    family, type_, protocol, _, address = address_info
    refusal = guard.refusal(address[0])
    if refusal is not None:
        raise _ForbiddenAddress(refusal)
    return socket.socket(family=family, type=type_, proto=protocol)


class _GuardedResolver(AbstractResolver):
    """Drops refused addresses, so that a name with one good address among them is connected to without a detour;
    the guard proper is the one at the socket."""

    def __init__(self, guard: AddressGuard, *, lookup: Lookup | None, deadline_seconds: float) -> None:
        self._guard = guard
        self._servers = NameServers()
        self._names = Names(lookup or self._servers, deadline_seconds=deadline_seconds)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        del family  # we ask for any
        found = await self._names.addresses(host)
        refusals = [self._guard.refusal(address) for address in found]
        if all(refusals):
            raise _ForbiddenAddress(refusals[0])
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address, refusal in zip(found, refusals, strict=True)
            if refusal is None
        ]

    async def close(self) -> None:
        await self._names.close()
        await self._servers.close()


def _failure(error: Exception, *, may_have_left: bool) -> Exchange:
    if may_have_left:
        return Unanswered(reason=_describe_loss(error))
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    match cause:
        case _ForbiddenAddress():
            return Forbidden(kind=str(cause))
        case _:
            return Unsent(reason=_describe_refusal(cause))


def _describe_loss(error: Exception) -> str:
    match error:
        case TimeoutError():
            return "no answer in time"
        case NoAnswer():
            return str(error)
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before an answer"
        case _:
            return "the connection broke before an answer"


def _describe_refusal(error: Exception) -> str:
    # Words of ours and of the system's tables only: aiohttp's texts name the addresses of the network we stand in.
    match error:
        case TimeoutError():
            return "no connection in time"
        case ssl.SSLCertVerificationError():
            return f"TLS: the certificate is not valid: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case socket.gaierror():
            return f"the host name has no address: {error.strerror}"
        case OSError(errno=int(number)) if number > 0:
            return f"no connection: {os.strerror(number)}"
        case _:
            return "no connection"

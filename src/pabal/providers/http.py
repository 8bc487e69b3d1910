"""HTTP for providers: posts to URLs that strangers chose, and says exactly what is known about the outcome.

The one place that knows aiohttp. Two things are its own:

* **The guard.** Every address is judged when the socket to it is made, by the very address that is then connected
  to: literal addresses, every candidate of a name, and a name that answers differently the second time (DNS
  rebinding) pass through the same gate. Redirects are not followed and proxies of the environment are not used,
  so there is no way around it.
* **Whether the request may have left.** A failure before the message is handed to the transport is `Unsent`, whatever
  it was; one after it and before a status is `Unanswered`.

Of aiohttp it takes the connections (pool, look-ups, TLS) and the parser of answers. The message it writes by itself:
it always looks the same, and `ClientSession` takes longer over it than all the rest of a call (docs/why.md).
"""

import asyncio
import functools
import math
import os
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from yarl import URL

from pabal.deadlines import Deadlines
from pabal.providers.addresses import AddressGuard

SNIPPET_BYTES = 2048
"""How much of an answer is kept for the timeline."""
_DRAIN_BYTES = 64 * 1024
"""How much of an answer is read so that its connection can be used again; a longer one costs the connection."""
_DRAIN_SECONDS = 1.0
"""How long the rest of an answer is waited for once its status is known."""
_KEEPALIVE_SECONDS = 4.0
"""Shorter than the 5 s after which Node, Apache httpd and uvicorn hang up on an idle connection: a request written
into a connection that is being closed has an unknown outcome."""
_DNS_THREADS = 16
_HEADER_BYTES = 64 * 1024
"""Longest line of an answer's head; some send security policies beyond aiohttp's 8 KiB."""
_TARGETS = 2048
_CONNECTIONS_TRIED = 3
"""For one call: of those in the pool some may have been spoken on meanwhile."""
_BREAKS_HEAD = re.compile(r"[\r\n\0]")
"""What would end a line of the message's head early (RFC 9112 §2.2, RFC 9110 §5.5)."""


class Answer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The far side answered. `snippet`: the first 2 KiB of the body, as far as it came in time."""

    status: int
    retry_after: str | None
    snippet: bytes


class Forbidden(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was sent: the guard refuses every address of the host. `kind`: what the first of them is."""

    kind: str


class NotAUrl(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was sent, and nothing can be: this is no absolute http or https URL."""


class Unsent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nothing was sent: no address, no connection, no TLS, or no time left."""

    reason: str


class Unanswered(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Bytes of the request may have arrived, and no readable status came back."""

    reason: str


Exchange = Answer | Forbidden | NotAUrl | Unsent | Unanswered

Lookup = Callable[..., list[tuple[Any, ...]]]
"""`socket.getaddrinfo`, or what a test puts in its place."""


class HttpClient:
    """Posts to any URL that the guard lets through. For one event loop; any number of concurrent calls.

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
        lookup: Lookup = socket.getaddrinfo,
    ) -> None:
        """`tls`: whom to trust (None: the system's authorities). Opens nothing yet."""
        self._guard = guard
        self._connecting = aiohttp.ClientTimeout(
            connect=timeout_seconds / 2,
            ceil_threshold=math.inf,  # else aiohttp rounds up to whole seconds, beyond what was promised
        )
        self._deadlines = Deadlines(timeout_seconds)
        self._user_agent = user_agent
        self._tls = tls
        self._resolver = _GuardedResolver(guard, lookup=lookup)
        self._connector: aiohttp.TCPConnector | None = None
        self._closed = False
        self._target = functools.lru_cache(_TARGETS)(self._make_target)

    async def post(self, url: str, *, body: bytes, content_type: str, headers: Mapping[str, str]) -> Exchange:
        """Post once; the URL is used as it is spelt.

        Raises only on cancellation, on use after `close`, and ValueError for a header that would break the head.
        """
        connector = self._open()
        try:
            target = self._target(url)
        except ValueError:
            return NotAUrl()
        message = _message(target.head, body=body, content_type=content_type, headers=headers)
        may_have_left = False
        try:
            with self._deadlines.start() as deadline:
                connection, transport, protocol = await self._connect(connector, target)
                try:
                    may_have_left = True
                    transport.write(message)
                    answer, content = await _read_head(protocol)
                except BaseException:
                    _drop(connection)
                    raise
        except (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError) as error:
            return _failure(error, may_have_left=may_have_left)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._closed and task is not None and not task.cancelling():
                # Nobody cancelled this call: closing cancels the look-ups, and they tell those who wait for them so.
                return Unsent(reason="the client was closed")
            raise
        try:
            snippet = await _read_start(content, deadline=deadline.at)
        finally:
            # A connection that still carries this exchange is of no use to another.
            if content.is_eof() and not transport.get_write_buffer_size():
                connection.release()
            else:
                _drop(connection)
        return Answer(status=answer.code, retry_after=answer.headers.get("Retry-After"), snippet=snippet)

    async def close(self) -> None:
        """Let go of the connections; calls under way end as failures. Idempotent."""
        self._closed = True
        connector, self._connector = self._connector, None
        if connector is not None:
            await connector.close()
        await self._resolver.close()

    def _open(self) -> aiohttp.TCPConnector:
        if self._connector is None:
            if self._closed:
                raise RuntimeError("the HTTP client is closed")
            # Made at the first call because it belongs to the running loop.
            self._connector = aiohttp.TCPConnector(
                limit=0,
                keepalive_timeout=_KEEPALIVE_SECONDS,
                resolver=self._resolver,
                socket_factory=functools.partial(_guarded_socket, guard=self._guard),
                ssl=self._tls or True,
            )
        return self._connector

    async def _connect(
        self, connector: aiohttp.TCPConnector, target: "_Target"
    ) -> tuple[aiohttp.connector.Connection, asyncio.Transport, ResponseHandler]:
        """A connection on which nothing has come yet, and its two ends. Raises what connecting raises."""
        for _ in range(_CONNECTIONS_TRIED):
            connection = await connector.connect(target.request, [], self._connecting)
            ends = _ready(connection)
            if ends is not None:
                return connection, *ends
            _drop(connection)
        raise aiohttp.ClientConnectionError("closed, or spoken on, before the first byte")

    def _make_target(self, url: str) -> "_Target":
        """Raises ValueError: it is no absolute http or https URL."""
        parsed = URL(url, encoded=True)  # As it is spelt: requoting could break a signature in the query.
        if parsed.scheme not in ("http", "https") or _BREAKS_HEAD.search(url):
            raise ValueError(url)
        request = aiohttp.ClientRequest("POST", parsed, loop=asyncio.get_running_loop())
        lines = [f"POST {parsed.raw_path_qs} HTTP/1.1", f"User-Agent: {self._user_agent}"]
        # Authorization: of a URL with a user name and a password.
        lines += [f"{name}: {request.headers[name]}" for name in ("Host", "Authorization") if name in request.headers]
        return _Target(request=request, head="\r\n".join(lines))


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """A URL: how it is connected to, and how every message to it begins."""

    request: aiohttp.ClientRequest
    head: str


def _message(head: str, *, body: bytes, content_type: str, headers: Mapping[str, str]) -> bytes:
    lines = [head, f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    for name, value in headers.items():
        if _BREAKS_HEAD.search(name) or _BREAKS_HEAD.search(value):
            raise ValueError(f"header {name!r} holds a line's end: {value!r}")
        lines.append(f"{name}: {value}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _ready(connection: aiohttp.connector.Connection) -> tuple[asyncio.Transport, ResponseHandler] | None:
    """The two ends of a connection, set to parse one answer; None: it cannot be used.

    What has come before the request is no answer to it. The pool does not look: a far side that answers twice would
    give each delivery the answer to the one before, for as long as the connection lasts.
    """
    protocol = connection.protocol
    transport = connection.transport
    if protocol is None or transport is None or protocol.should_close:
        return None
    protocol.set_response_params(
        read_until_eof=True,
        auto_decompress=False,  # an answer of 2 KiB may inflate to anything
        max_line_size=_HEADER_BYTES,
        max_field_size=_HEADER_BYTES,
    )
    # What came on a new connection is parsed only now.
    return None if transport.is_closing() or protocol.should_close else (transport, protocol)


def _drop(connection: aiohttp.connector.Connection) -> None:
    """Close it, without a wait for what the far side does not take: that would keep the socket for ever."""
    transport = connection.transport
    if transport is not None and transport.get_write_buffer_size():
        transport.abort()
    connection.close()


async def _read_head(protocol: ResponseHandler) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
    while True:
        answer, content = await protocol.read()
        # What is provisional says nothing yet (RFC 9110 §15.2).
        if not 100 <= answer.code < 200 or answer.code == 101:
            return answer, content


class _ForbiddenAddress(OSError):
    """The guard refuses the address; an OSError, as that is what aiohttp expects of a socket."""


def _guarded_socket(address_info: tuple[Any, ...], *, guard: AddressGuard) -> socket.socket:
    family, type_, protocol, _, address = address_info
    refusal = guard.refusal(address[0])
    if refusal is not None:
        raise _ForbiddenAddress(refusal)
    return socket.socket(family=family, type=type_, proto=protocol)


class _GuardedResolver(AbstractResolver):
    """Looks names up in threads of its own, so that dead name servers hold up nothing but look-ups.

    Drops refused addresses, so that a name with one good address among them is connected to without a detour;
    the guard proper is the one at the socket.
    """

    def __init__(self, guard: AddressGuard, *, lookup: Lookup) -> None:
        self._guard = guard
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(_DNS_THREADS, thread_name_prefix="pabal-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = functools.partial(
            self._lookup, host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG
        )
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "nothing found")
        refusals = [self._guard.refusal(address[0]) for *_, address in found]
        if all(refusals):
            raise _ForbiddenAddress(refusals[0])
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=family,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for (family, _, protocol, _, address), refusal in zip(found, refusals, strict=True)
            if refusal is None
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _read_start(content: aiohttp.StreamReader, *, deadline: float) -> bytes:
    """The beginning of the body; the rest is read away in bounds, so that the connection can be used again."""
    kept = b""
    try:
        if content.is_eof():
            return content.read_nowait(SNIPPET_BYTES)
        async with asyncio.timeout_at(min(asyncio.get_running_loop().time() + _DRAIN_SECONDS, deadline)):
            read = 0
            while read < _DRAIN_BYTES and (chunk := await content.readany()):
                kept += chunk[: SNIPPET_BYTES - len(kept)]
                read += len(chunk)
    except Exception:  # noqa: S110
        # The status is the answer; what becomes of the rest of the body, or how it breaks off, changes nothing.
        pass
    return kept


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
        case HttpProcessingError():
            return "the answer is not HTTP"
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

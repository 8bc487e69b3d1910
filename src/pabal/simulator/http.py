"""The HTTP side: one small protocol per connection, fast enough never to be the bottleneck of a measurement."""

import asyncio
import socket
import struct
from collections import deque
from functools import lru_cache
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from pabal.simulator.behaviour import HttpBehaviour
from pabal.simulator.control import refuse_stranger
from pabal.simulator.received import ReceivedRequests
from pabal.simulator.script import Script

CONTROL_PREFIX = "/_control"
_WELL = HttpBehaviour()
_SLOW_PIECES = 20
# With a zero linger time `close` sends RST instead of FIN (socket(7), SO_LINGER).
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Control(Protocol):
    """Answers control calls; see `control.py`."""

    async def respond(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Status and JSON body."""
        ...


class HttpConnection(asyncio.Protocol):
    """One client's connection: answers its requests in order, as the script says.

    With `script=None` it is a control connection: it knows the control calls only.
    """

    def __init__(
        self, *, script: Script | None, received: ReceivedRequests, control: Control, connections: set["HttpConnection"]
    ) -> None:
        self._script = script
        self._received = received
        self._control = control
        self._connections = connections
        self._parser = httptools.HttpRequestParser(self)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._key: bytes | None = None
        self._due: deque[tuple[float, HttpBehaviour, bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.gone = asyncio.Event()

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; a half-open provider reads nothing from it."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.add(self)
        if self._script is not None and is_half_open(self._script):
            # uvloop begins to read after this call returns, so pausing has to wait until then.
            self._loop.call_soon(self.freeze)

    def data_received(self, data: bytes) -> None:
        """Parse; the parser calls back."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.write(_render(400, b"not an HTTP request\n", close=True))
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget what was still to be answered."""
        del error
        self.gone.set()
        self._connections.discard(self)
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()

    # What the parser calls

    def on_message_begin(self) -> None:
        """Clear what the request before left."""
        self._headers = []
        self._body = b""
        self._key = None

    def on_url(self, url: bytes) -> None:
        """The target; may come in pieces only for one longer than a read."""
        self._target = url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep it; one of the two key headers is the idempotency key, `webhook-id` before `idempotency-key`."""
        self._headers.append((name, value))
        length = len(name)
        if (length == 10 and name.lower() == b"webhook-id") or (
            length == 15 and self._key is None and name.lower() == b"idempotency-key"
        ):
            self._key = value

    def on_body(self, body: bytes) -> None:
        """Usually one piece."""
        self._body += body

    def on_message_complete(self) -> None:
        """Decide, answer, count: in that order, so that request N is still answered by the phase it ends."""
        target = self._target.decode("latin-1")
        keep_alive = self._parser.should_keep_alive()
        if self._script is None or target.startswith(CONTROL_PREFIX):
            method = self._parser.get_method().decode("latin-1")
            refusal = refuse_stranger(self._headers, address=self._transport.get_extra_info("sockname")[0])
            self._spawn(self._answer_control(method, target, self._body, refusal=refusal, keep_alive=keep_alive))
            return
        behaviour = self._script.http(target) or _WELL
        if not self._due and behaviour.latency_seconds == 0 and behaviour.answer == "respond":
            self._write(behaviour, keep_alive=keep_alive)
        else:
            self._due.append((self._loop.time() + behaviour.latency_seconds, behaviour, keep_alive))
            self._arm()
        answer = f"http {behaviour.status if behaviour.answer == 'respond' else behaviour.answer}"
        self._received.request(
            self._key,
            answer=answer,
            path=target,
            headers=self._headers,
            body=self._body,
            is_refused=behaviour.status >= 300 and behaviour.answer in ("respond", "slow_body"),
        )
        self._script.count_request()

    # What the simulator calls when the phase changes

    def freeze(self) -> None:
        """Read nothing more."""
        if not self.gone.is_set():
            self._transport.pause_reading()

    def thaw(self) -> None:
        """Read again."""
        if not self.gone.is_set():
            self._transport.resume_reading()

    def cut(self) -> None:
        """Close, without what was still to be answered."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is still to be written."""
        self._transport.abort()

    # Answering

    def _arm(self) -> None:
        """Answer the head of the line when it is due; a head that hangs is never due."""
        if self._timer is None and self._due and self._due[0][1].answer != "hang":
            self._timer = self._loop.call_at(self._due[0][0], self._answer_head)

    def _answer_head(self) -> None:
        self._timer = None
        _, behaviour, keep_alive = self._due[0]
        if behaviour.answer == "slow_body":
            self._spawn(self._drip(behaviour))
            return
        self._due.popleft()
        if behaviour.answer == "reset":
            reset(self._transport)
            return
        self._write(behaviour, keep_alive=keep_alive)
        self._arm()

    def _write(self, behaviour: HttpBehaviour, *, keep_alive: bool) -> None:
        self._transport.write(_response(behaviour, keep_alive))
        if not keep_alive:
            self._transport.close()

    async def _drip(self, behaviour: HttpBehaviour) -> None:
        """Head at once, the body in equal pieces over its time; then the connection is closed."""
        body = behaviour.body.encode() or b"." * _SLOW_PIECES
        whole = _render(behaviour.status, body, close=True, retry_after=behaviour.retry_after_seconds)
        self._transport.write(whole[: len(whole) - len(body)])
        size = -(-len(body) // _SLOW_PIECES)
        pieces = [body[start : start + size] for start in range(0, len(body), size)]
        for piece in pieces:
            await asyncio.sleep(behaviour.body_seconds / len(pieces))
            self._transport.write(piece)
        self._transport.close()

    async def _answer_control(
        self, method: str, target: str, body: bytes, *, refusal: tuple[int, bytes] | None, keep_alive: bool
    ) -> None:
        status, answer = refusal or await self._control.respond(method, target, body)
        content_type = b"application/json" if status < 400 else b"application/problem+json"
        self._transport.write(_render(status, answer, close=not keep_alive, content_type=content_type))
        if not keep_alive:
            self._transport.close()

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def is_half_open(script: Script) -> bool:
    """Whether the HTTP listener accepts and never reads."""
    return any(behaviour.answer == "half_open" for behaviour in script.phase.http)


def reset(transport: asyncio.BaseTransport) -> None:
    """Cut the connection with a TCP RST."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    cast("asyncio.Transport", transport).abort()


@lru_cache(maxsize=64)
def _response(behaviour: HttpBehaviour, keep_alive: bool) -> bytes:  # noqa: FBT001 (lru_cache is fastest this way)
    return _render(
        behaviour.status, behaviour.body.encode(), close=not keep_alive, retry_after=behaviour.retry_after_seconds
    )


def _render(
    status: int,
    body: bytes,
    *,
    close: bool,
    retry_after: int | None = None,
    content_type: bytes = b"text/plain; charset=utf-8",
) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Simulated"
    lines = [b"HTTP/1.1 %d %s" % (status, phrase.encode())]
    if status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
        lines.append(b"content-length: %d" % len(body))
        if body:
            lines.append(b"content-type: " + content_type)
    else:
        body = b""  # RFC 9110 §6.4.1: these have no content
    if retry_after is not None:
        lines.append(b"retry-after: %d" % retry_after)
    if close:
        lines.append(b"connection: close")
    return b"\r\n".join((*lines, b"", body))

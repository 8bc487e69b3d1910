"""One connection of a caller: uvicorn's protocol on httptools, with bounds.

It is built on uvicorn's own class. The insides of that class are no public interface: `pyproject.toml` allows only
releases that our tests have seen. What is overridden: the four moments of the transport, and the parser's callbacks.
"""

import asyncio
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from pabal.serving.limits import Limits
from pabal.serving.refusal import RefusalCode, render
from pabal.serving.turns import Turns

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_ONCE: Final = frozenset({b"authorization", b"content-encoding", b"content-length", b"host", b"idempotency-key"})
"""Fields of which two cannot both be meant (RFC 9110 §5.3: none of them is a list)."""

_MOST_LINGERING: Final = 64
"""Refused connections that are kept for a moment; of more, the answer may be lost on the way."""

_WARN_EVERY_SECONDS: Final = 60.0

logger = logging.getLogger(__name__)


class BoundedConfig(uvicorn.Config):
    """Uvicorn's settings, and the bounds of each connection."""

    limits: Limits
    lingering: set["BoundedConnection"]
    """Refused connections that are about to be closed. Not among uvicorn's own, which count."""
    turns: Turns
    """Begins the requests of all connections."""
    warned_at: float = float("-inf")
    """When it was last said that there is no more room."""


class BoundedConnection(HttpToolsProtocol):
    """See the module. All times are the event loop's clock."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, BoundedConfig)
        self._bounds = config
        self._limits = config.limits
        self._lingering = config.lingering
        self._flaw: tuple[RefusalCode, str] | None = None
        self._last_words: bytes | None = None
        self._is_over = False
        # Since when each of these lasts; None: it does not.
        self._head_since: float | None = None
        self._body_since: float | None = None
        self._idle_since: float | None = None
        self._unread_since: float | None = None
        self._over_since: float | None = None
        self._head_bytes = 0
        self._is_split = False
        self._framing_bytes = 0
        self._unwanted_bytes = 0
        self._has_body = False

    # The transport's moments

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or say that there is no room for it."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        if len(self.connections) > self._limits.connections:
            self.connections.discard(self)
            self._refuse("too_many_connections", f"this process serves at most {self._limits.connections} at once")
            self._warn_full()

    def data_received(self, data: bytes) -> None:
        """Count, then parse."""
        if self._is_over:
            self._ignore(data)
            return
        if self._head_since is None and self._body_since is None:
            self._head_since = self.loop.time()
            self._idle_since = None
        # No more at once than a head may have: so a head that lies within a piece is within its bound.
        most = self._limits.head_bytes
        if len(data) <= most:
            self._parse(data)
            return
        for start in range(0, len(data), most):
            if self._is_over:
                return
            self._parse(data[start : start + most])

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._is_over = True
        self._lingering.discard(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The caller does not read its answer."""
        self._unread_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._unread_since = None
        super().resume_writing()

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """Another head begins, perhaps in the middle of a piece."""
        super().on_message_begin()
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field is complete: of the head, or after a chunked body. Instead of uvicorn's own: it is called often."""
        if self._body_since is not None:
            self._flaw = ("trailers_refused", f"the field {_shown(name)} comes after the body")
            raise _Flawed
        if len(self.headers) >= self._limits.fields:
            self._flaw = ("head_too_large", f"the head has more than {self._limits.fields} fields")
            raise _Flawed
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The head is complete: judge it, then begin to answer."""
        if self._is_split and len(self.url) + _size(self.headers) > self._limits.head_bytes:
            # Begun behind another request, where its first bytes could not be counted.
            self._flaw = self._too_large()
            raise _Flawed
        names = [name for name, _ in self.headers]
        if len(names) != len(set(names)):
            for name in _ONCE.intersection(names):
                if names.count(name) > 1:
                    self._flaw = ("repeated_field", f"the field {_shown(name)} occurs twice; which is meant?")
                    raise _Flawed
        if len(self.pipeline) >= self._limits.pipelined:
            self._flaw = ("malformed_request", f"more than {self._limits.pipelined} requests wait for their answers")
            raise _Flawed
        super().on_headers_complete()
        self._head_since = None
        self._body_since = self.loop.time()
        self._framing_bytes = self._unwanted_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._has_body = True
        if self.cycle.response_complete:
            self._unwanted_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._body_since = None
        self._head_bytes = 0
        self._is_split = False
        super().on_message_complete()
        if self.cycle.response_complete:
            self._idle_since = self.loop.time()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        """Begin to answer a request, in its turn."""
        self._bounds.turns.begin(functools.partial(super()._start_asgi_task, cycle, app))

    def on_response_complete(self) -> None:
        """Go on with the next request that waits; after the last, with the last words if there are any."""
        # Instead of uvicorn's own, which sets a timer for each answer. `give_up_if_overdue` needs none.
        self.server_state.total_requests += 1
        if not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
                return
        if self._is_over:
            self._say_last_words()
        elif self._body_since is None and self._head_since is None:
            self._idle_since = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Uvicorn's way of refusing what it cannot parse."""
        self._refuse("malformed_request", msg)

    # Overdue

    def give_up_if_overdue(self, now: float) -> None:
        """Close what has waited too long; called about twice a second."""
        limits = self._limits
        if _lasts(self._over_since, limits.linger_seconds, now) or _lasts(
            self._unread_since, limits.unread_seconds, now
        ):
            self.transport.abort()
        elif self._is_over:
            return
        elif self.flow.read_paused:
            # This process does not read; the caller is not late.
            self._head_since = None if self._head_since is None else now
            self._body_since = None if self._body_since is None else now
        elif _lasts(self._head_since, limits.head_seconds, now):
            if self._head_bytes or self._owes_answers():
                self._refuse("head_timeout", f"the head was not complete after {limits.head_seconds:g} s")
            else:
                self._close()  # not a word was said
        elif _lasts(self._body_since, limits.body_seconds, now):
            self._break_off("body_timeout", f"the body was not complete after {limits.body_seconds:g} s")
        elif _lasts(self._idle_since, limits.idle_seconds, now):
            self._close()

    # Privates

    def _parse(self, data: bytes) -> None:
        if self._head_since is not None and self._head_bytes + len(data) > self._limits.head_bytes:
            # What is over the bound may be the body; the head is parsed up to the bound first.
            room = self._limits.head_bytes - self._head_bytes
            if room > 0:
                self._feed(data[:room])
                data = data[room:]
            if self._is_over:
                return
            if self._head_since is not None and self._head_bytes >= self._limits.head_bytes:
                self._refuse(*self._too_large())
                return
        self._feed(data)

    def _feed(self, data: bytes) -> None:
        if self._head_since is not None:
            self._head_bytes += len(data)
        self._has_body = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Nothing here speaks another protocol. The request is answered as it is, and is the last.
            self._end_after_answers(None)
            return
        except httptools.HttpParserError as error:
            code, detail = self._flaw or ("malformed_request", f"it cannot be parsed: {error}"[:200])
            self._break_off(code, detail)
            return
        if self._head_since is not None:
            self._is_split = True
        elif self._body_since is not None:
            self._framing_bytes = 0 if self._has_body else self._framing_bytes + len(data)
            if self._framing_bytes > self._limits.framing_bytes:
                self._break_off("malformed_request", "a chunk's length or extension is too long")
            elif self._unwanted_bytes > self._limits.unwanted_bytes:
                self._end_after_answers(None)

    def _break_off(self, code: RefusalCode, detail: str) -> None:
        """Refuse, also in the middle of a body: its request is not answered otherwise any more."""
        cycle = self.cycle
        if self._body_since is None or cycle is None or cycle.response_complete:
            self._refuse(code, detail)
            return
        self._body_since = None
        if cycle.response_started:
            self._end_after_answers(None)
            return
        waiting = [each for each in self.pipeline if each[0] is cycle]
        for each in waiting:
            self.pipeline.remove(each)
        cycle.disconnected = True
        cycle.message_event.set()
        self._end_after_answers(render(code, detail), are_owed=bool(waiting))

    def _refuse(self, code: RefusalCode, detail: str) -> None:
        self._end_after_answers(render(code, detail))

    def _end_after_answers(self, last_words: bytes | None, *, are_owed: bool | None = None) -> None:
        """Take nothing more; say `last_words` (None: nothing) after the answers that are owed, and close."""
        if self._is_over:
            return
        self._is_over = True
        self._head_since = self._idle_since = self._body_since = None
        self._last_words = last_words
        if not (self._owes_answers() if are_owed is None else are_owed):
            self._say_last_words()

    def _owes_answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _say_last_words(self) -> None:
        if self.transport.is_closing():
            return
        if self._last_words is not None:
            self.transport.write(self._last_words)
        if len(self._lingering) >= _MOST_LINGERING:
            self.transport.close()
            return
        # The caller may still be sending. Closed with bytes unread, the connection would be reset, and the answer lost.
        self.connections.discard(self)
        self._lingering.add(self)
        self._over_since = self.loop.time()
        self.transport.write_eof()
        self.flow.resume_reading()

    def _close(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()  # the caller does not even take the last answer
        else:
            self.transport.close()

    def _ignore(self, data: bytes) -> None:
        self._unwanted_bytes += len(data)
        if self._unwanted_bytes <= self._limits.unwanted_bytes:
            return
        if self._over_since is None:
            self.flow.pause_reading()  # answers are still owed
        else:
            self.transport.abort()

    def _warn_full(self) -> None:
        now = self.loop.time()
        if now - self._bounds.warned_at > _WARN_EVERY_SECONDS:
            self._bounds.warned_at = now
            logger.warning(
                "%d connections are open, others are told to come again; raise the limit of file descriptors, or look "
                "at what keeps them open",
                self._limits.connections,
            )

    def _too_large(self) -> tuple[RefusalCode, str]:
        return "head_too_large", f"the head has more than {self._limits.head_bytes} bytes"


class _Flawed(Exception):
    """Makes the parser stop; `BoundedConnection._flaw` says why."""


def _lasts(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since > seconds


def _size(fields: Sequence[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + len(b": \r\n") for name, value in fields)


def _shown(name: bytes) -> str:
    return name[:64].decode("latin-1")

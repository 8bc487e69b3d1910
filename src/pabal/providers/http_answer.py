"""Reads the answer to one request from a connection, and no byte more than that takes.

httptools tells of each part as it parses it; so the head of an answer is known whatever is wrong with what follows it,
also when both come in one read (RFC 9112 §6.3). A head that breaks off is no answer (RFC 9112 §8), nor is one whose
length is no number, or two: such an answer is to be discarded (RFC 9112 §6.3).

What a far side may cost is bounded before it is spent: the bytes of a head with all that is provisional before it, the
number of provisional answers, the bytes of a body. Of a body only the beginning is kept. On a connection without a
request under way nothing is read: the first byte ends it.
"""

import asyncio
import functools
from typing import Any

import aiohttp
import httptools
import msgspec
from aiohttp.client_proto import ResponseHandler

SNIPPET_BYTES = 2048
"""How much of an answer is kept for the timeline."""
HEAD_BYTES = 64 * 1024
"""Longest head, with the provisional answers before it; some send security policies far beyond the usual 8 KiB."""
MOST_PROVISIONAL = 8
"""Provisional answers (RFC 9110 §15.2) before the one that counts; a request that expects none gets one at most."""
BODY_BYTES = 64 * 1024
"""How much of a body is read so that its connection can be used again; a longer one costs the connection."""


class NoAnswer(Exception):
    """What came is no answer; the message says why, in words of ours."""


class Head(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an answer's head says."""

    status: int
    retry_after: str | None


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool of connections, each of which is read by an `AnswerReader`."""

    def __init__(self, **settings: Any) -> None:
        """`settings`: those of `TCPConnector`. Made inside the running loop."""
        super().__init__(**settings)
        self._factory = functools.partial(AnswerReader, loop=self._loop)  # type: ignore[assignment]


class AnswerReader(ResponseHandler):
    """The reading end of one connection, for one exchange after the other.

    `expect`, then the request is written; `read_head`; `read_start`. Then `is_reusable` says whether another exchange
    may follow. A failure of the connection comes out of `read_head`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._http: Any = None
        self._head_arrived: asyncio.Future[Head] | None = None
        """None: no exchange is under way."""
        self._ended: asyncio.Future[None] | None = None
        """Made by who waits for the end of the body."""
        self._head: Head | None = None
        self._is_over = False
        self._is_reusable = False

    @property
    def should_close(self) -> bool:
        """Whether the pool must not take it back: of a connection whose exchange is not over cleanly."""
        return self._should_close or not (self._head_arrived is None or self._is_reusable)

    @property
    def is_reusable(self) -> bool:
        """Whether the answer came to its end, and nothing after it."""
        return self._is_reusable and not self._should_close

    def expect(self) -> None:
        """Begin an exchange: from now on what comes is the answer to it."""
        if self._http is None:
            self._http = httptools.HttpResponseParser(self)
            # Of an answer whose status is plain nobody is helped by its being refused for a stray control character.
            self._http.set_dangerous_leniencies(
                lenient_headers=True,
                lenient_chunked_length=True,  # of two framings the chunks hold (RFC 9112 §6.3)
                lenient_optional_cr_before_lf=True,
                lenient_spaces_after_chunk_size=True,
            )
        self._head_arrived = self._loop.create_future()
        self._ended = None
        self._head = None
        self._is_over = self._is_reusable = False
        self._retry_after: bytes | None = None
        self._provisional = 0
        self._head_room = HEAD_BYTES
        self._body_room = BODY_BYTES
        self._kept = b""

    async def read_head(self) -> Head:
        """The head of the answer that counts. Raises NoAnswer, OSError, aiohttp.ClientError."""
        assert self._head_arrived is not None
        return await self._head_arrived

    async def read_start(self, *, until: float) -> bytes:
        """The beginning of the body; waits for its end until then (the loop's time), and no longer."""
        if not self._is_over:
            self._ended = self._loop.create_future()
            try:
                async with asyncio.timeout_at(until):
                    await self._ended
            except TimeoutError:
                # The status is the answer; the rest of the body changes nothing.
                self._end(reusable=False)
        return self._kept

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._head_arrived is None or self._is_over:
            # Nobody asked for this. Taken for an answer it would be that of the next delivery.
            self._is_reusable = False
            self.force_close()
            if self.transport is not None:
                self.transport.abort()
            return
        if self._head is None:
            data = self._feed_head(data)
        if data and not self._is_over:
            self._body_room -= len(data)
            self._feed(data[: max(self._body_room + len(data), 0)])
            if self._body_room < 0 and not self._is_over:
                self._end(reusable=False)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._http = None  # It knows this object, and would keep it until the garbage is collected.
        if self._head_arrived is not None and not self._is_over:
            self._fail(exc if isinstance(exc, OSError) else aiohttp.ServerDisconnectedError())

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Raises _Enough: a second answer begins."""
        if self._head is not None:
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the first `Retry-After`."""
        if len(name) == 11 and self._retry_after is None and name.lower() == b"retry-after":
            self._retry_after = value

    def on_headers_complete(self) -> None:
        """Raises _Enough: one provisional answer too many."""
        status = self._http.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._retry_after = None
            self._provisional += 1
            if self._provisional > MOST_PROVISIONAL:
                raise _Enough
            return
        self._head = Head(status=status, retry_after=_text(self._retry_after))
        assert self._head_arrived is not None
        if not self._head_arrived.done():
            self._head_arrived.set_result(self._head)

    def on_body(self, body: bytes) -> None:
        """Keeps the beginning."""
        if len(self._kept) < SNIPPET_BYTES:
            self._kept += body[: SNIPPET_BYTES - len(self._kept)]

    def on_message_complete(self) -> None:
        """The end of the answer, unless it was a provisional one."""
        if self._head is not None:
            self._end(reusable=self._http.should_keep_alive())

    def _feed_head(self, data: bytes) -> bytes:
        """Feed as much as a head may still take; returns the rest."""
        first, rest = data[: self._head_room], data[self._head_room :]
        self._head_room -= len(first)
        self._feed(first)
        if self._head is None and not self._head_room:
            self._fail(NoAnswer(f"the head of the answer is longer than {HEAD_BYTES // 1024} KiB"))
        return rest

    def _feed(self, data: bytes) -> None:
        try:
            self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._stop()

    def _stop(self) -> None:
        """Nothing more can be read from here. What is known already holds."""
        if self._head is None:
            too_many = self._provisional > MOST_PROVISIONAL
            self._fail(
                NoAnswer(f"more than {MOST_PROVISIONAL} provisional answers" if too_many else "the answer is not HTTP")
            )
        self._end(reusable=False)

    def _end(self, *, reusable: bool) -> None:
        self._is_over, self._is_reusable = True, reusable
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _fail(self, error: Exception) -> None:
        assert self._head_arrived is not None
        if not self._head_arrived.done():
            self._head_arrived.set_exception(error)
        self._end(reusable=False)


class _Enough(Exception):
    """Ends the parsing from inside."""


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1").strip()

"""Reads the answer to one request from a connection, and no byte more than that takes.

httptools tells of each part as it parses it; so the head of an answer is known whatever is wrong with what follows it,
also when both come in one read (RFC 9112 §6.3). A head that breaks off is no answer (RFC 9112 §8), nor is a head whose
length is no number, or two numbers: such an answer is to be discarded (RFC 9112 §6.3).

What a far side may cost is bounded before it is spent: the bytes of a head with all that is provisional before it, the
number of provisional answers, the bytes of a body. Of a body only the beginning is kept. On a connection without a
request under way nothing is read: the first byte ends it.
"""

import asyncio
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import httptools
import msgspec
from aiohttp.client_proto import ResponseHandler

HEAD_BYTES = 64 * 1024
"""Longest head, with the provisional answers before it; some send security policies far beyond the usual 8 KiB."""
MOST_PROVISIONAL = 8
"""Provisional answers (RFC 9110 §15.2) before the answer that counts. A request that expects none gets one at most."""
BODY_BYTES = 64 * 1024
"""How much of a body is read so that its connection can be used again; a longer one costs the connection."""

_NONE: Mapping[str, str] = {}


class NoAnswer(Exception):
    """What came is no answer; the message says why, in words of ours."""


class AnswerHead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an answer's head says. `headers`: the fields that are kept, by their names in small letters."""

    status: int
    headers: Mapping[str, str]


class Kept(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of an answer: the first bytes of its body, and the first field of each of these header names."""

    body_bytes: int
    headers: frozenset[bytes]
    """In small letters."""

    @classmethod
    def of(cls, *, body_bytes: int, headers: Sequence[str]) -> "Kept":
        """`Retry-After` is always kept."""
        names = frozenset(name.lower().encode("ascii") for name in ("retry-after", *headers))
        return cls(body_bytes=body_bytes, headers=names)


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool of connections, each of which is read by an `AnswerReader`."""

    def __init__(self, *, kept: Kept, **settings: Any) -> None:
        """`settings`: those of `TCPConnector`. Made inside the running loop."""
        super().__init__(**settings)
        self._factory = functools.partial(AnswerReader, kept, loop=self._loop)  # type: ignore[assignment]


class AnswerReader(ResponseHandler):
    """The reading end of one connection, for one exchange after the other.

    `expect`, then the request is written; `read_head`; `read_start`. Then `is_reusable` says whether another exchange
    may follow. A failure of the connection comes out of `read_head`.
    """

    def __init__(self, kept: Kept, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._answer = AnswerParser(kept)
        self._head_arrived: asyncio.Future[AnswerHead] | None = None
        """None: no exchange is under way."""
        self._ended: asyncio.Future[None] | None = None
        """Made by the task that waits for the end of the body."""

    @property
    def should_close(self) -> bool:
        """Whether the pool must not take it back: of a connection whose exchange is not over cleanly."""
        return self._should_close or not (self._head_arrived is None or self._answer.may_be_followed)

    @property
    def is_reusable(self) -> bool:
        """Whether the answer came to its end, and nothing after it."""
        return self._answer.may_be_followed and not self._should_close

    def expect(self) -> None:
        """Begin an exchange: from now on what comes is the answer to it."""
        self._answer.begin()
        self._head_arrived = self._loop.create_future()
        self._ended = None

    async def read_head(self) -> AnswerHead:
        """The head of the answer that counts. Raises NoAnswer, OSError, aiohttp.ClientError."""
        assert self._head_arrived is not None
        return await self._head_arrived

    async def read_start(self, *, until: float) -> bytes:
        """The beginning of the body; waits for its end until then (the loop's time), and no longer."""
        if not self._answer.is_over:
            self._ended = self._loop.create_future()
            try:
                async with asyncio.timeout_at(until):
                    await self._ended
            except TimeoutError:
                # The status is the answer; the rest of the body changes nothing.
                self._answer.end(may_be_followed=False)
        return self._answer.body

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        answer, head_arrived = self._answer, self._head_arrived
        if head_arrived is None or answer.is_over:
            # No request asked for this. Taken for an answer it would be the answer to the next delivery's.
            self.force_close()
            if self.transport is not None:
                self.transport.abort()
            return
        answer.feed(data)
        if not head_arrived.done():
            if answer.head is not None:
                head_arrived.set_result(answer.head)
            elif answer.failure is not None:
                head_arrived.set_exception(NoAnswer(answer.failure))
        if answer.is_over:
            self._say_that_it_is_over()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        is_cut_short = self._head_arrived is not None and not self._answer.is_over
        self._answer.close()
        if is_cut_short:
            assert self._head_arrived is not None
            if not self._head_arrived.done():
                self._head_arrived.set_exception(exc if isinstance(exc, OSError) else aiohttp.ServerDisconnectedError())
            self._say_that_it_is_over()

    def _say_that_it_is_over(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class AnswerParser:
    """The answers on one connection, one after the other, from their bytes. No I/O: bytes are fed, attributes tell."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._lengths = frozenset(map(len, kept.headers))
        self._http: Any = None
        self.head: AnswerHead | None = None
        """Known once the whole head is read."""
        self.failure: str | None = None
        """Why what came is no answer."""
        self.body = b""
        """Its beginning."""
        self.is_over = False
        """Whether anything more that comes belongs to this answer."""
        self.may_be_followed = False
        """Whether the answer came to its end, and its sender will take another request."""

    def begin(self) -> None:
        """The next bytes are those of a new answer."""
        if self._http is None:
            self._http = httptools.HttpResponseParser(self)
            # An answer whose status is plain is not refused for a stray control character: that would help nobody.
            self._http.set_dangerous_leniencies(
                lenient_headers=True,
                lenient_chunked_length=True,  # of two framings the chunks hold (RFC 9112 §6.3)
                lenient_optional_cr_before_lf=True,
                lenient_spaces_after_chunk_size=True,
            )
        self.head = self.failure = None
        self.body = b""
        self.is_over = self.may_be_followed = False
        self._fields: dict[bytes, bytes] = {}
        self._provisional = 0
        self._head_room = HEAD_BYTES
        self._body_room = BODY_BYTES

    def feed(self, data: bytes) -> None:
        """Take what came. Nothing beyond the bounds of a head and of a body is looked at."""
        if self.head is None:
            data = self._feed_head(data)
        if data and not self.is_over:
            self._body_room -= len(data)
            self._parse(data[: max(self._body_room + len(data), 0)])
            if self._body_room < 0 and not self.is_over:
                self.end(may_be_followed=False)

    def end(self, *, may_be_followed: bool) -> None:
        """Nothing more belongs to this answer."""
        self.is_over, self.may_be_followed = True, may_be_followed

    def close(self) -> None:
        """The connection is gone. The parser of httptools knows this object, and is let go of for the collector."""
        self._http = None
        self.is_over, self.may_be_followed = True, False

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Raises _Enough: a second answer begins."""
        if self.head is not None:
            raise _Enough

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps the first field of each name that is wanted."""
        if len(name) in self._lengths and (name := name.lower()) in self._kept.headers:
            self._fields.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """Raises _Enough: one provisional answer too many."""
        status = self._http.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._fields.clear()
            self._provisional += 1
            if self._provisional > MOST_PROVISIONAL:
                raise _Enough
            return
        fields = self._fields
        headers = {_text(name): _text(value) for name, value in fields.items()} if fields else _NONE
        self.head = AnswerHead(status=status, headers=headers)

    def on_body(self, body: bytes) -> None:
        """Keeps the beginning."""
        room = self._kept.body_bytes - len(self.body)
        if room > 0:
            self.body += body[:room]

    def on_message_complete(self) -> None:
        """The end of the answer, unless it was a provisional one."""
        if self.head is not None:
            self.end(may_be_followed=self._http.should_keep_alive())

    def _feed_head(self, data: bytes) -> bytes:
        """Feed as much as a head may still take; returns the rest."""
        first, rest = data[: self._head_room], data[self._head_room :]
        self._head_room -= len(first)
        self._parse(first)
        if self.head is None and not self._head_room:
            self._fail(f"the head of the answer is longer than {HEAD_BYTES // 1024} KiB")
        return rest

    def _parse(self, data: bytes) -> None:
        try:
            self._http.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Nothing more can be read from here. What is known already holds.
            if self.head is None:
                too_many = self._provisional > MOST_PROVISIONAL
                self._fail(
                    f"more than {MOST_PROVISIONAL} provisional answers" if too_many else "the answer is not HTTP"
                )
            self.end(may_be_followed=False)

    def _fail(self, reason: str) -> None:
        self.failure = self.failure or reason
        self.end(may_be_followed=False)


class _Enough(Exception):
    """Ends the parsing from inside."""


def _text(value: bytes) -> str:
    return value.decode("latin-1").strip()

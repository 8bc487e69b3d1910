"""Renders templates: a small template at once, a large template in a process of its own that cannot hurt this one.

An event loop serves every caller, so nothing in it may take long. Almost every template is rendered there in some
microseconds, with a small budget (`sandbox/budget.py`). A template that needs more goes to a process. The operating
system limits that process's memory and time, and nothing in a template can change that. A process that runs over its
limits ends, and the next rendering starts another.

The process is a fresh interpreter (never a fork of this one, which has threads), knows no secrets (its environment is
empty), and reads one request at a time from its standard input: JSON behind four bytes of length, and so is its answer.
"""

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, Generic, Protocol

import msgspec

from pabal.channels.content import content_type, with_content
from pabal.errors import RenderingUnavailable, TemplateError
from pabal.notification import Content, ContentT
from pabal.template import Template

MOST_SECONDS: Final = 10.0
"""How long one rendering may take. The budget ends far earlier (`WORK_APART`: a second or two), so this is for what the
budget does not see."""

MOST_MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Address space of the process; about 100 MB of it are the interpreter's own."""

MOST_WAITING: Final = 64
"""Renderings that may wait for the process; more are told to come again."""

LENGTH_BYTES: Final = 4
"""What stands before each request and each answer: its length, the highest byte first."""

_START_SECONDS: Final = 30.0


class RenderingRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One rendering for the process. `source` is the template's canonical JSON, in text."""

    name: str
    source: str
    data: dict[str, Any]


class RenderingAnswer(msgspec.Struct, Generic[ContentT], frozen=True, kw_only=True, gc=False):
    """What became of a request: the content, or an error; or that the process is ready.

    `stopped`: the error is the process's limit, and another try may end otherwise.
    """

    content: ContentT | None = None
    error: str | None = None
    stopped: bool = False


class RenderingStopped(TemplateError):
    """The process ended while it rendered: the template took more memory or more time than there is."""


class Renders(Protocol):
    """Renders what is too large for an event loop."""

    async def render(self, template: Template, data: Mapping[str, Any]) -> Content:
        """See `RenderingProcess.render`."""
        ...


class RenderingProcess:
    """One process, started when first needed. Belongs to one event loop; any number of tasks may ask."""

    def __init__(
        self,
        *,
        most_seconds: float = MOST_SECONDS,
        most_memory_bytes: int = MOST_MEMORY_BYTES,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._most_seconds = most_seconds
        self._most_memory_bytes = most_memory_bytes
        self._most_waiting = most_waiting
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def render(self, template: Template, data: Mapping[str, Any]) -> Content:
        """What the template says with this data.

        Raises:
            RenderingStopped: it took too much memory or time.
            TemplateError: it does not render with this data, or takes more work than any template may.
            RenderingUnavailable: the process cannot be started, or too many renderings wait for it.
        """
        if self._waiting >= self._most_waiting:
            raise RenderingUnavailable(f"{self._waiting} large templates wait to be rendered")
        self._waiting += 1
        try:
            async with self._turn:
                answer = await self._ask(template, data)
        finally:
            self._waiting -= 1
        if answer.content is not None:
            return answer.content
        raise (RenderingStopped if answer.stopped else TemplateError)(answer.error)

    async def close(self) -> None:
        """End the process."""
        await self._end()

    async def _ask(self, template: Template, data: Mapping[str, Any]) -> RenderingAnswer:
        request = RenderingRequest(name=template.name, source=template.source_json.decode(), data=dict(data))
        question = _encode(request)
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._most_seconds):
                process.stdin.write(len(question).to_bytes(LENGTH_BYTES, "big") + question)
                await process.stdin.drain()
                return await _read(process.stdout)
        except (TimeoutError, EOFError, ConnectionError):
            await self._end()
            most_megabytes = self._most_memory_bytes // 1024 // 1024
            raise RenderingStopped(
                f"rendering was stopped: it takes more than {self._most_seconds:g} s or {most_megabytes} MB"
            ) from None
        except BaseException:
            # Cancelled: the answer would be taken for the answer to the next request.
            await self._end()
            raise

    async def _running(self) -> asyncio.subprocess.Process:
        process = self._process
        if process is not None and process.stdout is not None:
            if process.returncode is None and not process.stdout.at_eof():
                return process
            await self._end()
        return await self._start()

    async def _start(self) -> asyncio.subprocess.Process:
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "pabal.rendering_process"),
                *(str(self._most_memory_bytes), str(self._most_seconds)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
                # Ctrl-C in a terminal is for this process, which drains before it ends the other.
                start_new_session=True,
            )
        except OSError as error:
            raise RenderingUnavailable(f"the process that renders large templates does not start: {error}") from None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                await _read(process.stdout)
        except (TimeoutError, EOFError) as error:
            await self._end()
            raise RenderingUnavailable("the process that renders large templates does not start") from error
        except BaseException:
            await self._end()
            raise
        return process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        await asyncio.shield(process.wait())


async def _read(stream: asyncio.StreamReader) -> RenderingAnswer:
    length = int.from_bytes(await stream.readexactly(LENGTH_BYTES), "big")
    return _decoder().decode(await stream.readexactly(length))


_encode = msgspec.json.Encoder().encode


@functools.cache
def _decoder() -> msgspec.json.Decoder[RenderingAnswer]:
    return msgspec.json.Decoder(with_content(RenderingAnswer, content_type()))

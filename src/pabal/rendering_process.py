"""The process that renders large templates: one request after another, within limits of the operating system.

`python -m pabal.rendering_process BYTES SECONDS`, started by `pabal.rendering` alone.
"""

import functools
import resource
import signal
import sys
from typing import BinaryIO

import msgspec

from pabal.errors import TemplateError
from pabal.rendering import LENGTH_BYTES, RenderingAnswer, RenderingRequest
from pabal.template import Template, read_template

_TEMPLATES_KEPT = 64

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(RenderingRequest).decode


def main(most_memory_bytes: int, most_seconds: float) -> None:
    """Serve until standard input ends. A rendering that takes longer than it may ends the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # It ends when its input ends: a drain elsewhere may still need it.
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (most_memory_bytes, most_memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    _answer(sink, RenderingAnswer())
    while (question := _read(source)) is not None:
        # The kernel ends the process: a long loop in C lets no handler of Python run. The parent ends it earlier; this
        # limit is for a process whose parent is gone.
        signal.setitimer(signal.ITIMER_REAL, 2 * most_seconds)
        answer = _render(question)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _answer(sink, answer)


def _render(question: bytes) -> RenderingAnswer:
    try:
        request = _decode(question)
        content = _template(request.name, request.source).render(request.data)
        # Encoded here, so that what cannot be is this rendering's error.
        _encode(content)
    except TemplateError as error:
        return RenderingAnswer(error=str(error))
    except MemoryError:
        return RenderingAnswer(error="takes more memory to render than there is for one template", stopped=True)
    except (ValueError, RecursionError) as error:
        return RenderingAnswer(error=f"does not render to text that can be sent: {error}")
    return RenderingAnswer(content=content)


@functools.lru_cache(maxsize=_TEMPLATES_KEPT)
def _template(name: str, source: str) -> Template:
    return read_template(name, source.encode())


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(LENGTH_BYTES)
    if len(head) < LENGTH_BYTES:
        return None
    return source.read(int.from_bytes(head, "big"))


def _answer(sink: BinaryIO, answer: RenderingAnswer) -> None:
    body = _encode(answer)
    sink.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    sink.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))

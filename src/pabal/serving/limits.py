"""What a caller may cost before it has asked anything."""

import contextlib
import resource
from typing import Final

import msgspec

MOST_CONNECTIONS: Final = 10_000
"""However many descriptors there are: an idle connection costs some 10 KB."""

_MOST_DESCRIPTORS: Final = 1 << 20
"""Systems that name no bound still have one; macOS refuses more than its own."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of one server. Times in seconds, sizes in bytes."""

    connections: int
    """Open at once; the next is answered with 503."""
    waiting: int
    """Connections that the kernel keeps for us until they are accepted (`listen(2)`)."""
    head_bytes: int = 64 * 1024
    """Request line and fields."""
    fields: int = 100
    pipelined: int = 100
    """Requests that wait while one is answered."""
    framing_bytes: int = 64 * 1024
    """What may come between two pieces of a chunked body: lengths, extensions."""
    unwanted_bytes: int = 1 << 20
    """Of a body whose request is answered already."""
    head_seconds: float = 10.0
    """From the first byte, or from the connection, to a complete head."""
    idle_seconds: float = 60.0
    """From an answer to the next request's first byte."""
    body_seconds: float = 30.0
    """From the head to the end of the body. The API gives up at 20 s, with an answer that knows more."""
    unread_seconds: float = 60.0
    """How long a caller may leave an answer unread."""
    linger_seconds: float = 2.0
    """How long a refused caller may go on sending, so that it can read why."""


def raise_descriptor_limit() -> int:
    """Use all file descriptors that this process is allowed (soft limit up to the hard one); how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # the system's own bound is lower still; the soft limit holds
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return descriptor_limit()


def descriptor_limit() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def limits_for(descriptors: int) -> Limits:
    """Bounds by the file descriptors that a process may have. Half are for connections. A quarter are for connections
    that are still to be told that there is no room: the kernel hands over all that wait at once. The rest are for the
    log, the ledger, the store and the calls of providers."""
    return Limits(
        connections=max(1, min(MOST_CONNECTIONS, descriptors // 2)), waiting=max(1, min(2048, descriptors // 4))
    )

"""The sockets that a command listens on: all of them before anything else, so that one message names all that fail."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

import msgspec

from pabal.errors import ConfigError


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen (`port` 0: on any free one), and the option that chooses another port."""

    host: str
    port: int
    option: str


@contextlib.contextmanager
def listen_on(places: Sequence[Place]) -> Iterator[Sequence[socket.socket]]:
    """A listening socket for each place, closed at the end. Raises as `open_sockets`."""
    sockets = open_sockets(places)
    try:
        yield sockets
    finally:
        _close(sockets)


def open_sockets(places: Sequence[Place]) -> Sequence[socket.socket]:
    """A listening socket for each place.

    Raises ConfigError naming every place that cannot be listened on, each with its option; then none is open.
    """
    sockets, refused = [], []
    for place in places:
        try:
            sockets.append(_listen(place))
        except (OSError, UnicodeError) as error:
            refused.append(f"{place.host}:{place.port} ({_reason(error)}; choose another with {place.option})")
    if refused:
        _close(sockets)
        raise ConfigError(f"cannot listen on {' and '.join(refused)}")
    return sockets


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """One listening socket. Raises ConfigError naming the `option` that would choose another port."""
    [listening] = open_sockets([Place(host=host, port=port, option=option)])
    return listening


def _reason(error: OSError | UnicodeError) -> str:
    """The system's word alone: `create_server` adds the address to it."""
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno is None:
        return str(error)
    return os.strerror(error.errno)


def _close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


def url_of_socket(listening: socket.socket) -> str:
    """Where it really listens, also when any free port was asked for."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(place: Place) -> socket.socket:
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listening = socket.create_server((place.host, place.port), family=family, backlog=2048)
    # Inherited by every connection. An answer is two writes, and without this the second waits up to 40 ms for the
    # caller's delayed acknowledgement; uvloop sets it by itself, asyncio's own loop does not for such a socket.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening

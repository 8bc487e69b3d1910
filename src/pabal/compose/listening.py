"""The sockets that a command listens on. All are opened before anything else: one error names each that fails."""

import contextlib
import os
import socket
from collections.abc import Iterator, Sequence

import msgspec

from pabal.errors import ConfigError


class SocketAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where to listen (`port` 0: on any free port), and the command's `option` that chooses another port."""

    host: str
    port: int
    option: str


@contextlib.contextmanager
def listen_on(addresses: Sequence[SocketAddress]) -> Iterator[Sequence[socket.socket]]:
    """A listening socket for each address, closed at the end. Raises as `open_sockets`."""
    sockets = open_sockets(addresses)
    try:
        yield sockets
    finally:
        _close(sockets)


def open_sockets(addresses: Sequence[SocketAddress]) -> Sequence[socket.socket]:
    """A listening socket for each address.

    Raises ConfigError naming every address that cannot be listened on, each with its option; then none is open.
    """
    sockets, refused = [], []
    for address in addresses:
        try:
            sockets.append(_listen(address))
        except (OSError, UnicodeError) as error:
            refused.append(f"{address.host}:{address.port} ({_reason(error)}; choose another with {address.option})")
    if refused:
        _close(sockets)
        raise ConfigError(f"cannot listen on {' and '.join(refused)}")
    return sockets


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """One listening socket. Raises ConfigError naming the `option` that would choose another port."""
    [listening] = open_sockets([SocketAddress(host=host, port=port, option=option)])
    return listening


def _reason(error: OSError | UnicodeError) -> str:
    """The system's own words: in the error of `create_server` the address stands beside them."""
    if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno is None:
        return str(error)
    return os.strerror(error.errno)


def _close(sockets: Sequence[socket.socket]) -> None:
    for each in sockets:
        each.close()


def url_of_socket(listening: socket.socket) -> str:
    """The URL of a listening socket, with the port that it really has."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(address: SocketAddress) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listening = socket.create_server((address.host, address.port), family=family, backlog=2048)
    # Inherited by every connection. An answer is two writes, and without this the second waits up to 40 ms for the
    # caller's delayed acknowledgement; uvloop sets it by itself, asyncio's own loop does not for such a socket.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening

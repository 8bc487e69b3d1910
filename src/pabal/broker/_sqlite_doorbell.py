"""Wakes the other processes on an embedded log, so that none of them has to poll.

Each process binds a UNIX datagram socket in one directory beside the file. Whoever has committed something sends
every other socket one byte, which says no more than "look again": a byte that is dropped because a queue is full
is not missed, since that queue still holds one to be read. A socket that refuses belongs to a process that died.
"""

import asyncio
import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

_LONGEST_PATH = 100
"""A socket's path must fit sockaddr_un: 108 bytes on Linux, 104 on the BSDs and macOS."""

_DRAIN = 64


class Doorbell:
    """One process's socket."""

    def __init__(
        self, database: Path, *, heard: Callable[[], None], found_dead: Callable[[Collection[str]], None]
    ) -> None:
        """Bind. The first `ring` is how the others learn of this process.

        Args:
            database: the log's file.
            heard: called when another process committed something.
            found_dead: called with the names of processes that died without a word.
        """
        self.name = secrets.token_hex(4)
        """Names this process on this log."""
        self._heard = heard
        self._found_dead = found_dead
        self._directory = _directory(database)
        self._directory.mkdir(mode=0o700, exist_ok=True)
        self._path = self._directory / self.name
        self._peers: list[Path] | None = None
        self._is_closed = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0)
        self._socket.bind(os.fspath(self._path))
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self._hear)

    def ring(self) -> None:
        """Have every other process look again. Does nothing after `close`."""
        if self._is_closed:
            return
        if self._peers is None:
            self._peers = [path for path in self._directory.iterdir() if path.name != self.name]
        dead = []
        for peer in self._peers:
            try:
                self._socket.sendto(b"!", os.fspath(peer))
            except BlockingIOError:
                continue  # its queue is full: it has a byte to read already
            except ConnectionRefusedError:
                dead.append(peer)
            except FileNotFoundError:
                self._peers = None  # it closed
        if dead:
            self._peers = None
            for peer in dead:
                peer.unlink(missing_ok=True)
            self._found_dead([peer.name for peer in dead])

    def forget_peers(self) -> None:
        """Look who is there before ringing next. A newcomer's own ring does this too."""
        self._peers = None

    def close(self) -> None:
        """Unbind."""
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _hear(self) -> None:
        for _ in range(_DRAIN):
            try:
                self._socket.recv(1)
            except BlockingIOError:
                break
        self._peers = None
        self._heard()


def _directory(database: Path) -> Path:
    """Beside the file, where whoever can reach that can reach this (a private /tmp hides sockets); if the path
    is too long for a socket, in the directory for temporary files."""
    beside = database.with_name(f"{database.name}-wake")
    if len(os.fsencode(beside)) < _LONGEST_PATH - len("/01234567"):
        return beside
    digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"pabal-{digest}"

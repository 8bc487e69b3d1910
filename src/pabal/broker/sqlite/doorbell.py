"""Wakes the other processes on an embedded log, so that none of them has to poll.

Each process binds a UNIX datagram socket in one directory beside the file. Whoever has committed something sends
every other socket one byte, which says no more than "look again": a byte that is dropped because a queue is full
is not missed, since that queue still holds one to be read. A socket that refuses belongs to a process that died.

The bell only saves time: each process looks for itself every few seconds (`log.py`). So nothing that goes wrong
with it may stop a commit. A ring that fails is logged once and lost; a directory or socket that was deleted is made
anew by `mend`.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

logger = logging.getLogger(__name__)

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
        self._path = self._directory / self.name
        self._peers: list[Path] | None = None
        self._is_closed = False
        self._has_failed = False
        self._loop = asyncio.get_running_loop()
        self._socket = self._bind()
        self._loop.add_reader(self._socket, self._hear)

    def ring(self) -> None:
        """Have every other process look again. Does nothing after `close`. Never raises."""
        if self._is_closed:
            return
        try:
            self._ring()
        except OSError as error:
            # No free descriptor to read the directory with, or it was deleted.
            self._failed(error)
        else:
            self._has_failed = False

    def mend(self) -> None:
        """Look who is there before ringing next (a newcomer's own ring does this too). Come back to a place that was
        deleted. Never raises."""
        self._peers = None
        if self._is_closed or self._path.exists():
            return
        try:
            fresh = self._bind()
        except OSError as error:
            self._failed(error)
            return
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = fresh
        self._loop.add_reader(self._socket, self._hear)
        self.ring()

    def close(self) -> None:
        """Unbind."""
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        self._socket.close()
        with contextlib.suppress(OSError):  # no process answers to the name; the next ring there removes it
            self._path.unlink(missing_ok=True)

    def _bind(self) -> socket.socket:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            bound.settimeout(0)
            bound.bind(os.fspath(self._path))
        except BaseException:
            bound.close()
            raise
        return bound

    def _ring(self) -> None:
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
            except OSError as error:
                # One peer's socket that cannot be written to keeps the byte from no other.
                self._failed(error)
        if dead:
            self._peers = None
            for peer in dead:
                peer.unlink(missing_ok=True)
            self._found_dead([peer.name for peer in dead])

    def _failed(self, error: OSError) -> None:
        self._peers = None
        if not self._has_failed:
            self._has_failed = True
            logger.warning("other processes learn of commits later, the bell in %s failed: %s", self._directory, error)

    def _hear(self) -> None:
        for _ in range(_DRAIN):
            try:
                self._socket.recv(1)
            except OSError:  # nothing more to read, or nothing that says more than "look"
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

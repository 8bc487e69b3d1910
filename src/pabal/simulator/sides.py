"""The sides of the simulator: a listening socket each, and the connections that were made to it."""

import asyncio
from collections.abc import Sequence

from pabal.simulator.behaviour import HttpBehaviour, SmtpBehaviour
from pabal.simulator.http import Control, HttpConnection
from pabal.simulator.listening_socket import ListeningSocket
from pabal.simulator.received import ReceivedRequests
from pabal.simulator.script import Script
from pabal.simulator.smtp import LINE_LIMIT, SmtpConversation

_BACKLOG = 1024


class HttpSide:
    """Answers HTTP as the script says; with `script=None`, control calls alone."""

    def __init__(
        self, *, host: str, port: int, script: Script | None, received: ReceivedRequests, control: Control
    ) -> None:
        self.socket = ListeningSocket(port, open=self._open)
        self._host = host
        self._script = script
        self._received = received
        self._control = control
        self._connections: set[HttpConnection] = set()

    def apply(self, behaviours: Sequence[HttpBehaviour]) -> None:
        """Bring the socket and the open connections to what these behaviours ask for."""
        is_half_open = any(behaviour.answer == "half_open" for behaviour in behaviours)
        for connection in self._connections:
            if is_half_open:
                connection.freeze()
            else:
                connection.thaw()
        if any(behaviour.answer == "refuse" for behaviour in behaviours):
            self.socket.close()
            for connection in self._connections:
                connection.cut()
        else:
            self.socket.open_soon()

    async def close(self) -> None:
        """Stop listening, cut every connection and wait until all are gone; idempotent."""
        self.socket.stop()
        connections = tuple(self._connections)
        for connection in connections:
            connection.abort()
        await asyncio.gather(*(connection.gone.wait() for connection in connections))

    async def _open(self, port: int) -> asyncio.Server:
        return await asyncio.get_running_loop().create_server(
            lambda: HttpConnection(
                script=self._script, received=self._received, control=self._control, connections=self._connections
            ),
            self._host,
            port,
            backlog=_BACKLOG,
        )


class SmtpSide:
    """Converses in SMTP as the script says."""

    def __init__(self, *, host: str, port: int, script: Script, received: ReceivedRequests) -> None:
        self.socket = ListeningSocket(port, open=self._open)
        self._host = host
        self._script = script
        self._received = received
        self._writers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._thawed = asyncio.Event()

    def apply(self, behaviours: Sequence[SmtpBehaviour]) -> None:
        """Bring the socket and the open connections to what these behaviours ask for."""
        if any(behaviour.answer == "half_open" for behaviour in behaviours):
            self._thawed.clear()
        else:
            self._thawed.set()
        if any(behaviour.answer == "refuse" for behaviour in behaviours):
            self.socket.close()
            self._cut()
        else:
            self.socket.open_soon()

    async def close(self) -> None:
        """Stop listening, cut every connection and wait until all are gone; idempotent."""
        self.socket.stop()
        self._cut()
        await asyncio.gather(*self._writers, return_exceptions=True)

    def _cut(self) -> None:
        for task, writer in self._writers.items():
            writer.transport.abort()
            task.cancel()

    async def _open(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._converse, self._host, port, limit=LINE_LIMIT, backlog=_BACKLOG)

    def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = SmtpConversation(
            reader, writer, script=self._script, received=self._received, thawed=self._thawed
        )
        task = asyncio.get_running_loop().create_task(conversation.run())
        self._writers[task] = writer
        task.add_done_callback(lambda done: self._writers.pop(done).close())

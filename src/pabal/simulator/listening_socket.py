"""A listening socket that can be closed and opened again on the same port."""

import asyncio
from collections.abc import Awaitable, Callable


class ListeningSocket:
    """`open` is called with the port (0 the first time, perhaps) and returns the server; `port` is kept."""

    def __init__(self, port: int, *, open: Callable[[int], Awaitable[asyncio.Server]]) -> None:  # noqa: A002
        self.port = port
        self._open = open
        self._server: asyncio.Server | None = None
        self._wanted = False
        self._one_at_a_time = asyncio.Lock()
        self._opening: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen, unless it does already. Raises OSError when the port is taken."""
        self._wanted = True
        async with self._one_at_a_time:
            if self._server is not None or not self._wanted:
                return
            self._server = await self._open(self.port)
            self.port = self._server.sockets[0].getsockname()[1]
            if not self._wanted:
                self.close()

    def open_soon(self) -> None:
        """Begin to `open`; `opened` returns once that is done."""
        task = asyncio.get_running_loop().create_task(self.open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def opened(self) -> None:
        """Wait for every `open_soon`. Raises what they raise."""
        await asyncio.gather(*self._opening)

    def close(self) -> None:
        """Connections are refused from now on; connections that are open stay."""
        self._wanted = False
        if self._server is not None:
            self._server.close()
            self._server = None

    def stop(self) -> None:
        """Close for good, whatever is about to open."""
        for task in self._opening:
            task.cancel()
        self.close()

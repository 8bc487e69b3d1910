"""Serves ASGI applications within bounds; the only module that runs uvicorn."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from pabal.serving.connection import BoundedConfig, BoundedConnection
from pabal.serving.limits import Limits, descriptor_limit, limits_for
from pabal.serving.turns import Turns

_LOOK_EVERY_TICKS = 5
"""Uvicorn ticks ten times a second."""


async def serve(
    app: ASGIApp, *, listening: socket.socket, stopping: asyncio.Event, limits: Limits | None = None
) -> None:
    """Serve until `stopping` (or cancelled); requests under way are answered first, and the socket is closed.

    `limits`: by default what this process's file descriptors allow.
    """
    bounds = limits or limits_for(descriptor_limit())
    config = BoundedConfig(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,  # no part of Pabal asks for the client's address
        timeout_graceful_shutdown=5,
        backlog=bounds.waiting,
    )
    config.limits, config.lingering, config.turns = bounds, set(), Turns()
    server = _Server(config)
    with listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        asked = asyncio.create_task(stopping.wait())
        try:
            await asyncio.wait((serving, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling (the process's runtime decides when to stop), which closes what is
    overdue."""

    config: BoundedConfig

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """See uvicorn's."""
        if counter % _LOOK_EVERY_TICKS == 0:
            now = asyncio.get_running_loop().time()
            for connection in [*self.server_state.connections, *self.config.lingering]:
                assert isinstance(connection, BoundedConnection)
                connection.give_up_if_overdue(now)
        return await super().on_tick(counter)

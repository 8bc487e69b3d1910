"""What callers do to the API without asking anything of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from chaos.account import Allowed
from chaos.run import Run, Scenario
from pabal.serving.limits import raise_descriptor_limit

_DESCRIPTORS = 1024
"""The usual limit of a process, which it cannot raise here."""

_SILENT = 1200
_SILENT_SECONDS = 8.0
_AFTERWARDS_SECONDS = 4.0


async def keep_silent(run: Run) -> Allowed:
    """More connections than file descriptors, half of them with a head that never ends; then all gone. Nobody is
    restarted."""
    raise_descriptor_limit()
    await run.pabal.start("up", descriptors=_DESCRIPTORS)
    async with run.steady_load():
        await run.until_arrived(run.size.kill_at)
        async with _silence(run) as opened:
            await run.while_loaded(_SILENT_SECONDS)
        run.fault_over()
        await run.while_loaded(_AFTERWARDS_SECONDS)
    if "connections are open" not in run.pabal.printed():
        run.problems.append("nothing that was printed says that there is no room for more connections")
    run.notes.append(f"{opened} connections were opened; {run.load.refused['503']} requests answered 503 meanwhile")
    return Allowed(duplicates=0)


@contextlib.asynccontextmanager
async def _silence(run: Run) -> AsyncIterator[int]:
    writers: list[asyncio.StreamWriter] = []
    try:
        for number in range(_SILENT):
            _, writer = await asyncio.open_connection("127.0.0.1", run.pabal.port)
            writers.append(writer)
            if number % 2:
                writer.write(b"POST /v1/notifications HTTP/1.1\r\nHost: pabal\r\nX-Field: ")
        yield len(writers)
    finally:
        for writer in writers:
            writer.close()


SCENARIOS = (
    Scenario(
        name="idle-connections",
        title="1,200 connections that say nothing, under a limit of 1,024 file descriptors, for 8 s under load",
        do=keep_silent,
    ),
)
"""In the order of the table."""

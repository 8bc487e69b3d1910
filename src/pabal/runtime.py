"""What every role does the same way: insisting on durability, committing progress, running until told to stop."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from pabal.broker.port import Consumer, TopicPartition
from pabal.errors import (
    Closed,
    LedgerUnavailable,
    LogError,
    LogUnavailable,
    NotAssigned,
    RecordRefused,
    RenderingUnavailable,
)
from pabal.progress import Progress
from pabal.serving.limits import raise_descriptor_limit

logger = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.1, 5.0

_SWITCH_INTERVAL_SECONDS = 0.0005
"""How long a busy event loop may keep the interpreter from the log's and ledger's threads. They give it up around
every system call, and with Python's default of 5 ms each return could wait that long."""

_COLLECT_EVERY_OBJECTS = 20_000
"""How many more objects than freed ones start a garbage collection. Python's 700 makes a loaded event loop, whose
thousands of tasks and futures are all in use, spend a tenth of its time looking at them. Nothing here makes cycles
by the request; a full collection still comes in time."""


async def insist(operation: Callable[[], Awaitable[T]]) -> T:
    """Do what must be durable before anything else may happen, however long the log or ledger is away.

    Raises what no waiting mends: Closed, RecordRefused, OwnerEnded.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await operation()
        except (Closed, RecordRefused):
            raise
        except (LedgerUnavailable, LogError, RenderingUnavailable) as error:
            logger.warning("waiting %.1f s: %s", pause, error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


async def unless_revoked(change: Awaitable[None]) -> None:
    """Pause or resume; a partition that went to another member meanwhile needs neither."""
    try:
        await change
    except NotAssigned as error:
        logger.debug("%s", error)


async def commit_progress(consumer: Consumer, progress: Mapping[TopicPartition, Progress], *, group: str) -> None:
    """Commit the done prefix of every partition; what cannot be committed now is tried again the next time."""
    due = {tp: offset for tp, done in progress.items() if (offset := done.to_commit()) is not None}
    if not due:
        return
    try:
        await consumer.commit(due)
    except NotAssigned as error:
        logger.info("%s: %s", group, error)
    except LogUnavailable as error:
        logger.warning("%s: cannot commit yet: %s", group, error)
    else:
        for partition, offset in due.items():
            if partition in progress:
                progress[partition].committed(offset)


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a process's main coroutine on uvloop; its event is set by the first SIGINT or SIGTERM.

    A second signal ends the process at once (exit status 130), as if it had been killed: nothing is lost.
    """
    import uvloop

    raise_descriptor_limit()
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    gc.set_threshold(_COLLECT_EVERY_OBJECTS)

    async def with_signals() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _on_signal, stopping)
        await main(stopping)

    uvloop.run(with_signals())


def keep_what_is_loaded() -> None:
    """Leave what stands in memory now out of later garbage collections. For a process that is ready: what it has
    loaded by then stays, and looking through all of it would stop the event loop for a tenth of a second."""
    gc.collect()
    gc.freeze()


def _on_signal(stopping: asyncio.Event) -> None:
    if stopping.is_set():
        # Not SystemExit: that would wait for what did not end at the first signal.
        os._exit(130)
    stopping.set()

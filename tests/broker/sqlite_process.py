"""A process on an embedded log: `python sqlite_process.py PATH SESSION_SECONDS ARGUMENTS…`."""

import asyncio
import sys
from pathlib import Path

from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.testing.broker_process import run


async def main() -> None:
    path, session_seconds, *arguments = sys.argv[1:]
    broker = await SqliteBroker.open(Path(path), clock=SystemClock(), session_seconds=float(session_seconds))
    await run(broker, arguments)


asyncio.run(main())

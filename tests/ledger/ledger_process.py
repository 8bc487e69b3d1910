"""Opens the ledger at argv[1] and does argv[2] until killed. Its clock agrees with the laws' about the boot."""

import asyncio
import sys
from pathlib import Path

from pabal.clock import ManualClock
from pabal.ledger.postgres.ledger import PostgresLedger
from pabal.ledger.sqlite.ledger import SqliteLedger
from pabal.testing.ledger_process import run


async def main(place: str, what: str) -> None:
    if place.startswith("postgresql:"):
        await run(await PostgresLedger.open(place, worker="process"), what)
    else:
        await run(await SqliteLedger.open(Path(place), clock=ManualClock(), worker="process"), what)


asyncio.run(main(*sys.argv[1:]))

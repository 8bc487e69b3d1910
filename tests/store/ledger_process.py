"""Opens the ledger at argv[1] and does argv[2] until killed. Its clock agrees with the laws' about the boot."""

import asyncio
import sys
from pathlib import Path

from pabal.clock import ManualClock
from pabal.store.ledger import SqliteLedger
from pabal.testing.ledger_process import run


async def main() -> None:
    await run(await SqliteLedger.open(Path(sys.argv[1]), clock=ManualClock(), worker="process"), sys.argv[2])


asyncio.run(main())

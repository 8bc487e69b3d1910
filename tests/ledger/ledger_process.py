"""A process that a test starts and kills: opens the ledger at argv[1] and does argv[2] until it is killed.

It claims, or claims and finishes, for ever. It writes the delivery's id, a line each, once the ledger has answered, so
what was written had happened. Its clock agrees with the laws' about the boot.
"""

import asyncio
import sys
from pathlib import Path
from uuid import uuid4

from pabal.clock import ManualClock
from pabal.ledger.port import Ledger
from pabal.ledger.postgres.postgres_ledger import PostgresLedger
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from tests.ledger.laws.lab import Member


async def run(ledger: Ledger, what: str) -> None:
    """`claim`, or `finish`, until killed."""
    member = Member(ledger)
    while True:
        delivery = uuid4()
        claim = await member.hold(delivery)
        if what == "finish":
            await member.finish(delivery, claim)
        print(delivery, flush=True)  # noqa: T201 - the parent reads it


async def main(place: str, what: str) -> None:
    if place.startswith("postgresql:"):
        await run(await PostgresLedger.open(place, worker="process"), what)
    else:
        await run(await SqliteLedger.open(Path(place), clock=ManualClock(), worker="process"), what)


asyncio.run(main(*sys.argv[1:]))

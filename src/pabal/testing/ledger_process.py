"""The body of a process that a test starts and kills: it claims, or claims and finishes, for ever.

An adapter's test directory holds a script of a few lines that opens its ledger and calls `run`. The process writes
the delivery's id, a line each, once the ledger has answered, so that what was written had happened.
"""

from uuid import uuid4

from pabal.ledger.port import Ledger
from pabal.testing._ledger_lab import Member


async def run(ledger: Ledger, what: str) -> None:
    """`claim`, or `finish`, until killed."""
    member = Member(ledger)
    while True:
        delivery = uuid4()
        claim = await member.hold(delivery)
        if what == "finish":
            await member.finish(delivery, claim)
        print(delivery, flush=True)  # noqa: T201 - the parent reads it

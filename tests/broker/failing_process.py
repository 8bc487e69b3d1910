"""A process whose log, ledger and store meet real limits of the system: `python failing_process.py FOLDER LIMIT`.

LIMIT is `descriptors` (no file can be opened any more) or `disk` (no file may grow). It prints one line per call: what
it came to under the limit, and after it was lifted. A call without an answer is a line that says so.
"""

import asyncio
import os
import resource
import sys
from collections.abc import Awaitable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from pabal.broker.port import NewRecord, TopicSpec
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.errors import PabalError
from pabal.ledger.sqlite.sqlite_ledger import SqliteLedger
from pabal.store.sql import SqlStore

UNANSWERED_SECONDS = 30.0
"""Above every deadline of the log, the ledger and the store."""

LIMITS = {"descriptors": resource.RLIMIT_NOFILE, "disk": resource.RLIMIT_FSIZE}


async def main() -> None:
    folder, limit = Path(sys.argv[1]), sys.argv[2]
    clock = SystemClock()
    broker = await SqliteBroker.open(folder / "log.db", clock=clock)
    await broker.admin().create_topic(TopicSpec(name="t", partitions=1))
    producer = broker.producer(deadline_seconds=2.0)
    ledger = await SqliteLedger.open(folder / "ledger.db", clock=clock, worker="one")
    store = SqlStore(f"sqlite:{folder / 'store.db'}", clock=clock)

    async def ask_all(when: str) -> None:
        # No process is known to the bell: its next ring reads a directory.
        broker._log.doorbell.mend()
        await tell(f"{when} append", producer.append([NewRecord(topic="t", key=None, value=b"x" * 100_000)]))
        await tell(f"{when} cancel", ledger.cancel(UUID(int=1), prune_after=0.0))
        await tell(f"{when} prune", ledger.prune(now=datetime.now(UTC)))
        await tell(f"{when} ready", broker.admin().check_writable(["t"]))
        await tell(f"{when} look-up", store.delivery(UUID(int=1), tenant="acme"))

    soft, hard = resource.getrlimit(LIMITS[limit])
    resource.setrlimit(LIMITS[limit], (lowest(limit), hard))
    await ask_all("limited:")
    resource.setrlimit(LIMITS[limit], (soft, hard))
    await ask_all("free:")
    print("ailments:", *broker.ailments())  # noqa: T201
    await store.close()
    await ledger.close()
    await broker.close()


def lowest(limit: str) -> int:
    if limit == "disk":
        return 4096
    free = os.dup(0)
    os.close(free)
    return free  # the next file would have this number


async def tell(name: str, call: Awaitable[object]) -> None:
    try:
        await asyncio.wait_for(asyncio.ensure_future(call), UNANSWERED_SECONDS)
        answer = "ok"
    except TimeoutError:
        answer = "UNANSWERED"
    except PabalError as error:
        answer = type(error).__name__
    print(name, answer)  # noqa: T201 - the parent reads it


asyncio.run(main())

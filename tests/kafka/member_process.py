"""A process that a test starts and kills: `BOOTSTRAP PROTOCOL SESSION_SECONDS`, then what to do."""

import asyncio
import sys
from typing import cast

from pabal.broker.kafka.broker import KafkaBroker
from pabal.broker.kafka.client import GroupProtocol
from pabal.testing import broker_process


async def main(bootstrap: str, protocol: str, session_seconds: str, *arguments: str) -> None:
    broker = await KafkaBroker.open(
        bootstrap, group_protocol=cast("GroupProtocol", protocol), session_seconds=float(session_seconds)
    )
    await broker_process.run(broker, arguments)


asyncio.run(main(*sys.argv[1:]))

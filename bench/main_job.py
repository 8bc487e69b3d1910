"""The main job alone in one process: `python -m bench.main_job LOG CONFIG DATA PORT`.

`pabal up` without the recorder: API, worker (with ledger and guard) and delay line, what the sketch of one process has
as well. What is recorded besides is measured by `pabal up` itself.
"""

import asyncio
import os
import sys
from pathlib import Path

from pabal.cli.options import run_role, settings_of
from pabal.compose.api import run_api
from pabal.compose.delayline import run_delayline
from pabal.compose.listening import listen
from pabal.compose.parts import open_parts
from pabal.compose.worker import run_worker


def main(log_url: str, config: str, data: str, port: str) -> None:
    """Run until a signal."""

    async def run(stopping: asyncio.Event) -> None:
        settings = settings_of(Path(config))
        with listen("127.0.0.1", int(port), option="PORT") as listening:
            async with (
                open_parts(settings, log_url=log_url, data=Path(data), environment=os.environ) as parts,
                asyncio.TaskGroup() as group,
            ):
                group.create_task(run_api(parts, stopping, listening=listening))
                group.create_task(run_worker(parts, stopping, name="up"))
                group.create_task(run_delayline(parts, stopping, name="up"))

    run_role(run)


if __name__ == "__main__":
    main(*sys.argv[1:])

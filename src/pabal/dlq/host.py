"""Runs redrives inside a process that does other things too, such as the API."""

import asyncio
import logging
import secrets
import socket

from pabal.dlq.desk import DeadLetters
from pabal.dlq.plan import Plan
from pabal.dlq.redrive import Redrive, Watcher, Who
from pabal.dlq.stepping import Pace
from pabal.errors import PabalError, RedriveHeld

logger = logging.getLogger(__name__)


class RedriveHost:
    """Belongs to one event loop. What it runs ends with `close`; the same plan goes on from there, anywhere."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[asyncio.Task[None], asyncio.Event]] = {}

    def start(self, desk: DeadLetters, plan: Plan, *, pace: Pace, by: str, reason: str) -> None:
        """Begin to carry a plan out. How it goes on is told by `status.list_redrives`.

        Raises RedriveHeld when this process does so already.
        """
        if plan.id in self._runs:
            raise RedriveHeld(f"the plan {plan.id} is being carried out here already")
        who = Who(by=by, host=socket.gethostname(), reason=reason, token=secrets.token_hex(8))
        stopping = asyncio.Event()
        redrive = Redrive(desk, plan, pace=pace, who=who, watcher=Watcher())
        task = asyncio.create_task(self._run(redrive, stopping, plan_id=plan.id))
        self._runs[plan.id] = (task, stopping)

    def cancel(self, plan_id: str) -> bool:
        """Stop a run as Ctrl-C would; False when it does not run here."""
        run = self._runs.get(plan_id)
        if run is not None:
            run[1].set()
        return run is not None

    async def close(self) -> None:
        """Stop what runs, and wait until what was begun is marked; idempotent."""
        runs = list(self._runs.values())
        for _, stopping in runs:
            stopping.set()
        await asyncio.gather(*(task for task, _ in runs))

    async def _run(self, redrive: Redrive, stopping: asyncio.Event, *, plan_id: str) -> None:
        try:
            ending = await redrive.run(stopping)
        except PabalError as error:
            # Its caller was answered long ago; what could be told of it stands in the audit log.
            logger.error("redrive %s failed: %s", plan_id, error)
        else:
            logger.info("redrive %s: %s, %d redriven", plan_id, ending.ended, ending.tally.redriven)
        finally:
            del self._runs[plan_id]

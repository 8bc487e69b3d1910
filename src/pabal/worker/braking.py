"""The brake on unreadable records, as all workers share it: said and released in `pabal.ops`.

A worker that brakes a class writes `brake/<channel>/<class>`; every worker of that class hears it and stops taking as
well. `pabal brake release` writes the answer under the same key. A worker that starts reads what holds.
"""

import asyncio
import logging
from collections.abc import Collection

from pabal.brakes import BrakeState, brake_key, brake_record, how_to_release, read_brake
from pabal.broker.port import NewRecord, Producer, Reader
from pabal.clock import Clock
from pabal.errors import DecodeError, LogError
from pabal.notification import OPS_TOPIC
from pabal.ops import LOOK_EVERY_SECONDS, OpsTail
from pabal.runtime import insist
from pabal.unreadable import Unreadable
from pabal.worker.dispatch import Dispatch
from pabal.worker.intake import Intake

logger = logging.getLogger(__name__)


class Braking:
    """Tells and hears the brakes of one worker. `unreadable` counts what says nothing of a brake under a brake's key:
    what was said before holds."""

    def __init__(self, *, reader: Reader, producer: Producer, clock: Clock) -> None:
        self.unreadable = Unreadable("brakes")
        self._ops = OpsTail(reader)
        self._producer = producer
        self._clock = clock
        self._braked: asyncio.Queue[NewRecord] = asyncio.Queue()
        self._intakes: dict[bytes, tuple[Intake, Dispatch]] = {}

    def attend(self, intakes: Collection[Intake], dispatch: Dispatch) -> None:
        """These are to hear of their brakes."""
        for intake in intakes:
            self._intakes[brake_key(intake.channel, intake.class_)] = (intake, dispatch)

    def on_braked(self, intake: Intake, error: DecodeError) -> None:
        """An intake has braked by itself."""
        reason = f"{intake.brake.unreadable} of {intake.brake.read} records cannot be read, such as: {error}"
        state = BrakeState(state="braked", at=self._clock.now(), reason=reason)
        self._say(intake, reason)
        self._braked.put_nowait(brake_record(intake.channel, intake.class_, state))

    async def run(self) -> None:
        """Tell and hear, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._publish())
            group.create_task(self._listen())

    async def hear(self) -> None:
        """Read what has been written since the last time, and let it hold."""
        heard: dict[bytes, BrakeState] = {}
        try:
            async for record in self._ops.read_on():
                try:
                    state = read_brake(record)
                except DecodeError as error:
                    self.unreadable.note(record, error)
                    continue
                if state is not None and record.key in self._intakes:
                    heard[record.key] = state
        finally:  # Also when the log went away in the middle: it is not read again.
            for key, state in heard.items():
                self._apply(*self._intakes[key], state)

    async def _publish(self) -> None:
        while True:
            record = await self._braked.get()
            await insist(lambda: self._producer.append([record]))  # noqa: B023 - awaited before the next is taken

    async def _listen(self) -> None:
        while True:
            try:
                await self.hear()
            except LogError as error:
                logger.warning("cannot read %s: %s", OPS_TOPIC, error)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    def _apply(self, intake: Intake, dispatch: Dispatch, state: BrakeState) -> None:
        if state.state == "braked":
            if not intake.is_braked:
                intake.hold("brake")
                self._say(intake, state.reason)
            return
        now = self._clock.now()
        left = ((state.until or now) - now).total_seconds()
        intake.brake.release(until=self._clock.boot_seconds() + left)
        if intake.is_braked:
            intake.let_go("brake")
            dispatch.release_withheld()
            logger.warning("brake released: %s %s: %s", intake.channel, intake.class_, state.reason)

    def _say(self, intake: Intake, reason: str) -> None:
        name = f"{intake.channel} {intake.class_}"
        logger.error("brake on: %s takes nothing more: %s. %s", name, reason, how_to_release(name))

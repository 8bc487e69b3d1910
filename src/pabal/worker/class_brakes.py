"""The brakes of one worker's classes: said in `pabal.ops` when a class is braked here, obeyed wherever they were said.

A worker that brakes a class writes `brake/<channel>/<class>`; every worker of that class hears it and stops taking as
well. `pabal brake release` writes the answer under the same key. A worker that starts hears what holds.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping

from pabal.broker.port import NewRecord, Producer
from pabal.clock import Clock
from pabal.errors import DecodeError
from pabal.ops.brakes import Brakes, BrakeState, brake_key, brake_record, how_to_release
from pabal.runtime import insist
from pabal.worker.dispatch import Dispatch
from pabal.worker.intake import Intake

logger = logging.getLogger(__name__)


class ClassBrakes:
    """Says and obeys the brakes of one worker. `fold` is to be handed the records of `pabal.ops`."""

    def __init__(self, *, producer: Producer, clock: Clock) -> None:
        self.fold = Brakes(self.obey)
        self._producer = producer
        self._clock = clock
        self._braked: asyncio.Queue[NewRecord] = asyncio.Queue()
        self._intakes: dict[bytes, tuple[Intake, Dispatch]] = {}

    def attend(self, intakes: Collection[Intake], dispatch: Dispatch) -> None:
        """Let these intakes obey their brakes."""
        for intake in intakes:
            self._intakes[brake_key(intake.channel, intake.class_)] = (intake, dispatch)

    def on_braked(self, intake: Intake, error: DecodeError) -> None:
        """An intake has braked by itself."""
        reason = f"{intake.brake.unreadable} of {intake.brake.read} records cannot be read, such as: {error}"
        state = BrakeState(state="braked", at=self._clock.now(), reason=reason)
        self._warn(intake, reason)
        self._braked.put_nowait(brake_record(intake.channel, intake.class_, state))

    async def run(self) -> None:
        """Say what was braked here, until cancelled."""
        while True:
            record = await self._braked.get()
            await insist(lambda: self._producer.append([record]))  # noqa: B023 - awaited before the next is taken

    def obey(self, states: Mapping[bytes, BrakeState]) -> None:
        """Let these brakes hold, by the keys of their records. Brakes of other workers' classes change nothing here."""
        for key, state in states.items():
            if key in self._intakes:
                self._apply(*self._intakes[key], state)

    def _apply(self, intake: Intake, dispatch: Dispatch, state: BrakeState) -> None:
        if state.state == "braked":
            if not intake.is_braked:
                intake.hold("brake")
                self._warn(intake, state.reason)
            return
        now = self._clock.now()
        left = ((state.until or now) - now).total_seconds()
        intake.brake.release(until=self._clock.boot_seconds() + left)
        if intake.is_braked:
            intake.let_go("brake")
            dispatch.release_withheld()
            logger.warning("brake released: %s %s: %s", intake.channel, intake.class_, state.reason)

    def _warn(self, intake: Intake, reason: str) -> None:
        name = f"{intake.channel} {intake.class_}"
        logger.error("brake on: %s takes nothing more: %s. %s", name, reason, how_to_release(name))

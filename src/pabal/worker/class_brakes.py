"""The brakes of one worker's classes: said in `pabal.ops` when a class is braked here, obeyed wherever they were said.

A worker that brakes a class writes `brake/<channel>/<class>`; every worker of that class hears it and stops taking as
well. `pabal brake release` writes the answer under the same key. A worker that starts hears what holds.
"""

import asyncio
import logging
from collections.abc import Mapping

from pabal.broker.port import NewRecord, Producer
from pabal.clock import Clock
from pabal.notification import NotificationClass
from pabal.ops.brakes import Brakes, BrakeState, brake_key, brake_record, how_to_release
from pabal.runtime import insist
from pabal.worker.channel import WorkerChannel

logger = logging.getLogger(__name__)


class ClassBrakes:
    """Says and obeys the brakes of one worker. `fold` is to be handed the records of `pabal.ops`."""

    def __init__(self, *, producer: Producer, clock: Clock) -> None:
        self.fold = Brakes(self.obey)
        self._producer = producer
        self._clock = clock
        self._braked: asyncio.Queue[NewRecord] = asyncio.Queue()
        self._classes: dict[bytes, tuple[WorkerChannel, NotificationClass]] = {}

    def attend(self, channel: WorkerChannel) -> None:
        """Let the classes of this channel obey their brakes."""
        for class_ in channel.intakes:
            self._classes[brake_key(channel.name, class_)] = (channel, class_)

    def on_braked(self, channel: WorkerChannel, class_: NotificationClass, reason: str) -> None:
        """A class was braked here, and is held."""
        state = BrakeState(state="braked", at=self._clock.now(), reason=reason)
        self._warn(channel, class_, reason)
        self._braked.put_nowait(brake_record(channel.name, class_, state))

    async def run(self) -> None:
        """Say what was braked here, until cancelled."""
        while True:
            record = await self._braked.get()
            await insist(lambda: self._producer.append([record]))  # noqa: B023 - awaited before the next is taken

    def obey(self, states: Mapping[bytes, BrakeState]) -> None:
        """Let these brakes hold, by the keys of their records. Brakes of other workers' classes change nothing here."""
        for key, state in states.items():
            if key in self._classes:
                self._apply(*self._classes[key], state)

    def _apply(self, channel: WorkerChannel, class_: NotificationClass, state: BrakeState) -> None:
        if state.state == "braked":
            if "brake" not in channel.holds(class_):
                channel.hold(class_, "brake")
                self._warn(channel, class_, state.reason)
            return
        now = self._clock.now()
        left = ((state.until or now) - now).total_seconds()
        channel.trust(class_, until=self._clock.boot_seconds() + left)
        if "brake" in channel.holds(class_):
            channel.let_go(class_, "brake")
            logger.warning("brake released: %s %s: %s", channel.name, class_, state.reason)

    def _warn(self, channel: WorkerChannel, class_: NotificationClass, reason: str) -> None:
        name = f"{channel.name} {class_}"
        logger.error("brake on: %s takes nothing more: %s. %s", name, reason, how_to_release(name))

"""The brake on unreadable records, as all workers share it: said and released in `pabal.ops`.

A worker that brakes a class writes `brake/<channel>/<class>`; every worker of that class hears it and stops taking as
well. `pabal brake release` writes the answer under the same key. A worker that starts reads what holds.
"""

import asyncio
import logging

from pabal.brakes import BrakeState, brake_key, brake_record, how_to_release, read_brake
from pabal.broker.port import NewRecord, Producer, Reader
from pabal.clock import Clock
from pabal.errors import DecodeError, LogError
from pabal.notification import OPS_TOPIC, NotificationClass
from pabal.ops import LOOK_EVERY_SECONDS, OpsTail
from pabal.runtime import insist
from pabal.unreadable import Unreadable
from pabal.worker.channel import WorkerChannel

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
        self._classes: dict[bytes, tuple[WorkerChannel, NotificationClass]] = {}

    def attend(self, channel: WorkerChannel) -> None:
        """Let the classes of this channel obey their brakes."""
        for class_ in channel.intakes:
            self._classes[brake_key(channel.name, class_)] = (channel, class_)

    def on_braked(self, channel: WorkerChannel, class_: NotificationClass, reason: str) -> None:
        """A class was braked here, and is held."""
        state = BrakeState(state="braked", at=self._clock.now(), reason=reason)
        self._say(channel, class_, reason)
        self._braked.put_nowait(brake_record(channel.name, class_, state))

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
                if state is not None and record.key in self._classes:
                    heard[record.key] = state
        finally:  # Also when the log went away in the middle: it is not read again.
            for key, state in heard.items():
                self._apply(*self._classes[key], state)

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

    def _apply(self, channel: WorkerChannel, class_: NotificationClass, state: BrakeState) -> None:
        if state.state == "braked":
            if "brake" not in channel.holds(class_):
                channel.hold(class_, "brake")
                self._say(channel, class_, state.reason)
            return
        now = self._clock.now()
        left = ((state.until or now) - now).total_seconds()
        channel.trust(class_, until=self._clock.boot_seconds() + left)
        if "brake" in channel.holds(class_):
            channel.let_go(class_, "brake")
            logger.warning("brake released: %s %s: %s", channel.name, class_, state.reason)

    def _say(self, channel: WorkerChannel, class_: NotificationClass, reason: str) -> None:
        name = f"{channel.name} {class_}"
        logger.error("brake on: %s takes nothing more: %s. %s", name, reason, how_to_release(name))

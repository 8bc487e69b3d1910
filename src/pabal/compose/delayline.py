"""The `delayline` role."""

import asyncio

from pabal.compose.parts import Parts, Ready, named, say_nothing
from pabal.delayline.delayline import DelayLine
from pabal.delayline.hearing import Hearing
from pabal.notification import CLASSES


async def run_delayline(parts: Parts, stopping: asyncio.Event, *, name: str | None, ready: Ready = say_nothing) -> None:
    """Run the `delayline` role, as the member `name` of its group."""
    line = DelayLine(broker=parts.broker, channels=parts.settings.channels, clock=parts.clock, name=name)
    async with asyncio.TaskGroup() as group:
        hearing = Hearing(
            reader=parts.broker.reader(), producer=parts.broker.producer(), clock=parts.clock, tell=line.hear
        )
        group.create_task(hearing.run(stopping))
        ready(f"{named('delay line', name)} is ready for {', '.join(CLASSES)}; log {parts.log_url}")
        await line.run(stopping)

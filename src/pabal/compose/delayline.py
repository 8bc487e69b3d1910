"""The `delayline` role."""

import asyncio

from pabal.compose.parts import Parts, Ready, named, say_nothing
from pabal.delayline.delayline import DelayLine
from pabal.notification import CLASSES


async def run_delayline(parts: Parts, stopping: asyncio.Event, *, name: str | None, ready: Ready = say_nothing) -> None:
    """The `delayline` role."""
    line = DelayLine(broker=parts.broker, ops=parts.ops, channels=parts.settings.channels, clock=parts.clock, name=name)
    parts.meter.gauge("pabal_delay_held", lambda: {(class_,): each.held for class_, each in line.standing().items()})
    parts.meter.gauge(
        "pabal_delay_overdue_seconds",
        lambda: {(class_,): each.overdue_seconds for class_, each in line.standing().items()},
    )
    parts.meter.gauge("pabal_undecodable_total", lambda: {("delayline",): line.unreadable})
    parts.reporter.enter("delayline", groups=line.status)
    ready(f"{named('delay line', name)} is ready for {', '.join(CLASSES)}; log {parts.log_url}")
    await line.run(stopping)

"""The `monitor` role."""

import asyncio

from pabal.compose.parts import Parts, Ready, named, say_nothing
from pabal.groups import groups_for
from pabal.monitor.exposed import expose_monitor
from pabal.monitor.monitor import Monitor


async def run_monitor(parts: Parts, stopping: asyncio.Event, *, name: str | None, ready: Ready = say_nothing) -> None:
    """Run the `monitor` role, as the member `name` of its group."""
    settings = parts.settings
    groups = groups_for(settings.channels)
    monitor = Monitor(
        broker=parts.broker, groups=groups, clock=parts.clock, instance=parts.reporter.instance, name=name
    )
    expose_monitor(monitor, parts.meter, clock=parts.clock, channels=settings.channels, expected=settings.expected)
    parts.reporter.enter("monitor", groups=monitor.status)
    ready(f"{named('monitor', name)} watches {len(groups)} groups; log {parts.log_url}")
    await monitor.run(stopping)

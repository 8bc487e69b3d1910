"""The `worker` role."""

import asyncio
import contextlib
import secrets

from pabal.compose.ledgers import ledger_place, open_ledger
from pabal.compose.parts import Parts, Ready, named, say_nothing
from pabal.compose.providers import make_carriers, own_templates
from pabal.notification import CLASSES
from pabal.ops.template_library import TemplateLibrary
from pabal.rendering import RenderingProcess
from pabal.suppressions import GateFollower
from pabal.worker.metering import DeedCounter, show_channels
from pabal.worker.telling_status import ailments_of, statuses_of
from pabal.worker.worker import Worker


async def run_worker(
    parts: Parts,
    stopping: asyncio.Event,
    *,
    name: str | None,
    channels: tuple[str, ...] = (),
    ready: Ready = say_nothing,
) -> None:
    """Run the `worker` role for these channels; for every channel when none is named."""
    settings = parts.settings
    templates = own_templates(settings)
    carriers = make_carriers(settings, clock=parts.clock, channels=channels)
    async with contextlib.AsyncExitStack() as closing:
        for carrier in (each for first in carriers.values() for each in first.by_name.values()):
            closing.push_async_callback(carrier.provider.close)
        ledger = await open_ledger(parts, worker=name or secrets.token_hex(8))
        closing.push_async_callback(ledger.close)
        apart = RenderingProcess()
        closing.push_async_callback(apart.close)
        library = TemplateLibrary(
            templates.values(), reader=parts.broker.reader(), admin=parts.broker.admin(), apart=apart
        )
        worker = Worker(
            broker=parts.broker,
            ops=parts.ops,
            ledger=ledger,
            carriers=carriers,
            channels=settings.channels,
            classes=settings.class_settings(),
            settings=settings.worker,
            find_template=library.render,
            clock=parts.clock,
            name=name,
            tracing=parts.tracing,
            guard=settings.guard,
            observers=[DeedCounter(parts.meter)],
        )
        show_channels(worker.channels, parts.meter)
        gate = GateFollower(reader=parts.broker.reader(), ledger=ledger, clock=parts.clock)
        channels_here = worker.channels.values()
        parts.reporter.enter(
            "worker", groups=lambda: statuses_of(channels_here), ailments=lambda: ailments_of(channels_here)
        )
        # Before the first claim: a new ledger does not know the suppressed addresses yet.
        await gate.catch_up(stopping)
        async with asyncio.TaskGroup() as group:
            group.create_task(gate.run(stopping))
            carried = ", ".join(f"{channel} by {'/'.join(each.by_name)}" for channel, each in carriers.items())
            ready(
                f"{named('worker', name)} is ready for {carried} ({', '.join(CLASSES)}); "
                f"log {parts.log_url}, ledger {ledger_place(parts)}"
            )
            await worker.run(stopping)

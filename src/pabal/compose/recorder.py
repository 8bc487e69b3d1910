"""The `recorder` role."""

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from datetime import timedelta

from pabal.compose.parts import Parts, Ready, named, say_nothing
from pabal.compose.stores import open_store
from pabal.places import without_password
from pabal.recorder.recorder import Recorder
from pabal.store.sql import store_url
from pabal.suppressions import Suppressor
from pabal.telemetry.meter import LabelValues


async def run_recorder(parts: Parts, stopping: asyncio.Event, *, name: str | None, ready: Ready = say_nothing) -> None:
    """Run the `recorder` role, as the member `name` of its group."""
    settings = parts.settings
    async with contextlib.AsyncExitStack() as closing:
        store = open_store(settings, parts.data)
        closing.push_async_callback(store.close)
        producer = parts.broker.producer()
        closing.push_async_callback(producer.close)
        recorder = Recorder(
            broker=parts.broker,
            store=store,
            channels=settings.channels,
            retention=timedelta(seconds=settings.store.retention_seconds),
            clock=parts.clock,
            follow=Suppressor(store=store, producer=producer).follow,
            guard=settings.guard,
            name=name,
        )
        parts.meter.gauge("pabal_dead_letters_open", lambda: _dead_letters_open(recorder, settings.channels))
        parts.meter.gauge("pabal_unaccounted", lambda: {(): recorder.upkeep.unaccounted})
        parts.meter.gauge("pabal_undecodable_total", lambda: {("recorder",): recorder.set_aside})
        parts.meter.gauge("pabal_recorded_total", lambda: {(kind,): count for kind, count in recorder.recorded.items()})
        parts.reporter.enter("recorder", groups=recorder.status)
        store_place = without_password(store_url(settings.store.url, data=parts.data))
        ready(
            f"{named('recorder', name)} is ready for {', '.join(settings.channels)}; "
            f"log {parts.log_url}, store {store_place}"
        )
        await recorder.run(stopping)


def _dead_letters_open(recorder: Recorder, channels: Collection[str]) -> Mapping[LabelValues, float]:
    """By channel, 0 among them; nothing before the first count."""
    counted = recorder.upkeep.dead_letters_open
    return {} if counted is None else {(channel,): counted.get(channel, 0) for channel in channels}

"""What every role of one process shares: the log, the clock, tracing. Only this module knows which logs there are."""

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import msgspec

from pabal import __version__
from pabal.broker.port import Broker
from pabal.clock import Clock, SystemClock
from pabal.config import Settings
from pabal.doctor.log import LooksAtLog
from pabal.errors import ConfigError
from pabal.extras import require_extra
from pabal.ops.follower import OpsFollower
from pabal.places import without_password
from pabal.status.reporter import APPEND_SECONDS, Reporter
from pabal.telemetry.meter import Meter
from pabal.tracing.environment import read_exporters
from pabal.tracing.port import Tracing


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What every role of one process shares."""

    settings: Settings
    log_url: str
    data: Path
    clock: Clock
    broker: Broker
    ops: OpsFollower
    meter: Meter
    reporter: Reporter
    tracing: Tracing | None = None


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings, *, log_url: str, data: Path, environment: Mapping[str, str] = {}
) -> AsyncIterator[Parts]:
    """The parts of one process, closed at the end. Raises ConfigError, LogUnavailable.

    OpenTelemetry's variables are read from `environment`; an empty one means no tracing.
    """
    clock = SystemClock()
    tracing = open_tracing(environment, log_url=log_url)
    broker = await open_broker(log_url, settings=settings, clock=clock)
    meter, ops = Meter(), OpsFollower(broker.reader())
    meter.gauge("pabal_build_info", lambda: {(__version__,): 1})
    meter.gauge("pabal_ops_offset", lambda: {(): ops.applied_offset or 0})
    reporter = Reporter(
        producer=broker.producer(deadline_seconds=APPEND_SECONDS),
        meter=meter,
        ops=ops,
        clock=clock,
        instance=f"{socket.gethostname()}-{os.getpid()}",
    )
    try:
        yield Parts(
            settings=settings,
            log_url=log_url,
            data=data,
            clock=clock,
            broker=broker,
            ops=ops,
            meter=meter,
            reporter=reporter,
            tracing=tracing,
        )
    finally:
        await broker.close()
        if tracing is not None:
            await tracing.close()


@contextlib.asynccontextmanager
async def reporting(parts: Parts) -> AsyncIterator[None]:
    """Tell the status of this process while the roles within run, and at last that it stops, if they end in order."""
    telling = asyncio.create_task(parts.reporter.run())
    try:
        yield
    finally:
        # Before the last word: whatever came after it would say that the process runs.
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    await parts.reporter.say_stopped()


def open_tracing(environment: Mapping[str, str], *, log_url: str) -> Tracing | None:
    """Tracing as the environment asks for it; None when it does not. Raises ConfigError."""
    exporters = read_exporters(environment)
    if not exporters:
        return None
    require_extra("tracing", wanted_by="tracing")
    # Imported only when asked for: without tracing, OpenTelemetry costs nothing.
    from pabal.tracing.opentelemetry import OpenTelemetryTracing

    return OpenTelemetryTracing.exporting(exporters, log="kafka" if log_url.startswith("kafka:") else "pabal")


async def open_broker(url: str, *, settings: Settings, clock: Clock) -> Broker:
    """The log at `url`. Raises ConfigError for a URL that names no log, LogUnavailable when the log does not answer."""
    # Only the adapter in use is imported: a client library costs memory and start-up time.
    if url.startswith("sqlite:") and url != "sqlite:":
        from pabal.broker.sqlite.broker import SqliteBroker

        path = Path(url.removeprefix("sqlite:"))
        return await SqliteBroker.open(path, clock=clock, session_seconds=settings.log.session_seconds)
    if match := re.fullmatch(r"kafka://([^/\s]+)/?", url):
        from pabal.broker.kafka.broker import KafkaBroker

        if "@" in match[1]:
            raise ConfigError(
                'kafka:// takes no user and password; they are settings: [log.kafka] "sasl.username", "sasl.password"'
            )

        return await KafkaBroker.open(
            match[1],
            options=settings.log.kafka,
            group_protocol=settings.log.group_protocol,
            session_seconds=settings.log.session_seconds,
        )
    raise ConfigError(f"{without_password(url)!r} is not a log; write sqlite:PATH or kafka://HOST:PORT")


@contextlib.asynccontextmanager
async def look_at_log(url: str, *, settings: Settings, clock: Clock) -> AsyncIterator[LooksAtLog]:
    """The log at `url`, opened to look at it; nothing is changed. Raises as `open_broker`."""
    if url.startswith("sqlite:") and url != "sqlite:":
        from pabal.broker.sqlite.looking import SqliteLook

        look: LooksAtLog = await SqliteLook.open(Path(url.removeprefix("sqlite:")), clock=clock)
        try:
            yield look
        finally:
            await look.close()
        return
    # These questions change nothing in Kafka: asking for a topic makes none, and no group is joined.
    broker = await open_broker(url, settings=settings, clock=clock)
    try:
        yield _BrokerLook(broker)
    finally:
        await broker.close()


class _BrokerLook:
    """A broker as `LooksAtLog`: its reading half."""

    def __init__(self, broker: Broker) -> None:
        admin, reader = broker.admin(), broker.reader()
        self.topics, self.watermarks, self.read = admin.topics, admin.watermarks, reader.read
        self.close = broker.close


Ready = Callable[[str], None]
"""A role calls it once, when it is ready, with a line that says for what. The line holds no secret."""


def say_nothing(line: str) -> None:
    """A `Ready` for callers that do not wait for it."""
    del line


def named(role: str, name: str | None) -> str:
    """What the line of a ready role calls it: with its name, if it has one."""
    return f"{role} {name}" if name else role

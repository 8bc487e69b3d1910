"""Puts the parts together: the only module that knows which log, ledger and providers there are."""

import asyncio
import contextlib
import re
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec

from pabal.api import create_app
from pabal.broker.port import Broker, Producer
from pabal.channels import CHANNELS
from pabal.cli.listening import url_of_socket
from pabal.clock import Clock, SystemClock
from pabal.config import Settings
from pabal.delayline.delayline import DelayLine
from pabal.delayline.hearing import Hearing
from pabal.dlq.desk import DeadLetters
from pabal.dlq.host import RedriveHost
from pabal.doctor.log import LooksAtLog
from pabal.errors import ConfigError
from pabal.ledger.looking import look_at_ledger
from pabal.ledger.port import Ledger
from pabal.ledger.sqlite.ledger import SqliteLedger
from pabal.ledger_identity import LedgerIdentity
from pabal.notification import CLASSES
from pabal.places import without_password
from pabal.providers.port import Provider, ProviderContext, TakesReceipts
from pabal.providers.registry import create_provider
from pabal.recorder.recorder import Recorder
from pabal.rendering import RenderingProcess
from pabal.serving.server import serve
from pabal.store.port import Store
from pabal.store.sql import SqlStore, store_url
from pabal.suppressions import GateFollower, Suppressor
from pabal.template import Template
from pabal.templates import TemplateLibrary, load_templates, publish_templates
from pabal.topics.spec import topics_for
from pabal.tracing.environment import read_exporters
from pabal.tracing.port import Tracing
from pabal.worker.deliver import Carrier
from pabal.worker.worker import Worker

EMBEDDED_PARTITIONS = 2
"""Of each work-sharing topic of the embedded log: enough to see sharing, few enough to write in one group."""


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What every role of one process shares."""

    settings: Settings
    log_url: str
    data: Path
    clock: Clock
    broker: Broker
    tracing: Tracing | None = None


@contextlib.asynccontextmanager
async def open_parts(
    settings: Settings, *, log_url: str, data: Path, environment: Mapping[str, str] = {}
) -> AsyncIterator[Parts]:
    """The log and what goes with it, closed at the end. Raises ConfigError, LogUnavailable.

    `environment` is where OpenTelemetry's variables are looked for (none: no tracing).
    """
    clock = SystemClock()
    tracing = open_tracing(environment, log_url=log_url)
    broker = await open_broker(log_url, settings=settings, clock=clock)
    try:
        yield Parts(settings=settings, log_url=log_url, data=data, clock=clock, broker=broker, tracing=tracing)
    finally:
        await broker.close()
        if tracing is not None:
            await tracing.close()


def open_tracing(environment: Mapping[str, str], *, log_url: str) -> Tracing | None:
    """Tracing as the environment asks for it; None when it does not. Raises ConfigError."""
    exporters = read_exporters(environment)
    if not exporters:
        return None
    # Imported only when asked for: a process that does not trace pays nothing for those that do.
    from pabal.tracing.opentelemetry import OpenTelemetryTracing

    return OpenTelemetryTracing.exporting(exporters, log="kafka" if log_url.startswith("kafka:") else "pabal")


async def open_broker(url: str, *, settings: Settings, clock: Clock) -> Broker:
    """The log at `url`. Raises ConfigError when it is no such URL, LogUnavailable when it does not answer."""
    # Each adapter is imported only when used: the other's client library costs memory and start-up time.
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
    """The log at `url`, to look at it and change nothing. Raises as `open_broker`."""
    if url.startswith("sqlite:") and url != "sqlite:":
        from pabal.broker.sqlite.looking import SqliteLook

        look: LooksAtLog = await SqliteLook.open(Path(url.removeprefix("sqlite:")), clock=clock)
        try:
            yield look
        finally:
            await look.close()
        return
    # Kafka is changed by nothing that is asked of it here: no topic is made by asking for one, no group is joined.
    broker = await open_broker(url, settings=settings, clock=clock)
    try:
        yield _BrokerLook(broker)
    finally:
        await broker.close()


class _BrokerLook:
    """`LooksAtLog` of a broker."""

    def __init__(self, broker: Broker) -> None:
        admin, reader = broker.admin(), broker.reader()
        self.topics, self.watermarks, self.read = admin.topics, admin.watermarks, reader.read
        self.close = broker.close


async def create_topics(parts: Parts, *, partitions: int, replication: int | None) -> list[str]:
    """Make the topics that are missing; returns their names."""
    specs = topics_for(parts.settings.channels, partitions=partitions, replication=replication)
    admin = parts.broker.admin()
    try:
        return [spec.name for spec in specs if await admin.create_topic(spec)]
    finally:
        await admin.close()


async def check_topics(parts: Parts) -> None:
    """Raise ConfigError when a topic is missing: nothing is created by accident."""
    admin = parts.broker.admin()
    try:
        existing = await admin.topics()
    finally:
        await admin.close()
    wanted = topics_for(parts.settings.channels, partitions=1, replication=None)
    missing = [spec.name for spec in wanted if spec.name not in existing]
    if missing:
        names = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ConfigError(
            f"the log at {parts.log_url} lacks {names}; create Pabal's topics with: "
            f"pabal topics create --log {parts.log_url}"
        )


async def open_ledger(parts: Parts, *, worker: str, may_be_first: bool = True) -> Ledger:
    """The ledger of this installation, as a new owner of that name.

    Who is not a worker may not be the first: it could stand on another host, and its file be the wrong one.

    Raises ConfigError (also when the log belongs to another ledger), LedgerUnavailable, LogUnavailable.
    """
    ledger, place = await _open_any_ledger(parts, worker=worker)
    try:
        await _with_identity(
            parts,
            lambda identity: identity.check(
                ledger.id, place=place, may_be_first=may_be_first, knows_deliveries=lambda: _knows_deliveries(parts)
            ),
        )
    except BaseException:
        await ledger.close()
        raise
    return ledger


async def _knows_deliveries(parts: Parts) -> bool:
    looked = await look_at_ledger(ledger_setting(parts.settings, parts.data))
    return looked is not None and looked.has_rows


async def adopt_ledger(parts: Parts) -> UUID:
    """Let the log belong to the ledger of this installation from now on; its id. Raises as `open_ledger`."""
    ledger, _ = await _open_any_ledger(parts, worker=f"adopt-{secrets.token_hex(8)}")
    await ledger.close()
    await _with_identity(parts, lambda identity: identity.adopt(ledger.id))
    return ledger.id


async def _with_identity(parts: Parts, use: Callable[[LedgerIdentity], Awaitable[None]]) -> None:
    producer, reader, admin = parts.broker.producer(), parts.broker.reader(), parts.broker.admin()
    try:
        await use(LedgerIdentity(producer=producer, reader=reader, admin=admin, clock=parts.clock))
    finally:
        for client in (producer, reader, admin):
            await client.close()


async def _open_any_ledger(parts: Parts, *, worker: str) -> tuple[Ledger, str]:
    """The ledger, whichever it is, and where it is, in words without a password."""
    setting = ledger_setting(parts.settings, parts.data)
    if re.match(r"postgres(ql)?://", setting):
        from pabal.ledger.postgres.ledger import PostgresLedger

        return await PostgresLedger.open(setting, worker=worker), _ledger_place(parts)
    return await SqliteLedger.open(
        Path(setting.removeprefix("sqlite:")), clock=parts.clock, worker=worker
    ), _ledger_place(parts)


def ledger_setting(settings: Settings, data: Path) -> str:
    """The ledger's path or URL, by default a file in the data folder."""
    return settings.ledger or str(data / "ledger.db")


def _ledger_place(parts: Parts) -> str:
    return without_password(ledger_setting(parts.settings, parts.data))


Ready = Callable[[str], None]
"""Told once by a role that is ready, with what it is ready for in words without a secret."""


def _tell_nobody(line: str) -> None:
    del line


async def check_settings(settings: Settings) -> None:
    """Raise ConfigError for whatever the settings name that no role could use: templates, providers, the store's URL.

    Opens no connection and no file but those of templates and certificates.
    """
    _own_templates(settings)
    carriers = make_carriers(settings, clock=SystemClock())
    for carrier in (each for first in carriers.values() for each in first.by_name.values()):
        await carrier.provider.close()
    await open_store(settings, Path()).close()


async def run_api(
    parts: Parts, stopping: asyncio.Event, *, listening: socket.socket, ready: Ready = _tell_nobody
) -> None:
    """The `api` role on a socket that listens already."""
    settings = parts.settings
    templates = _own_templates(settings)
    async with contextlib.AsyncExitStack() as closing:
        producer = parts.broker.producer(deadline_seconds=settings.api.append_timeout_seconds)
        closing.push_async_callback(producer.close)
        store = open_store(settings, parts.data)
        closing.push_async_callback(store.close)
        if templates:
            await publish_templates(templates.values(), producer=producer)

        async def open_client() -> Ledger:
            ledger = await open_ledger(parts, worker=f"api-{secrets.token_hex(8)}", may_be_first=False)
            closing.push_async_callback(ledger.close)
            return ledger

        apart = RenderingProcess()
        closing.push_async_callback(apart.close)
        redrives = RedriveHost(_make_desk(parts, producer=producer, store=store))
        closing.push_async_callback(redrives.close)

        app = create_app(
            settings=settings.api,
            producer=producer,
            admin=parts.broker.admin(),
            channels=redrives.desk.channels,
            classes=settings.class_settings(),
            templates=templates,
            clock=parts.clock,
            new_key=lambda: secrets.token_urlsafe(24),
            reader=parts.broker.reader(),
            store=store,
            open_ledger=open_client,
            receivers=make_receivers(settings, clock=parts.clock),
            tenants=settings.tenants,
            tracing=parts.tracing,
            redrives=redrives,
            apart=apart,
            ailments=parts.broker.ailments,
        )
        async with asyncio.TaskGroup() as group:
            following = group.create_task(redrives.follow())
            ready(f"api listens on {url_of_socket(listening)}")
            await serve(app, listening=listening, stopping=stopping)
            following.cancel()


def _make_desk(parts: Parts, *, producer: Producer, store: Store) -> DeadLetters:
    """The dead letters as the API sees them."""
    enabled = parts.settings.channels
    return DeadLetters(
        reader=parts.broker.reader(),
        admin=parts.broker.admin(),
        producer=producer,
        channels={name: CHANNELS[name] for name in enabled},
        providers={name: [each.name for each in own.providers] for name, own in enabled.items()},
        clock=parts.clock,
        store=store,
    )


async def run_worker(
    parts: Parts,
    stopping: asyncio.Event,
    *,
    name: str | None,
    channels: tuple[str, ...] = (),
    ready: Ready = _tell_nobody,
) -> None:
    """The `worker` role for some channels (none named: all)."""
    settings = parts.settings
    templates = _own_templates(settings)
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
        )
        gate = GateFollower(reader=parts.broker.reader(), ledger=ledger, clock=parts.clock)
        # Before the first claim: a new ledger knows nobody who must not be written to.
        await gate.catch_up(stopping)
        async with asyncio.TaskGroup() as group:
            group.create_task(gate.run(stopping))
            carried = ", ".join(f"{channel} by {'/'.join(each.by_name)}" for channel, each in carriers.items())
            ready(
                f"{_named('worker', name)} is ready for {carried} ({', '.join(CLASSES)}); "
                f"log {parts.log_url}, ledger {_ledger_place(parts)}"
            )
            await worker.run(stopping)


async def run_delayline(
    parts: Parts, stopping: asyncio.Event, *, name: str | None, ready: Ready = _tell_nobody
) -> None:
    """The `delayline` role."""
    line = DelayLine(broker=parts.broker, channels=parts.settings.channels, clock=parts.clock, name=name)
    async with asyncio.TaskGroup() as group:
        hearing = Hearing(
            reader=parts.broker.reader(), producer=parts.broker.producer(), clock=parts.clock, tell=line.hear
        )
        group.create_task(hearing.run(stopping))
        ready(f"{_named('delay line', name)} is ready for {', '.join(CLASSES)}; log {parts.log_url}")
        await line.run(stopping)


async def run_recorder(parts: Parts, stopping: asyncio.Event, *, name: str | None, ready: Ready = _tell_nobody) -> None:
    """The `recorder` role."""
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
        store_place = without_password(store_url(settings.store.url, data=parts.data))
        ready(
            f"{_named('recorder', name)} is ready for {', '.join(settings.channels)}; "
            f"log {parts.log_url}, store {store_place}"
        )
        await recorder.run(stopping)


def _named(role: str, name: str | None) -> str:
    return f"{role} {name}" if name else role


def open_store(settings: Settings, data: Path) -> Store:
    """The store by the settings, by default a file in the data folder. Opened by its first call. Raises ConfigError."""
    return SqlStore(store_url(settings.store.url, data=data), clock=SystemClock())


def open_existing_store(settings: Settings, data: Path) -> SqlStore:
    """The store, for those who only ask. Raises ConfigError when its file is not there.

    A new and empty one, made in the wrong folder, would say that nothing is amiss.
    """
    url = store_url(settings.store.url, data=data)
    if url.startswith("sqlite:") and not (path := Path(url.removeprefix("sqlite:"))).exists():
        raise ConfigError(f"there is no store at {path}; give --data, or [store] url with --config")
    return SqlStore(url, clock=SystemClock())


def make_carriers(settings: Settings, *, clock: Clock, channels: tuple[str, ...] = ()) -> Mapping[str, Carrier]:
    """The providers of each channel, by the settings. Raises ConfigError."""
    context = ProviderContext(
        clock=clock, webhook_secrets={name: tenant.webhook_secrets for name, tenant in settings.tenants.items()}
    )
    enabled = settings.channels
    carriers = {}
    for name in channels or tuple(enabled):
        if name not in enabled:
            raise ConfigError(f"there is no channel {name!r} here; there are: {', '.join(enabled)}")
        first, *others = (
            Carrier(
                channel=CHANNELS[name],
                provider=_make_provider(settings, each.name, channel=name, context=context),
                provider_name=each.name,
                weight=each.weight,
                rate_per_second=settings.provider(each.name).rate_per_second,
            )
            for each in enabled[name].providers
        )
        carriers[name] = msgspec.structs.replace(first, others=tuple(others))
    return carriers


def _make_provider(settings: Settings, name: str, *, channel: str | None = None, context: ProviderContext) -> Provider:
    """The provider that the settings call `name`. Raises ConfigError, also when it does not carry `channel`."""
    own = settings.provider(name)
    kind = own.kind or name
    try:
        provider = create_provider(kind, options=own.options, context=msgspec.structs.replace(context, name=name))
    except ConfigError as error:
        # A provider knows its table by its kind; the file may call it otherwise.
        raise ConfigError(str(error).replace(f"$.providers.{kind}", f"$.providers.{name}")) from error
    if channel is not None and provider.channel != channel:
        raise ConfigError(f"$.channels.{channel}.provider: {name!r} carries {provider.channel}, not {channel}")
    return provider


def make_receivers(settings: Settings, *, clock: Clock) -> Mapping[str, TakesReceipts]:
    """Every provider of the settings that takes receipts, by its name there. Raises ConfigError."""
    receivers: dict[str, TakesReceipts] = {}
    for name in settings.providers:
        provider = _make_provider(settings, name, context=ProviderContext(clock=clock))
        if isinstance(provider, TakesReceipts):
            receivers[name] = provider
    return receivers


def _own_templates(settings: Settings) -> Mapping[str, Template]:
    return load_templates(Path(settings.templates)) if settings.templates else {}

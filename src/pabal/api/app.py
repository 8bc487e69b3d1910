"""The application: its parts, and the operations that they answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.types import ASGIApp

from pabal.api.acceptance import Acceptance
from pabal.api.batch import Batches
from pabal.api.cancelling import Cancelling
from pabal.api.dead_letters import DeadLetterRequests
from pabal.api.documents import Documents
from pabal.api.exposition import Exposition
from pabal.api.health import Probes
from pabal.api.keys import Keyring
from pabal.api.lagging_store import LaggingStore
from pabal.api.lazy_ledger import LazyLedger
from pabal.api.lookups import Lookups
from pabal.api.notifications import Notifications
from pabal.api.operation import Operation
from pabal.api.quotas import Quotas
from pabal.api.receipts import TakingReceipts
from pabal.api.redrives import RedriveRequests
from pabal.api.routes import Routes
from pabal.api.suppressing import Suppressing
from pabal.broker.port import Admin, Producer, Reader
from pabal.channels.port import Channel
from pabal.clock import Clock
from pabal.config import ApiSettings, TenantSettings
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.host import RedriveHost
from pabal.ledger.port import Ledger
from pabal.notification import CLASSES, EVENTS_TOPIC, NotificationClass, deliveries_topic
from pabal.plan import Offer
from pabal.policy import ClassSettings
from pabal.providers.port import TakesReceipts
from pabal.rendering import Renders
from pabal.store.port import Store
from pabal.suppressions import SuppressionList
from pabal.telemetry.meter import Meter
from pabal.template import Template
from pabal.tracing.port import Tracing


def create_app(
    *,
    settings: ApiSettings,
    producer: Producer,
    admin: Admin,
    channels: Mapping[str, Channel],
    classes: Mapping[NotificationClass, ClassSettings],
    templates: Mapping[str, Template],
    clock: Clock,
    new_key: Callable[[], str],
    reader: Reader,
    store: Store | None,
    open_ledger: Callable[[], Awaitable[Ledger]],
    receivers: Mapping[str, TakesReceipts],
    tenants: Mapping[str, TenantSettings],
    tracing: Tracing | None = None,
    redrives: RedriveHost | None = None,
    apart: Renders | None = None,
    ailments: Callable[[], Sequence[str]] = tuple,
    meter: Meter | None = None,
) -> ASGIApp:
    """The API as an ASGI application; it owns nothing that it is handed.

    `channels` are the channels that this installation has switched on. `producer` must give up within
    `settings.append_timeout_seconds`. `templates` must be published before the first request
    (`ops.template_library.publish_templates`). `new_key` makes idempotency keys; they must not repeat.

    `store` answers look-ups (None: they say that there is none). `open_ledger` is called when something is first
    taken back, or reported to have arrived. `receivers` are the providers that take receipts, by name.

    `redrives` runs redrives and knows the dead letters; the caller lets it follow the log, and closes it (None:
    redrives end with this process, and no letter can be given another provider).

    `apart` renders templates that are too large for an event loop (None: they are refused).

    `meter` counts what the API does, and `/metrics` exposes it (None: nothing is counted).

    `ailments` says what `/healthz` is to know of the process (`Broker.ailments`).

    Raises ConfigError for keys that cannot be told apart.
    """
    acceptance = Acceptance(
        offer=Offer(
            channels=channels,
            templates=templates,
            times_to_live={name: class_.time_to_live for name, class_ in classes.items()},
        ),
        producer=producer,
        append_timeout_seconds=settings.append_timeout_seconds,
        quotas=Quotas(tenants),
        clock=clock,
        apart=apart,
        meter=meter,
    )
    topics = [deliveries_topic(channel, class_) for channel in sorted(channels) for class_ in CLASSES]
    lagging = LaggingStore(store, admin=admin, topics=[*topics, EVENTS_TOPIC], clock=clock)
    ledger = LazyLedger(open_ledger)
    lookups = Lookups(store=lagging, channels=channels)
    suppressions = SuppressionList(reader=reader, clock=clock)
    redrives = redrives or RedriveHost(
        DeadLetters(
            reader=reader,
            admin=admin,
            producer=producer,
            channels=channels,
            providers={},
            clock=clock,
            store=store,
        )
    )
    operations: list[Operation[Any, Any]] = [
        *Notifications(acceptance=acceptance, new_key=new_key).operations(),
        *Batches(acceptance=acceptance, new_key=new_key).operations(),
        *lookups.operations(),
        *Cancelling(lookups=lookups, acceptance=acceptance, ledger=ledger, clock=clock).operations(),
        *TakingReceipts(
            receivers=receivers, acceptance=acceptance, ledger=ledger, store=store, clock=clock
        ).operations(),
        *Suppressing(suppressions=suppressions, acceptance=acceptance, channels=channels, clock=clock).operations(),
        *DeadLetterRequests(redrives.dead_letters).operations(),
        *RedriveRequests(redrives).operations(),
        *Exposition(meter or Meter()).operations(),
        *Probes(ailments=ailments, admin=admin, topics=topics, clock=clock).operations(),
    ]
    operations += Documents(operations, channels=channels).operations()
    return Routes(operations, keyring=Keyring(settings.keys), tracing=tracing, meter=meter)

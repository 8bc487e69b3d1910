"""The `api` role."""

import asyncio
import contextlib
import secrets
import socket

from pabal.api import create_app
from pabal.broker.port import Producer
from pabal.channels.registry import installed_channels
from pabal.compose.ledgers import check_ledger, open_ledger
from pabal.compose.listening import url_of_socket
from pabal.compose.parts import Parts, Ready, say_nothing
from pabal.compose.providers import make_receivers, own_templates
from pabal.compose.stores import open_store
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.host import RedriveHost
from pabal.ledger.port import Ledger
from pabal.ops.template_library import publish_templates
from pabal.rendering import RenderingProcess
from pabal.serving.server import serve
from pabal.store.port import Store


async def run_api(
    parts: Parts, stopping: asyncio.Event, *, listening: socket.socket, ready: Ready = say_nothing
) -> None:
    """Run the `api` role on a socket that listens already."""
    settings = parts.settings
    # The first cancellation opens the ledger; a package that it lacks is said at the start.
    check_ledger(settings, parts.data)
    templates = own_templates(settings)
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
            channels=redrives.dead_letters.channels,
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
            ailments=lambda: [*parts.broker.ailments(), *parts.reporter.ailments()],
            meter=parts.meter,
        )
        parts.reporter.enter("api")
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
        channels={name: installed_channels()[name] for name in enabled},
        providers={name: [each.name for each in own.providers] for name, own in enabled.items()},
        clock=parts.clock,
        store=store,
    )

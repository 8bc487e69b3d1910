"""The port on which a role without an API answers `/metrics`, `/healthz` and `/readyz`."""

import asyncio
import socket

from pabal.api.exposition import Exposition
from pabal.api.health import Probes
from pabal.api.keys import Keyring
from pabal.api.routes import Routes
from pabal.compose.parts import Parts
from pabal.notification import EVENTS_TOPIC
from pabal.serving.limits import descriptor_limit, limits_for
from pabal.serving.server import serve


async def serve_status(parts: Parts, stopping: asyncio.Event, *, listening: socket.socket) -> None:
    """Answer until `stopping`. Nothing here needs a key: no figure names a tenant, a host or a recipient."""
    operations = [
        *Exposition(parts.meter).operations(),
        *Probes(
            ailments=lambda: [*parts.broker.ailments(), *parts.reporter.ailments()],
            admin=parts.broker.admin(),
            topics=[EVENTS_TOPIC],
            clock=parts.clock,
        ).operations(),
    ]
    app = Routes(operations, keyring=Keyring(()), tracing=None)
    # A small share: the role itself needs the descriptors.
    limits = limits_for(descriptor_limit() // 8)
    await serve(app, listening=listening, stopping=stopping, limits=limits)

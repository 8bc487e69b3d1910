"""Opens the dead letters of an installation, for the commands and for the API."""

import contextlib
from collections.abc import AsyncIterator

from pabal.broker.port import Broker
from pabal.channels.registry import installed_channels
from pabal.clock import Clock
from pabal.config import Settings
from pabal.dlq.parts import DeadLetters
from pabal.store.port import Store


@contextlib.asynccontextmanager
async def open_dead_letters(
    broker: Broker, *, settings: Settings, clock: Clock, store: Store | None = None
) -> AsyncIterator[DeadLetters]:
    """The dead letters on a log, with the channels and providers of these settings; closed at the end.

    `store` tells histories longer than the log holds them; it is not closed.
    """
    async with contextlib.AsyncExitStack() as closing:
        reader, admin, producer = broker.reader(), broker.admin(), broker.producer()
        for client in (reader, admin, producer):
            closing.push_async_callback(client.close)
        yield DeadLetters(
            reader=reader,
            admin=admin,
            producer=producer,
            channels={name: installed_channels()[name] for name in settings.channels},
            providers={name: [each.name for each in own.providers] for name, own in settings.channels.items()},
            clock=clock,
            store=store,
        )

"""The inbox of `pabal up`: it takes the mail of an installation that names no SMTP server."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from pabal.clock import SystemClock
from pabal.config import Settings
from pabal.extras import require_extra
from pabal.serving.limits import descriptor_limit, limits_for
from pabal.serving.server import serve

DEVELOPMENT_SENDER: Final = "Pabal <pabal@pabal.example>"
"""RFC 2606 keeps `.example` free: mail that is sent to it by mistake reaches no real mailbox."""


def needs_inbox(settings: Settings) -> bool:
    """Whether mail has nowhere to go: SMTP carries the channel, and the settings name no server, only a sender."""
    channel = settings.channels.get("email")
    if channel is None:
        return False
    said = settings.providers.get("smtp", {}).keys()
    return any(each.name == "smtp" for each in channel.providers) and said <= {"sender", "receipt_secrets"}


def check_inbox() -> None:
    """Raise ConfigError unless the inbox's extra is installed."""
    require_extra("inbox", wanted_by="no SMTP server is set ([providers.smtp] host), and the inbox")


@contextlib.asynccontextmanager
async def inbox_if_needed(
    settings: Settings, stopping: asyncio.Event, *, sockets: Sequence[socket.socket], first_command: str | None = None
) -> AsyncIterator[Settings]:
    """The settings, changed so that mail goes to the built-in inbox, which runs as long as this context.

    `sockets`: of the inbox's page and of its SMTP server. Without them there is no inbox, and the settings stay.
    `first_command`: what the page shows while it is empty.
    """
    if not sockets:
        yield settings
        return
    # Its SMTP server is an extra: an installation without it runs whatever needs no inbox.
    from pabal.inbox import Inbox

    page, for_mail = sockets
    hook_secrets = [secret for tenant in settings.tenants.values() for secret in tenant.webhook_secrets]
    inbox = Inbox(SystemClock(), webhook_secrets=hook_secrets, first_command=first_command)
    host, port = await inbox.start(listening=for_mail)
    own = settings.providers.get("smtp", {})
    smtp = {"sender": DEVELOPMENT_SENDER, **own, "host": host, "port": port, "tls": "none"}
    # A small share: the API and the worker need the descriptors.
    limits = limits_for(descriptor_limit() // 8)
    serving = asyncio.create_task(serve(inbox.app, listening=page, stopping=stopping, limits=limits))
    try:
        yield msgspec.structs.replace(settings, providers={**settings.providers, "smtp": smtp})
    finally:
        stopping.set()
        try:
            await serving
        finally:
            await inbox.close()

"""`pabal up`: every role in one process, for trying, developing and small installations."""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shlex
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from pabal.cli.key import NO_KEYS
from pabal.cli.options import PORT, common_options, run_role, settings_of, usable, with_clear_errors
from pabal.cli.starter import (
    DEVELOPMENT_SENDER,
    FAST_LADDER_SECONDS,
    key_beside,
    key_file_of,
    prepare_development,
    quicken,
)
from pabal.cli.terminal import Terminal, say
from pabal.clock import SystemClock
from pabal.compose.listening import SocketAddress, listen_on, url_of_socket
from pabal.compose.parts import Parts, open_parts
from pabal.compose.providers import check_settings
from pabal.compose.roles import ROLES, Given
from pabal.compose.topics import EMBEDDED_PARTITIONS, check_topics, create_topics
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.extras import require_extra
from pabal.private_files import make_private_folder
from pabal.serving.limits import descriptor_limit, limits_for
from pabal.serving.server import serve

logger = logging.getLogger(__name__)

NO_SMTP_SERVER: Final = "no SMTP server is set ([providers.smtp] host), and the inbox"
"""Why the inbox is wanted: the beginning of the error where its extra is missing."""

_HELP: Final = """Run every role in this process: {roles}.

Without --log everything is kept durably in an embedded log under --data: there is nothing to install, and a second
start goes on where the first stopped. Without --config the first start makes a configuration for development under
--data, with a key, and webhooks may call this machine; `pabal init` writes it out for you to change. Unless the
configuration names an SMTP server, mail goes to a built-in inbox. Ctrl-C drains and ends.
"""


@click.command(help=_HELP.format(roles=", ".join(role.title for role in ROLES)))
@common_options
@click.option("--port", type=PORT, help="Port of the API. Default: [api] port of the configuration (8080).")
@click.option("--inbox-port", type=PORT, default=8025, show_default=True, help="Port of the inbox page.")
@click.option("--smtp-port", type=PORT, default=1025, show_default=True, help="Port of the inbox's SMTP server.")
@click.option("--fast", is_flag=True, help="For trying out: every class tries again after 5 s, twice, then gives up.")
@with_clear_errors
def up(
    log_url: str | None,
    config: Path | None,
    data: Path,
    port: int | None,
    inbox_port: int,
    smtp_port: int,
    *,
    fast: bool,
) -> None:
    """See `_HELP`."""

    with contextlib.ExitStack() as held:
        with usable(data):
            make_private_folder(data)
            held.enter_context(_only_one(data))
            own = prepare_development(data, tell=say) if config is None else config
        settings = settings_of(own)
        key, key_file = key_beside(own, settings), key_file_of(own).absolute()
        if port is not None:
            settings = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, port=port))
        url = log_url or settings.log.url or f"sqlite:{data / 'log.db'}"
        if fast:
            settings = _quickened(settings, log_url=url)
        addresses = [SocketAddress(host=settings.api.host, port=settings.api.port, option="--port")]
        if needs_inbox(settings):
            require_extra("inbox", wanted_by=NO_SMTP_SERVER)
            addresses.append(SocketAddress(host="127.0.0.1", port=inbox_port, option="--inbox-port"))
            addresses.append(SocketAddress(host="127.0.0.1", port=smtp_port, option="--smtp-port"))

        async def main(stopping: asyncio.Event) -> None:
            with listen_on(addresses) as [listening, *for_inbox]:
                greeting = Greeting(
                    log_url=url,
                    api_url=url_of_socket(listening),
                    inbox_url=url_of_socket(for_inbox[0]) if for_inbox else None,
                    key=key,
                    key_file=None if key is None else key_file,
                    has_keys=bool(settings.api.keys),
                    config=f"{own}   (to change it, make it your own: pabal init)" if config is None else str(own),
                    fast=fast,
                )
                inbox = _inbox_if_needed(settings, greeting, stopping, sockets=for_inbox)
                async with inbox as complete:
                    await check_settings(complete)
                    async with open_parts(complete, log_url=url, data=data, environment=os.environ) as parts:
                        await _prepare_topics(parts)
                        await _run_all(parts, stopping, listening=listening, greeting=greeting)

        run_role(main)


async def _run_all(parts: Parts, stopping: asyncio.Event, *, listening: socket.socket, greeting: "Greeting") -> None:
    """Run every role until `stopping` is set or a role fails. Greets when the last role is ready."""
    waited_for = len(ROLES)

    def ready(line: str) -> None:
        nonlocal waited_for
        logger.debug("%s", line)
        waited_for -= 1
        if waited_for == 0:
            greeting.show()

    given = Given(listening=listening, name=_member_name(parts.log_url), ready=ready)
    async with asyncio.TaskGroup() as group:
        for role in ROLES:
            group.create_task(role.run(parts, stopping, given))
        group.create_task(_say_stopping(stopping))


def _member_name(log_url: str) -> str:
    """The name under which `up` joins its groups: started again, it takes its own place at once.

    On Kafka it names the host too: two members of one name would throw each other out.
    """
    return "up" if log_url.startswith("sqlite:") else f"up-{socket.gethostname()}"


class Greeting(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` prints when every role is ready. `key`: from the file beside the configuration. `has_keys`: the
    configuration has keys, this one or others."""

    log_url: str
    api_url: str
    inbox_url: str | None
    key: str | None
    has_keys: bool = True
    key_file: Path | None = None
    config: str = ""
    fast: bool = False

    def show(self) -> None:
        """Print it."""
        console = Terminal(soft_wrap=True)
        console.print(Text.assemble(("Pabal is up", "bold"), f" on {self.log_url}"))
        console.print(f"  API    {self.api_url}   (documentation: {self.api_url}/docs)")
        if self.inbox_url:
            console.print(
                f"  inbox  {self.inbox_url}   (all mail; and webhooks sent to {self.inbox_url}/hook/anything)"
            )
        console.print(f"  config {self.config}")
        if self.fast:
            every = " s, then ".join(map(str, FAST_LADDER_SECONDS))
            console.print(
                f"  fast   every class tries again after {every} s, then gives up (--fast): for trying out, "
                "never for anything that matters",
                style="bold red",
            )
        if self.key:
            console.print(f"  key    {self.key}   (for development)")
            console.print()
            console.print("Send the first notification:")
            console.print()
            console.print(self.first_command(key=self.key))
        elif not self.has_keys:
            console.print(f"  key    {NO_KEYS}")
            console.print("         or begin with a configuration that has one:  pabal init")
        console.print()
        console.print("Ctrl-C ends it; nothing accepted is lost.")

    def first_command(self, *, key: str) -> str:
        """A line to paste into a terminal, with `key` or what the shell puts in its place."""
        to = [{"channel": "email", "address": "ana@example.com"}]
        if self.inbox_url:
            to.append({"channel": "webhook", "address": f"{self.inbox_url}/hook/shop"})
        content = {"title": "Order 17 shipped", "body": "It arrives tomorrow."}
        body = json.dumps({"to": to, "class": "standard", "content": content})
        return (
            f'curl -sS {self.api_url}/v1/notifications -H "Authorization: Bearer {key}" '
            f"-H 'Content-Type: application/json' -d '{body}'"
        )

    def command_for_page(self) -> str | None:
        """The same line for the inbox page, with the key's file instead of the key. Everyone on this machine can open
        the page; only its owner can read the file."""
        if self.key_file is None:
            return None
        return self.first_command(key=f"$(cat {shlex.quote(str(self.key_file))})")


@contextlib.contextmanager
def _only_one(data: Path) -> Iterator[None]:
    """One `pabal up` per data folder; the kernel frees the lock when the process ends, however it ends."""
    with (data / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"another `pabal up` is running on {data}; stop it, or give this one another folder with --data"
            ) from None
        yield


def _quickened(settings: Settings, *, log_url: str) -> Settings:
    """The settings of `--fast`. Raises ConfigError on a log that other processes may work on."""
    if not log_url.startswith("sqlite:"):
        raise ConfigError(
            "--fast is for trying out on the embedded log; on Kafka set [classes.NAME] ladder_seconds in the "
            "configuration of every worker"
        )
    return quicken(settings)


def needs_inbox(settings: Settings) -> bool:
    """Whether mail has nowhere to go: SMTP carries the channel, and the settings name no server, only a sender."""
    channel = settings.channels.get("email")
    if channel is None:
        return False
    said = settings.providers.get("smtp", {}).keys()
    return any(each.name == "smtp" for each in channel.providers) and said <= {"sender", "receipt_secrets"}


@contextlib.asynccontextmanager
async def _inbox_if_needed(
    settings: Settings, greeting: Greeting, stopping: asyncio.Event, *, sockets: Sequence[socket.socket]
) -> AsyncIterator[Settings]:
    """The settings, changed so that mail goes to the built-in inbox, which runs as long as this context.

    `sockets`: of the inbox's page and of its SMTP server. Without them there is no inbox, and the settings stay.
    """
    if not sockets:
        yield settings
        return
    # Its SMTP server is an extra: an installation without it runs whatever needs no inbox.
    from pabal.inbox import Inbox

    page, for_mail = sockets
    hook_secrets = [secret for tenant in settings.tenants.values() for secret in tenant.webhook_secrets]
    inbox = Inbox(SystemClock(), webhook_secrets=hook_secrets, first_command=greeting.command_for_page())
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


async def _prepare_topics(parts: Parts) -> None:
    """The embedded log gets its topics by itself; on Kafka nothing is created by accident."""
    if parts.log_url.startswith("sqlite:"):
        await create_topics(parts, partitions=EMBEDDED_PARTITIONS, replication=None)
    else:
        await check_topics(parts)


async def _say_stopping(stopping: asyncio.Event) -> None:
    await stopping.wait()
    say("stopping: finishing what is under way …")

"""`pabal up`: every role in one process, for trying, developing and small installations."""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click
import msgspec

from pabal.cli.greeting import Greeting
from pabal.cli.options import PORT, common_options, run_role, settings_of, usable, with_clear_errors
from pabal.cli.starter import key_beside, key_file_of, prepare_development, quicken
from pabal.cli.terminal import say
from pabal.compose.inbox import check_inbox, inbox_if_needed, needs_inbox
from pabal.compose.listening import SocketAddress, listen_on, url_of_socket
from pabal.compose.parts import Parts, open_parts, reporting
from pabal.compose.providers import check_settings
from pabal.compose.roles import ROLES, Given
from pabal.compose.topics import EMBEDDED_PARTITIONS, check_topics, create_topics
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.private_files import make_private_folder
from pabal.runtime import keep_what_is_loaded

logger = logging.getLogger(__name__)

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
            check_inbox()
            addresses.append(SocketAddress(host="127.0.0.1", port=inbox_port, option="--inbox-port"))
            addresses.append(SocketAddress(host="127.0.0.1", port=smtp_port, option="--smtp-port"))

        greeting = Greeting(
            log_url=url,
            key=key,
            key_file=None if key is None else key_file,
            has_keys=bool(settings.api.keys),
            config=f"{own}   ({_how_to_change_it()})" if config is None else str(own),
            fast=fast,
        )
        run_role(lambda stopping: _run(settings, stopping, data=data, addresses=addresses, greeting=greeting))


async def _run(
    settings: Settings, stopping: asyncio.Event, *, data: Path, addresses: Sequence[SocketAddress], greeting: Greeting
) -> None:
    """Listen on the addresses (of the API, then of the inbox), open the parts, and run every role on them."""
    with listen_on(addresses) as [listening, *for_inbox]:
        greeting = msgspec.structs.replace(
            greeting,
            api_url=url_of_socket(listening),
            inbox_url=url_of_socket(for_inbox[0]) if for_inbox else None,
        )
        inbox = inbox_if_needed(settings, stopping, sockets=for_inbox, first_command=greeting.command_for_page())
        async with inbox as complete:
            await check_settings(complete)
            async with open_parts(complete, log_url=greeting.log_url, data=data, environment=os.environ) as parts:
                await _prepare_topics(parts)
                await _run_all(parts, stopping, listening=listening, greeting=greeting)


async def _run_all(parts: Parts, stopping: asyncio.Event, *, listening: socket.socket, greeting: Greeting) -> None:
    """Run every role until `stopping` is set or a role fails. Greets when the last role is ready."""
    waited_for = len(ROLES)

    def ready(line: str) -> None:
        nonlocal waited_for
        logger.debug("%s", line)
        waited_for -= 1
        if waited_for == 0:
            keep_what_is_loaded()
            greeting.show()

    given = Given(listening=listening, name=_member_name(parts.log_url), ready=ready)
    async with reporting(parts), asyncio.TaskGroup() as group:
        for role in ROLES:
            group.create_task(role.run(parts, stopping, given))
        group.create_task(_say_stopping(stopping))


def _how_to_change_it() -> str:
    """What to do about a configuration that was made for development. One of the user's own is not taken unasked."""
    own = Path("pabal.toml")
    return (
        f"not {own}, which is here: --config {own}" if own.is_file() else "to change it, make it your own: pabal init"
    )


def _member_name(log_url: str) -> str:
    """The name under which `up` joins its groups: started again, it takes its own place at once.

    On Kafka it names the host too: two members of one name would throw each other out.
    """
    return "up" if log_url.startswith("sqlite:") else f"up-{socket.gethostname()}"


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


async def _prepare_topics(parts: Parts) -> None:
    """The embedded log gets its topics by itself; on Kafka nothing is created by accident."""
    if parts.log_url.startswith("sqlite:"):
        await create_topics(parts, partitions=EMBEDDED_PARTITIONS, replication=None)
    else:
        await check_topics(parts)


async def _say_stopping(stopping: asyncio.Event) -> None:
    await stopping.wait()
    say("stopping: finishing what is under way …")

"""A command for each role (`pabal api`, `pabal worker`, …), made from the table of roles."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pabal.cli.key import NO_KEYS
from pabal.cli.options import PORT, common_options, run_role, settings_of, url_of, with_clear_errors
from pabal.cli.terminal import say
from pabal.compose.listening import listen, url_of_socket
from pabal.compose.parts import Parts, open_parts, reporting
from pabal.compose.roles import Given, Role, role_named
from pabal.compose.status_port import serve_status
from pabal.compose.topics import check_topics
from pabal.config import Settings
from pabal.groups import RoleName
from pabal.runtime import keep_what_is_loaded

_HOST = click.option("--host", help="Address to listen on. Default: [api] host of the configuration (127.0.0.1).")
_PORT = click.option("--port", type=PORT, help="Port to listen on. Default: [api] port of the configuration (8080).")
_STATUS_PORT = click.option(
    "--status-port",
    type=PORT,
    help="Port for /metrics, /healthz and /readyz. Default: [status] port of the configuration (none).",
)
_CHANNEL = click.option(
    "--channel", "channels", multiple=True, help="Send only this channel; may be repeated. Default: all."
)


def run_alone(
    role: Role,
    *,
    log_url: str | None,
    config: Path | None,
    data: Path,
    name: str | None = None,
    channels: tuple[str, ...] = (),
    host: str | None = None,
    port: int | None = None,
    status_port: int | None = None,
) -> None:
    """Run one role in this process, until a signal. Raises PabalError when the role cannot start or cannot go on."""
    settings = settings_of(config)
    url = url_of(log_url, settings)

    async def main(stopping: asyncio.Event) -> None:
        async with open_parts(settings, log_url=url, data=data, environment=os.environ) as parts:
            await check_topics(parts)
            with contextlib.ExitStack() as closing:
                listening = for_status = None
                if "socket" in role.needs:
                    own_port = settings.api.port if port is None else port
                    listening = closing.enter_context(listen(host or settings.api.host, own_port, option="--port"))
                elif (own_status_port := settings.status.port if status_port is None else status_port) is not None:
                    for_status = closing.enter_context(
                        listen(settings.status.host, own_status_port, option="--status-port")
                    )
                given = Given(listening=listening, name=name, channels=channels, ready=_say_ready(role, settings))
                async with reporting(parts):
                    await _run_with_status(role, parts, stopping, given, for_status=for_status)

    run_role(main)


async def _run_with_status(
    role: Role, parts: Parts, stopping: asyncio.Event, given: Given, *, for_status: socket.socket | None
) -> None:
    """Run the role, and beside it its status port, if it has one."""
    if for_status is None:
        await role.run(parts, stopping, given)
        return
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve_status(parts, stopping, listening=for_status))
        say(f"status of the {role.title}: {url_of_socket(for_status)}/metrics")
        await role.run(parts, stopping, given)
        serving.cancel()


def options_of(role: Role) -> Callable[[Any], Any]:
    """A decorator that adds the options of the role's command: the common options, and one for each of its needs."""
    own: list[Callable[[Any], Any]] = []
    if "socket" in role.needs:
        own += [_HOST, _PORT]
    else:
        own.append(_STATUS_PORT)
    if "channels" in role.needs:
        own.append(_CHANNEL)
    if "name" in role.needs:
        text = f"A name that survives restarts: a restarted {role.title} takes its own place at once."
        own.append(click.option("--name", help=text))

    def decorate(command: Any) -> Any:
        for option in reversed(own):
            command = option(command)
        return common_options(command)

    return decorate


def help_of(role: Role) -> str:
    """The help text of the role's command."""
    return f"{role.summary}\n\n{role.advice}"


def command_of(name: RoleName) -> click.Command:
    """`pabal NAME`, which runs the role alone in its process."""
    role = role_named(name)

    @options_of(role)
    @with_clear_errors
    def run(**options: Any) -> None:
        run_alone(role, **options)

    return click.command(role.name, help=help_of(role))(run)


def _say_ready(role: Role, settings: Settings) -> Callable[[str], None]:
    def ready(line: str) -> None:
        keep_what_is_loaded()
        say(line)
        if "socket" in role.needs and not settings.api.keys:
            say(NO_KEYS)

    return ready

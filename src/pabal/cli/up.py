"""`pabal up`: every role in one process, for trying, developing and small installations."""

import asyncio
import contextlib
import fcntl
import secrets
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from pabal.cli.compose import (
    EMBEDDED_PARTITIONS,
    Parts,
    check_topics,
    create_topics,
    listen,
    open_parts,
    run_api,
    run_delayline,
    run_worker,
    serve,
)
from pabal.cli.key import as_toml, make_key
from pabal.cli.options import common_options, run_role, settings_of, with_clear_errors
from pabal.config import Settings
from pabal.errors import ConfigError
from pabal.inbox import Inbox

NAME = "up"
"""The name under which `up` joins its groups: started again, it takes its own place at once."""

_DEVELOPMENT = """\
# Made by `pabal up` for development; pass a configuration of your own with --config.
# The key behind this hash stands in development.key beside this file.

{key}

[tenants.dev]
webhook_secrets = ["{secret}"]

[providers.webhook]
allow = ["127.0.0.0/8", "::1/128"]    # may call this machine; without it only public addresses are called
"""


@click.command()
@common_options
@click.option("--port", type=int, help="Port of the API. Default: [api] port of the configuration (8080).")
@click.option("--inbox-port", type=int, default=8025, show_default=True, help="Port of the inbox page.")
@click.option("--smtp-port", type=int, default=1025, show_default=True, help="Port of the inbox's SMTP server.")
@with_clear_errors
def up(log_url: str | None, config: Path | None, data: Path, port: int | None, inbox_port: int, smtp_port: int) -> None:
    """Run every role in this process: API, worker, delay line.

    Without --log it keeps everything in an embedded log under --data: nothing to install, durable, and a second start
    goes on where the first stopped. Without --config it makes a development key and lets webhooks call this machine.
    Unless the configuration names an SMTP server, mail goes to a built-in inbox. Ctrl-C drains and ends.
    """

    data.mkdir(parents=True, exist_ok=True)
    with _only_one(data):
        key, settings = _development(data) if config is None else (None, settings_of(config))
        if port is not None:
            settings = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, port=port))
        url = log_url or settings.log.url or f"sqlite:{data / 'log.db'}"

        async def main(stopping: asyncio.Event) -> None:
            inbox = _inbox_if_needed(settings, stopping, page_port=inbox_port, smtp_port=smtp_port)
            async with inbox as (complete, page), open_parts(complete, log_url=url, data=data) as parts:
                await _run_all(parts, stopping, key=key, page=page)

        run_role(main)


async def _run_all(parts: Parts, stopping: asyncio.Event, *, key: str | None, page: str | None) -> None:
    """Every role, until asked to stop or one fails."""
    await _prepare_topics(parts)
    listening = listen(parts.settings.api.host, parts.settings.api.port, option="--port")
    _greet(parts, api_url="http://{}:{}".format(*listening.getsockname()[:2]), page=page, key=key)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_api(parts, stopping, listening=listening))
        group.create_task(run_worker(parts, stopping, name=NAME))
        group.create_task(run_delayline(parts, stopping, name=NAME))
        group.create_task(_say_stopping(stopping))


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


def _development(data: Path) -> tuple[str, Settings]:
    """The development key and settings, made at the first start."""
    key_file, settings_file = data / "development.key", data / "development.toml"
    if not (key_file.exists() and settings_file.exists()):
        key, entry = make_key("dev", scopes=("send", "read", "admin"))
        secret = f"whsec_{b64encode(secrets.token_bytes(32)).decode()}"
        settings_file.touch(mode=0o600)
        settings_file.write_text(_DEVELOPMENT.format(key=as_toml(entry), secret=secret))
        key_file.touch(mode=0o600)
        key_file.write_text(f"{key}\n")
    return key_file.read_text().strip(), settings_of(settings_file)


@contextlib.asynccontextmanager
async def _inbox_if_needed(
    settings: Settings, stopping: asyncio.Event, *, page_port: int, smtp_port: int
) -> AsyncIterator[tuple[Settings, str | None]]:
    """Settings whose mail goes somewhere, and the inbox's page if that is the built-in inbox."""
    channel = settings.channels.get("email")
    if channel is None or channel.provider != "smtp" or "smtp" in settings.providers:
        yield settings, None
        return
    listening = listen("127.0.0.1", page_port, option="--inbox-port")
    inbox = await Inbox.start(smtp_port=smtp_port, webhook_secrets=_secrets(settings))
    host, port = inbox.smtp_address
    smtp: Mapping[str, Any] = {
        "host": host,
        "port": port,
        "tls": "none",
        "sender": "Pabal <pabal@localhost.localdomain>",
    }
    page = asyncio.create_task(serve(inbox.app, listening=listening, stopping=stopping))
    try:
        yield (
            msgspec.structs.replace(settings, providers={**settings.providers, "smtp": smtp}),
            "http://{}:{}".format(*listening.getsockname()[:2]),
        )
    finally:
        stopping.set()
        await page
        await inbox.close()


def _secrets(settings: Settings) -> tuple[str, ...]:
    return tuple(secret for tenant in settings.tenants.values() for secret in tenant.webhook_secrets)


async def _prepare_topics(parts: Parts) -> None:
    """The embedded log gets its topics by itself; on Kafka nothing is created by accident."""
    if parts.log_url.startswith("sqlite:"):
        await create_topics(parts, partitions=EMBEDDED_PARTITIONS, replication=None)
    else:
        await check_topics(parts)


def _greet(parts: Parts, *, api_url: str, page: str | None, key: str | None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"[bold]Pabal is up[/bold] on {parts.log_url}")
    console.print(f"  API    {api_url}   (documentation: {api_url}/docs)")
    if page:
        console.print(f"  inbox  {page}   (mail sent here, and webhooks sent to {page}/hook/anything)")
    if key:
        console.print(f"  key    {key}   (for development)")
        body = (
            '{"to": [{"channel": "email", "address": "ana@example.com"}'
            + (f', {{"channel": "webhook", "address": "{page}/hook/shop"}}' if page else "")
            + '], "class": "standard", "content": {"title": "Order 17 shipped", "body": "It arrives tomorrow."}}'
        )
        console.print("\nTry it:\n")
        console.print(
            f"curl -sS {api_url}/v1/notifications -H 'Authorization: Bearer {key}' "
            f"-H 'Content-Type: application/json' -d '{body}'\n",
            markup=False,
        )
    console.print("Ctrl-C ends it; nothing accepted is lost.")


async def _say_stopping(stopping: asyncio.Event) -> None:
    await stopping.wait()
    click.echo("stopping: finishing what is under way …")

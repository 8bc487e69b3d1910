"""`pabal api`, `pabal worker`, `pabal delayline`: the roles, each in a process of its own."""

import asyncio
import os
from pathlib import Path

import click

from pabal.cli.compose import check_topics, open_parts, run_api, run_delayline, run_worker
from pabal.cli.key import NO_KEYS
from pabal.cli.listening import listen
from pabal.cli.options import PORT, common_options, run_role, settings_of, url_of, with_clear_errors
from pabal.cli.terminal import say


@click.command()
@common_options
@click.option("--host", help="Address to listen on. Default: [api] host of the configuration (127.0.0.1).")
@click.option("--port", type=PORT, help="Port to listen on. Default: [api] port of the configuration (8080).")
@with_clear_errors
def api(log_url: str | None, config: Path | None, data: Path, host: str | None, port: int | None) -> None:
    """Accept notifications over HTTP and append them to the log.

    Stateless: run as many as needed behind a load balancer.
    """
    settings = settings_of(config)
    url = url_of(log_url, settings)

    async def main(stopping: asyncio.Event) -> None:
        async with open_parts(settings, log_url=url, data=data, environment=os.environ) as parts:
            await check_topics(parts)
            own_port = settings.api.port if port is None else port
            with listen(host or settings.api.host, own_port, option="--port") as listening:

                def ready(line: str) -> None:
                    say(line)
                    if not settings.api.keys:
                        say(NO_KEYS)

                await run_api(parts, stopping, listening=listening, ready=ready)

    run_role(main)


@click.command()
@common_options
@click.option("--channel", "channels", multiple=True, help="Send only this channel; may be repeated. Default: all.")
@click.option("--name", help="A name that survives restarts: a restarted worker takes its own place at once.")
@with_clear_errors
def worker(log_url: str | None, config: Path | None, data: Path, channels: tuple[str, ...], name: str | None) -> None:
    """Send deliveries: call the providers, retry, dead-letter.

    Workers share the partitions of their channels; run as many as there are partitions. All of them use one ledger.
    """
    settings = settings_of(config)
    url = url_of(log_url, settings)

    async def main(stopping: asyncio.Event) -> None:
        async with open_parts(settings, log_url=url, data=data, environment=os.environ) as parts:
            await check_topics(parts)
            await run_worker(parts, stopping, name=name, channels=channels, ready=click.echo)

    run_role(main)


@click.command()
@common_options
@click.option("--name", help="A name that survives restarts: a restarted delay line takes its own place at once.")
@with_clear_errors
def delayline(log_url: str | None, config: Path | None, data: Path, name: str | None) -> None:
    """Hold retried and scheduled deliveries until they are due."""
    settings = settings_of(config)
    url = url_of(log_url, settings)

    async def main(stopping: asyncio.Event) -> None:
        async with open_parts(settings, log_url=url, data=data, environment=os.environ) as parts:
            await check_topics(parts)
            await run_delayline(parts, stopping, name=name, ready=click.echo)

    run_role(main)

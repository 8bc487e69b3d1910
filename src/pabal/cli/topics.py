"""`pabal topics`: the topics Pabal needs."""

import asyncio
from pathlib import Path

import click

from pabal.cli.options import common_options, settings_of, url_of, with_clear_errors
from pabal.cli.terminal import say
from pabal.compose.parts import open_parts
from pabal.compose.topics import create_topics


@click.group()
def topics() -> None:
    """The topics Pabal needs. Nothing else creates one on Kafka."""


@topics.command()
@common_options
@click.option(
    "--partitions",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Partitions of each topic that workers share: at most this many workers share one class of a channel.",
)
@click.option(
    "--replication",
    type=click.IntRange(min=1),
    help="Copies of each record. Default: the cluster's. In production: 3, with min.insync.replicas=2.",
)
@with_clear_errors
def create(log_url: str | None, config: Path | None, data: Path, partitions: int, replication: int | None) -> None:
    """Create the topics that are missing; those that exist are left as they are."""
    settings = settings_of(config)
    url = url_of(log_url, settings)

    async def run() -> list[str]:
        async with open_parts(settings, log_url=url, data=data) as parts:
            return await create_topics(parts, partitions=partitions, replication=replication)

    made = asyncio.run(run())
    for name in made:
        say(f"created {name}")
    say(f"{len(made)} topics created" if made else "every topic exists already")

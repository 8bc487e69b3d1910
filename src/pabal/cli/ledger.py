"""`pabal ledger`: which ledger the log belongs to."""

import asyncio
from pathlib import Path

import click

from pabal.cli.options import common_options, settings_here, url_here, with_clear_errors
from pabal.cli.terminal import say
from pabal.compose.ledgers import adopt_ledger
from pabal.compose.parts import open_parts
from pabal.compose.topics import check_topics


@click.group()
def ledger() -> None:
    """The ledger, which permits every call. A log belongs to one, and workers refuse another."""


@ledger.command()
@common_options
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_clear_errors
def adopt(log_url: str | None, config: Path | None, data: Path, *, yes: bool) -> None:
    """Let the log belong to the ledger of this configuration (made if there is none).

    For when the log's own ledger is lost, or was moved by copying its rows. Stop every worker before. A ledger that
    does not know what was sent lets it be sent again.
    """
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)
    if not yes:
        place = "the ledger of this configuration" if settings.ledger else f"the ledger in {data}"
        click.confirm(f"Workers of {url} will use {place} alone. Is every worker stopped?", abort=True)

    async def run() -> str:
        async with open_parts(settings, log_url=url, data=data) as parts:
            await check_topics(parts)
            return str(await adopt_ledger(parts))

    say(f"the log belongs to ledger {asyncio.run(run())} from now on")

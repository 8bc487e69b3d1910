"""`pabal report`: figures about what happened, each defined once."""

import asyncio
from datetime import timedelta
from pathlib import Path

import click

from pabal.cli.options import common_options, settings_of, with_clear_errors
from pabal.cli.terminal import PlainTable, Terminal, say_json
from pabal.clock import SystemClock
from pabal.compose.stores import open_existing_store
from pabal.dlq.letters.selection import parse_instant
from pabal.errors import ConfigError
from pabal.reports.reprocessing import WITHIN, ReprocessingReport, report_reprocessing


@click.group()
def report() -> None:
    """Figures about what happened, from the store that `pabal recorder` (or `pabal up`) keeps."""


@report.command()
@common_options
@click.option("--since", default="8d", show_default=True, help="Start of the window: 8d, 36h (ago), or 2026-01-31.")
@click.option("--until", default="24h", show_default=True, help="End of the window; the same.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@with_clear_errors
def reprocessing(
    log_url: str | None, config: Path | None, data: Path, since: str, until: str, *, as_json: bool
) -> None:
    """How much of what was dead-lettered was sent within 24 hours after all.

    By delivery, from the first time it was dead-lettered. Left out, but shown, are deliveries that a person discarded
    and deliveries whose 24 hours have not passed. The default window is the last week that is complete.
    """
    del log_url  # The store alone is asked.
    clock = SystemClock()
    now = clock.now()
    start, end = parse_instant(since, now=now), parse_instant(until, now=now)
    if start >= end:
        raise ConfigError(f"--since {since} does not lie before --until {until}")
    settings = settings_of(config)

    async def ask() -> ReprocessingReport:
        store = open_existing_store(settings, data)
        try:
            rows = await store.reprocessed(since=start, until=end)
        finally:
            await store.close()
        return report_reprocessing(rows, since=start, until=end, as_of=now)

    made = asyncio.run(ask())
    if as_json:
        say_json(made)
    else:
        _show(Terminal(), made)


def _show(console: Terminal, made: ReprocessingReport) -> None:
    console.print(
        f"first dead-lettered from {made.since:%Y-%m-%d %H:%M} to {made.until:%Y-%m-%d %H:%M} UTC, "
        f"sent within {WITHIN / timedelta(hours=1):g} h",
        soft_wrap=True,
    )
    table = PlainTable("channel", "rate", "sent in time", "of", "discarded", "not yet 24 h", "in all")
    for column in table.columns[1:]:
        column.justify = "right"
    rows = [*made.channels.items(), ("all", made)]
    for channel, figures in rows if len(rows) > 2 else rows[-1:]:
        rate = "-" if figures.rate is None else f"{figures.rate:.1%}"
        counts = (figures.numerator, figures.denominator, figures.excluded, figures.immature, figures.cohort)
        table.add_row(channel, rate, *(f"{count:,}" for count in counts))
    console.print(table)
    if not made.is_mature:
        console.print(f"not final: the window is complete at {made.until + WITHIN:%Y-%m-%d %H:%M} UTC", style="yellow")

"""`pabal recorder` writes into the store what happens; `pabal store` looks after the store itself."""

import asyncio
from pathlib import Path

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pabal.cli.offsets import Unread, describe_gap, describe_unread, find_unread
from pabal.cli.options import by_option, common_options, settings_of, url_of, who_of, with_clear_errors
from pabal.cli.roles import help_of, options_of, run_alone
from pabal.cli.terminal import Terminal, say
from pabal.clock import SystemClock
from pabal.compose.parts import open_parts
from pabal.compose.roles import role_named
from pabal.compose.stores import open_existing_store, open_store
from pabal.dlq.letters.letter import hex_dump
from pabal.recorder.rebuild import Rebuilt, rebuild
from pabal.store.port import DeliveryView, SetAside
from pabal.store.sql import SqlStore

_MOST_SHOWN = 100


_ROLE = role_named("recorder")


@click.group(invoke_without_command=True, help=help_of(_ROLE))
@options_of(_ROLE)
@click.pass_context
@with_clear_errors
def recorder(
    context: click.Context,
    log_url: str | None,
    config: Path | None,
    data: Path,
    name: str | None,
    status_port: int | None,
) -> None:
    """Run the role, unless a command below this one follows."""
    if context.invoked_subcommand is None:
        run_alone(_ROLE, log_url=log_url, config=config, data=data, name=name, status_port=status_port)


@recorder.command("rebuild")
@by_option
@common_options
@with_clear_errors
def rebuild_command(by: str | None, log_url: str | None, config: Path | None, data: Path) -> None:
    """Read into the store what the log still holds.

    Older rows stay as they are, nothing is counted twice, and recorders may go on meanwhile. Use it after a power
    failure of the store's machine, with a new store, or when a recorder says that unread records were deleted.
    """
    settings = settings_of(config)
    url, who = url_of(log_url, settings), who_of(by)

    async def run() -> Rebuilt:
        store = open_store(settings, data)
        try:
            async with open_parts(settings, log_url=url, data=data) as parts:
                with _progress() as progress:
                    task = progress.add_task("records", total=None)
                    return await rebuild(
                        broker=parts.broker,
                        store=store,
                        channels=settings.channels,
                        by=who,
                        clock=parts.clock,
                        on_progress=lambda read, total: progress.update(task, completed=read, total=total),
                    )
        finally:
            await store.close()

    rebuilt = asyncio.run(run())
    say(f"{rebuilt.records} records were read into the store")
    if rebuilt.set_aside:
        say(f"{rebuilt.set_aside} can be neither decoded nor folded and are set aside: pabal store set-aside")
    if rebuilt.taken_up:
        say(f"{rebuilt.taken_up} that were set aside are recorded now")
    for gap in rebuilt.released:
        say(f"recorders go on at {gap.low} of {gap.topic}/{gap.partition}: {describe_gap(gap)}")


@click.group()
def store() -> None:
    """The store: what happened to deliveries, kept to be looked up."""


@store.command()
@common_options
@with_clear_errors
def migrate(log_url: str | None, config: Path | None, data: Path) -> None:
    """Bring the store's tables to this version of Pabal.

    In SQLite it happens by itself. In PostgreSQL it is done once per version that says so, before or while its
    processes start: they wait for it.
    """
    del log_url
    settings = settings_of(config)

    async def run() -> str | None:
        opened = open_store(settings, data)
        assert isinstance(opened, SqlStore)
        try:
            return await opened.migrate()
        finally:
            await opened.close()

    before = asyncio.run(run())
    came_from = f"they were at {before}" if before else "there were none"
    say(f"the store's tables are up to date ({came_from})")


@store.command()
@common_options
@with_clear_errors
def unaccounted(log_url: str | None, config: Path | None, data: Path) -> None:
    """List deliveries whose time is over and of which no record says how they ended, and what no role has read.

    Exit status 1 if a delivery is unaccounted (each would be a loss), or records were deleted or passed over unread and
    nobody has decided about them (pabal offsets). What a person skipped is shown too. docs/store.md tells what to do.
    """
    settings = settings_of(config)
    embedded = data / "log.db"
    url = log_url or settings.log.url or (f"sqlite:{embedded}" if embedded.exists() else None)

    async def run() -> tuple[list[DeliveryView], Unread | None]:
        opened = open_existing_store(settings, data)
        try:
            found = list(await opened.unaccounted(now=SystemClock().now(), limit=_MOST_SHOWN + 1))
        finally:
            await opened.close()
        if url is None:
            return found, None
        async with open_parts(settings, log_url=url, data=data) as parts:
            return found, await find_unread(parts)

    found, unread = asyncio.run(run())
    for view in found[:_MOST_SHOWN]:
        expired = f"{view.expires_at:%Y-%m-%d %H:%M:%S}" if view.expires_at else "at an unknown time"
        say(
            f"{view.id}  {view.tenant}  {view.channel}.{view.class_}  attempt {view.attempt}  "
            f"last heard of {view.updated_at:%Y-%m-%d %H:%M:%S}  expired {expired}"
        )
    for line in describe_unread(unread) if unread is not None else ():
        say(line)
    wrong = []
    if found:
        count = f"more than {_MOST_SHOWN}" if len(found) > _MOST_SHOWN else str(len(found))
        wrong.append(f"{count} deliveries are unaccounted")
    if unread is not None and (open_ranges := unread.open_ranges):
        wrong.append(f"{open_ranges} ranges of records were deleted unread (pabal offsets list)")
    if wrong:
        raise click.ClickException("; ".join(wrong))
    said = "" if unread is not None else " as far as the store knows; the log was not asked (give --log)"
    say(f"every delivery is accounted for{said}")


@store.command("set-aside")
@common_options
@click.option(
    "--limit", type=click.IntRange(min=1, max=10_000), default=_MOST_SHOWN, show_default=True, help="At most."
)
@click.option("--bytes", "with_bytes", is_flag=True, help="Show how each record begins (4 KB of it are kept).")
@with_clear_errors
def set_aside_command(log_url: str | None, config: Path | None, data: Path, limit: int, *, with_bytes: bool) -> None:
    """List records that could be neither decoded nor folded, the oldest first.

    The recorder went on without them. `pabal recorder rebuild` tries them again, with a newer Pabal perhaps.
    """
    del log_url
    settings = settings_of(config)

    async def run() -> list[SetAside]:
        opened = open_existing_store(settings, data)
        try:
            return list(await opened.aside(limit=limit + 1))
        finally:
            await opened.close()

    found = asyncio.run(run())
    for each in found[:limit]:
        place = f"{each.topic}/{each.partition}@{each.offset}"
        say(f"{place}  {each.at:%Y-%m-%d %H:%M:%S}Z  {each.size} bytes  {each.error}")
        if with_bytes:
            say(hex_dump(each.start))
    count = f"more than {limit}" if len(found) > limit else str(len(found))
    say(f"{count} records are set aside" if found else "nothing is set aside")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Terminal(),
        transient=True,
    )

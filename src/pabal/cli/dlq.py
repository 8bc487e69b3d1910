"""`pabal dlq list|show|stats|status`: what is there. `dlq_redrive.py` has the commands that change something."""

import contextlib
from pathlib import Path
from typing import Any

import click

from pabal.cli.dlq_options import json_option, selection_options, states_of, with_desk
from pabal.cli.dlq_redrive import discard, edit, plan, redrive
from pabal.cli.letter_tables import none_text, show_groups, show_letter, show_letters, show_redrives
from pabal.cli.options import common_options, with_clear_errors
from pabal.cli.terminal import Terminal, say_json
from pabal.clock import SystemClock
from pabal.dlq.letters.letter import parse_letter_id
from pabal.dlq.letters.marks import STATES
from pabal.dlq.letters.selection import DIMENSIONS, Dimension, Selection, count_by, parse_instant
from pabal.dlq.letters.views import LetterPage, view_letter, view_letter_detail
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.status import list_redrives
from pabal.errors import ConfigError


@click.group()
def dlq() -> None:
    """Dead letters: look at them, send them again, correct or discard them.

    A letter is named CHANNEL/PARTITION/OFFSET, such as webhook/0/17. Nothing is ever changed or deleted: what was done
    to a letter, with its author and reason, is a fact in the log.

    \b
    The usual way:
        pabal dlq stats                                     what is there, and why
        pabal dlq list --error exhausted --since 2h
        pabal dlq show webhook/0/17
        pabal dlq plan --error exhausted --since 2h         what a redrive would do; writes PLAN.json
        pabal dlq redrive PLAN.json --reason "fixed"        a few first, then at a rate
        pabal report reprocessing                           how much of it was sent within a day
    """


@dlq.command("list")
@common_options
@selection_options
@click.option("--state", "state", type=click.Choice([*STATES, "any"]), default="open", show_default=True)
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=20, show_default=True, help="At most so many.")
@json_option
@with_clear_errors
def list_(
    log_url: str | None,
    config: Path | None,
    data: Path,
    selection: Selection,
    state: str,
    limit: int,
    *,
    as_json: bool,
) -> None:
    """List dead letters, the newest first."""

    async def look(desk: DeadLetters) -> LetterPage:
        newest, total = await desk.letters.newest(selection, states=states_of(state), limit=limit)
        return LetterPage(letters=[view_letter(filed) for filed in newest], total=total)

    page = with_desk(look, log_url=log_url, config=config, data=data)
    if as_json:
        say_json(page)
    else:
        show_letters(Terminal(), page, none=none_text(selection, state=state), now=SystemClock().now())


@dlq.command()
@common_options
@click.argument("letter")
@json_option
@with_clear_errors
def show(log_url: str | None, config: Path | None, data: Path, letter: str, *, as_json: bool) -> None:
    """Show one dead letter: the delivery, why it was given up, its headers and its history."""
    letter_id = parse_letter_id(letter)

    async def look(desk: DeadLetters) -> Any:
        filed = await desk.letters.find(letter_id)
        return view_letter_detail(filed, history=await desk.histories.of(filed.letter))

    detail = with_desk(look, log_url=log_url, config=config, data=data)
    if as_json:
        say_json(detail)
    else:
        show_letter(Terminal(), detail, now=SystemClock().now())


@dlq.command()
@common_options
@selection_options
@click.option("--state", "state", type=click.Choice([*STATES, "any"]), default="open", show_default=True)
@click.option(
    "--by",
    "dimensions",
    type=click.Choice(DIMENSIONS),
    multiple=True,
    default=("channel", "error_class"),
    show_default=True,
    help="Count by this; may be repeated.",
)
@json_option
@with_clear_errors
def stats(
    log_url: str | None,
    config: Path | None,
    data: Path,
    selection: Selection,
    state: str,
    dimensions: tuple[Dimension, ...],
    *,
    as_json: bool,
) -> None:
    """Count dead letters by what they share."""
    now = SystemClock().now()

    async def look(desk: DeadLetters) -> Any:
        states = states_of(state)
        async with contextlib.aclosing(desk.letters.filed(selection)) as filed:
            letters = [(one.letter, one.standing.state) async for one in filed]
        chosen = [entry for entry in letters if not states or entry[1] in states]
        return count_by(chosen, dimensions=dimensions, now=now)

    groups = with_desk(look, log_url=log_url, config=config, data=data)
    if as_json:
        say_json(groups)
    else:
        none = none_text(selection, state=state)
        show_groups(Terminal(), groups, dimensions=dimensions, none=none, now=now)


@dlq.command()
@common_options
@click.argument("plan_id", metavar="[PLAN]", required=False)
@click.option("--since", default="30d", show_default=True, help="Begun at or after: 2h, 7d (ago), or a time.")
@json_option
@with_clear_errors
def status(
    log_url: str | None, config: Path | None, data: Path, plan_id: str | None, since: str, *, as_json: bool
) -> None:
    """Show redrives: how they stand and how they ended, from any machine."""
    began = parse_instant(since, now=SystemClock().now())
    views = with_desk(
        lambda desk: list_redrives(desk.tails, clock=desk.clock, since=began, plan=plan_id),
        log_url=log_url,
        config=config,
        data=data,
    )
    if plan_id is not None and not views:
        raise ConfigError(f"no redrive of a plan {plan_id!r} has begun since {began:%Y-%m-%d %H:%M}Z")
    if as_json:
        say_json(views)
    else:
        show_redrives(Terminal(), views)


for command in (plan, redrive, edit, discard):
    dlq.add_command(command)

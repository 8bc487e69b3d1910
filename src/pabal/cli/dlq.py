"""`pabal dlq`: dead letters, and the ways back."""

import asyncio
import contextlib
import functools
import getpass
import os
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import click
import msgspec
from rich.console import Console

from pabal.cli.compose import open_parts, open_store
from pabal.cli.letter_tables import (
    show_ending,
    show_groups,
    show_letter,
    show_letters,
    show_plan,
    show_redrives,
)
from pabal.cli.letters import open_dead_letters
from pabal.cli.options import clear_errors, common_options, settings_of, url_of, with_clear_errors
from pabal.cli.redrive_progress import RedriveProgress
from pabal.clock import SystemClock
from pabal.config import Settings
from pabal.dlq.desk import DeadLetters
from pabal.dlq.letter import parse_letter_id
from pabal.dlq.marks import STATES
from pabal.dlq.plan import DEFAULT_MAX_REDRIVES, Plan, Rules
from pabal.dlq.planning import make_plan
from pabal.dlq.redrive import Ending, Redrive, Who
from pabal.dlq.selection import DIMENSIONS, Dimension, Selection, count_by, parse_instant
from pabal.dlq.status import list_redrives
from pabal.dlq.stepping import Pace
from pabal.dlq.views import LetterPage, view_letter, view_letter_detail
from pabal.errors import ConfigError
from pabal.notification import CLASSES
from pabal.runtime import run

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_PIPE_WIDTH = 200

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
_by_option = click.option("--by", help="Who does this, for the audit log. Default: the user of the operating system.")
_reason_option = click.option("--reason", required=True, help="Why, in your words: kept in the audit log.")


@click.group()
def dlq() -> None:
    """Dead letters: look at them, send them again, correct or discard them.

    A letter is named CHANNEL/PARTITION/OFFSET, such as webhook/0/17. Nothing is ever changed or deleted: what was done
    to a letter, by whom and why, is a fact in the log.

    \b
    The usual way:
        pabal dlq stats                                     what is there, and why
        pabal dlq list --error exhausted --since 2h
        pabal dlq show webhook/0/17
        pabal dlq plan --error exhausted --since 2h         what a redrive would do; writes PLAN.json
        pabal dlq redrive PLAN.json --reason "fixed"        a few first, then at a rate
        pabal report reprocessing                           how much of it was sent within a day
    """


def _selection_options(command: F) -> F:
    """Filters; the command gets a `Selection` as `selection`."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        given = {name: kwargs.pop(name) for name in _FILTERS}
        with clear_errors():
            return command(*args, selection=_selection(**given), **kwargs)

    for option in reversed(
        (
            click.option("--channel", "channels", multiple=True, help="Only this channel."),
            click.option("--error", "error_classes", multiple=True, help="Only this error class (exhausted, …)."),
            click.option("--provider", "providers", multiple=True, help="Only what this provider was to carry."),
            click.option("--tenant", "tenants", multiple=True, help="Only this tenant."),
            click.option("--class", "classes", multiple=True, type=click.Choice(CLASSES), help="Only this class."),
            click.option("--delivery", "deliveries", multiple=True, type=click.UUID, help="Only this delivery."),
            click.option("--letter", "letters", multiple=True, help="Only this letter."),
            click.option("--since", help="Given up at or after: 2h, 30m, 7d (ago), or 2026-01-31T14:00 (UTC)."),
            click.option("--until", help="Given up before; the same. `--until 2h`: older than two hours."),
        )
    ):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


_FILTERS = (
    "channels",
    "error_classes",
    "providers",
    "tenants",
    "classes",
    "deliveries",
    "letters",
    "since",
    "until",
)


def _selection(
    *,
    channels: tuple[str, ...],
    error_classes: tuple[str, ...],
    providers: tuple[str, ...],
    tenants: tuple[str, ...],
    classes: tuple[str, ...],
    deliveries: tuple[UUID, ...],
    letters: tuple[str, ...],
    since: str | None,
    until: str | None,
) -> Selection:
    now = SystemClock().now()
    return Selection(
        channels=channels,
        error_classes=error_classes,
        providers=providers,
        tenants=tenants,
        classes=classes,
        deliveries=deliveries,
        letters=tuple(str(parse_letter_id(text)) for text in letters),
        since=parse_instant(since, now=now) if since else None,
        until=parse_instant(until, now=now) if until else None,
    )


@dlq.command("list")
@common_options
@_selection_options
@click.option("--state", "state", type=click.Choice([*STATES, "any"]), default="open", show_default=True)
@click.option("--limit", type=click.IntRange(min=1, max=10_000), default=20, show_default=True, help="At most so many.")
@_json_option
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
        newest, total = await desk.newest(selection, states=_states(state), limit=limit)
        return LetterPage(letters=[view_letter(filed) for filed in newest], total=total)

    page = _with_desk(look, log_url=log_url, config=config, data=data)
    if as_json:
        _print_json(page)
    else:
        show_letters(_console(), page, now=SystemClock().now())


@dlq.command()
@common_options
@click.argument("letter")
@_json_option
@with_clear_errors
def show(log_url: str | None, config: Path | None, data: Path, letter: str, *, as_json: bool) -> None:
    """Show one dead letter: the delivery, why it was given up, its headers and its history."""
    letter_id = parse_letter_id(letter)

    async def look(desk: DeadLetters) -> Any:
        filed = await desk.find(letter_id)
        return view_letter_detail(filed, history=await desk.history(filed.letter))

    detail = _with_desk(look, log_url=log_url, config=config, data=data)
    if as_json:
        _print_json(detail)
    else:
        show_letter(_console(), detail, now=SystemClock().now())


@dlq.command()
@common_options
@_selection_options
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
@_json_option
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
        states = _states(state)
        async with contextlib.aclosing(desk.filed(selection)) as filed:
            letters = [(one.letter, one.standing.state) async for one in filed]
        chosen = [entry for entry in letters if not states or entry[1] in states]
        return count_by(chosen, dimensions=dimensions, now=now)

    groups = _with_desk(look, log_url=log_url, config=config, data=data)
    if as_json:
        _print_json(groups)
    else:
        show_groups(_console(), groups, dimensions=dimensions, now=now)


@dlq.command()
@common_options
@_selection_options
@click.option(
    "--max-redrives",
    type=click.IntRange(min=1),
    default=DEFAULT_MAX_REDRIVES,
    show_default=True,
    help="Leave out what came back more often.",
)
@click.option(
    "--include-uncertain",
    is_flag=True,
    help="Also those whose last call had no answer: they may have been sent, and would be sent twice.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write. Default: PLAN-ID.json.")
@_by_option
@_json_option
@with_clear_errors
def plan(
    log_url: str | None,
    config: Path | None,
    data: Path,
    selection: Selection,
    max_redrives: int,
    out: Path | None,
    by: str | None,
    *,
    include_uncertain: bool,
    as_json: bool,
) -> None:
    """Say what a redrive would do, and write the plan. Changes nothing.

    What is given up after this is not in the plan. When the plan is carried out every letter is judged again.
    """
    who = _who(by)
    now = SystemClock().now()
    plan_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    rules = Rules(max_redrives=max_redrives, include_uncertain=include_uncertain)
    made = _with_desk(
        lambda desk: make_plan(desk, selection, rules=rules, plan_id=plan_id, by=who),
        log_url=log_url,
        config=config,
        data=data,
    )
    if as_json and out is None:
        _print_json(made)
        return
    path = out or Path(f"plan-{plan_id}.json")
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write the plan to {path}: {error.strerror}; choose another file with --out"
        ) from None
    if as_json:
        _print_json(made)
        return
    console = _console()
    show_plan(console, made)
    if made.redrives:
        console.print(f'\nwritten to {path}; carry it out with:  pabal dlq redrive {path} --reason "…"')


@dlq.command()
@common_options
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, dir_okay=False))
@_reason_option
@_by_option
@click.option("--canary", type=click.IntRange(min=0), default=5, show_default=True, help="So many first, then wait.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, max=10_000, min_open=True),
    default=50.0,
    show_default=True,
    help="Letters per second after the canary.",
)
@click.option(
    "--max-return",
    type=click.FloatRange(min=0, max=1),
    default=0.2,
    show_default=True,
    help="Stop when a larger share of the recent ones comes back or is refused again.",
)
@click.option(
    "--patience",
    type=click.FloatRange(min=0, min_open=True),
    default=300.0,
    show_default=True,
    help="Stop after so many seconds without an answer.",
)
@_json_option
@with_clear_errors
def redrive(
    log_url: str | None,
    config: Path | None,
    data: Path,
    plan_file: Path,
    reason: str,
    by: str | None,
    canary: int,
    rate: float,
    max_return: float,
    patience: float,
    *,
    as_json: bool,
) -> None:
    """Carry a plan out: a few letters first, and when those are well, the rest at a rate.

    Ctrl-C stops it cleanly. Whatever stopped it, the same command goes on where it stopped; no letter is sent twice.
    Exit status 0 when every letter was dealt with, else 1.
    """
    made = read_plan(plan_file)
    who = Who(by=_who(by), host=socket.gethostname(), reason=reason, token=secrets.token_hex(8))
    pace = Pace(canary=canary, per_second=rate, max_return_ratio=max_return, patience_seconds=patience)
    console = Console(stderr=True, highlight=False)
    endings: list[Ending] = []

    async def main(stopping: asyncio.Event) -> None:
        async with _desk(log_url=log_url, config=config, data=data) as desk:
            with RedriveProgress(console, made, stopping=stopping) as progress:
                endings.append(await Redrive(desk, made, pace=pace, who=who, watcher=progress).run(stopping))

    run(main)
    [ending] = endings
    if as_json:
        _print_json(ending)
    else:
        show_ending(console, ending)
    if ending.ended != "completed":
        raise SystemExit(1)


@dlq.command()
@common_options
@click.argument("letter")
@click.option("--address", help="The address to use instead, on the same channel.")
@click.option("--provider", help="The provider to use.")
@_reason_option
@_by_option
@with_clear_errors
def edit(
    log_url: str | None,
    config: Path | None,
    data: Path,
    letter: str,
    address: str | None,
    provider: str | None,
    reason: str,
    by: str | None,
) -> None:
    """Correct what will be sent when a letter is redriven. Sends nothing yet."""
    letter_id, who = parse_letter_id(letter), _who(by)
    filed = _with_desk(
        lambda desk: desk.edit(letter_id, address=address, provider=provider, by=who, reason=reason),
        log_url=log_url,
        config=config,
        data=data,
    )
    delivery = filed.letter.delivery
    assert delivery is not None
    click.echo(
        f"{letter_id} will go to {delivery.address}"
        + (f" by {delivery.provider}" if delivery.provider else "")
        + f" under the key {delivery.idempotency_key}; send it with: pabal dlq plan --letter {letter_id}"
    )


@dlq.command()
@common_options
@click.argument("letters", nargs=-1, metavar="[LETTER]...")
@_selection_options
@_reason_option
@_by_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_clear_errors
def discard(
    log_url: str | None,
    config: Path | None,
    data: Path,
    letters: tuple[str, ...],
    selection: Selection,
    reason: str,
    by: str | None,
    *,
    yes: bool,
) -> None:
    """Close dead letters for good, unsent: some by name, or all that fit the filters."""
    who = _who(by)
    named = tuple(str(parse_letter_id(text)) for text in letters)
    chosen = msgspec.structs.replace(selection, letters=(*selection.letters, *named))
    if chosen == Selection():
        raise ConfigError("which letters? Name some, or give filters; see: pabal dlq discard --help")

    async def discard_chosen(desk: DeadLetters) -> int:
        ends = await desk.ends(chosen)
        _, count = await desk.newest(chosen, states=("open",), limit=1)
        if count == 0:
            raise ConfigError("no open dead letter fits")
        if not (yes or named):
            click.confirm(f"Discard {count:,} open dead letters for good?", abort=True)
        done = 0
        async for so_far in desk.discard_all(chosen, ends=ends, by=who, reason=reason):
            done = so_far
        return done

    done = _with_desk(discard_chosen, log_url=log_url, config=config, data=data)
    click.echo(f"{done:,} discarded")


@dlq.command()
@common_options
@click.argument("plan_id", metavar="[PLAN]", required=False)
@click.option("--since", default="30d", show_default=True, help="Begun at or after: 2h, 7d (ago), or a time.")
@_json_option
@with_clear_errors
def status(
    log_url: str | None, config: Path | None, data: Path, plan_id: str | None, since: str, *, as_json: bool
) -> None:
    """Show redrives: how they stand and how they ended, from any machine."""
    began = parse_instant(since, now=SystemClock().now())
    views = _with_desk(
        lambda desk: list_redrives(desk, since=began, plan=plan_id), log_url=log_url, config=config, data=data
    )
    if plan_id is not None and not views:
        raise ConfigError(f"no redrive of a plan {plan_id!r} has begun since {began:%Y-%m-%d %H:%M}Z")
    if as_json:
        _print_json(views)
    else:
        show_redrives(_console(), views)


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise ConfigError(f"cannot read the plan {path}: {error.strerror}; make one with: pabal dlq plan") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a plan of `pabal dlq plan`: {error}") from None


@contextlib.asynccontextmanager
async def _desk(*, log_url: str | None, config: Path | None, data: Path) -> AsyncIterator[DeadLetters]:
    settings = _settings(config, data)
    url = _log_url(log_url, settings, data)
    async with contextlib.AsyncExitStack() as closing:
        parts = await closing.enter_async_context(open_parts(settings, log_url=url, data=data))
        store = None
        # A file that no recorder has made is not made by looking.
        if settings.store.url or (data / "store.db").exists():
            store = open_store(settings, data)
            closing.push_async_callback(store.close)
        yield await closing.enter_async_context(
            open_dead_letters(parts.broker, settings=settings, clock=parts.clock, store=store)
        )


def _with_desk(
    work: Callable[[DeadLetters], Awaitable[T]], *, log_url: str | None, config: Path | None, data: Path
) -> T:
    async def main() -> T:
        async with _desk(log_url=log_url, config=config, data=data) as desk:
            return await work(desk)

    return asyncio.run(main())


def _settings(config: Path | None, data: Path) -> Settings:
    """As `pabal up` has it: without a configuration, the one it made for development."""
    development = data / "development.toml"
    return settings_of(development if config is None and development.exists() else config)


def _log_url(log_url: str | None, settings: Settings, data: Path) -> str:
    embedded = data / "log.db"
    if log_url is None and settings.log.url is None and embedded.exists():
        return f"sqlite:{embedded}"
    return url_of(log_url, settings)


def _who(by: str | None) -> str:
    if by:
        return by
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise ConfigError(f"who is this? The user {os.getuid()} has no name here; say so with --by NAME") from None


def _states(state: str) -> Collection[str]:
    return () if state == "any" else (state,)


def _console() -> Console:
    # In a pipe nothing is known of a width, and nothing is to be cut.
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=_PIPE_WIDTH)


def _print_json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())

"""`pabal dlq plan|redrive|edit|discard`: what a person decides about dead letters."""

import asyncio
import secrets
import socket
from pathlib import Path

import click
import msgspec

from pabal.cli.dlq_options import (
    json_option,
    open_desk,
    selection_options,
    with_desk,
)
from pabal.cli.letter_tables import show_ending, show_plan
from pabal.cli.options import by_option, common_options, reason_option, who_of, with_clear_errors
from pabal.cli.redrive_progress import RedriveProgress
from pabal.cli.terminal import Terminal, say, say_json
from pabal.clock import SystemClock
from pabal.dlq.letters.letter import parse_letter_id
from pabal.dlq.letters.selection import Selection
from pabal.dlq.parts import DeadLetters
from pabal.dlq.redrive.making import make_plan
from pabal.dlq.redrive.plan import DEFAULT_MAX_REDRIVES, Plan, Rules
from pabal.dlq.redrive.run import Ending, Redrive, Who
from pabal.dlq.redrive.stepping import (
    LEAST_PATIENCE_SECONDS,
    LEAST_PER_SECOND,
    MOST_CANARY,
    MOST_PATIENCE_SECONDS,
    MOST_PER_SECOND,
    Pace,
)
from pabal.errors import ConfigError
from pabal.runtime import run


@click.command()
@common_options
@selection_options
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
    help="Also letters whose last call had no answer: they may have been sent, and would be sent twice.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write. Default: PLAN-ID.json.")
@by_option
@json_option
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

    Where there is nothing to do, a plan is written only to a file that is named: what stood in it must not stay.

    What is given up after this is not in the plan. When the plan is carried out every letter is judged again.
    """
    who = who_of(by)
    now = SystemClock().now()
    plan_id = f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    rules = Rules(max_redrives=max_redrives, include_uncertain=include_uncertain)
    made = with_desk(
        lambda desk: make_plan(
            desk.letters, selection, tails=desk.tails, clock=desk.clock, rules=rules, plan_id=plan_id, by=who
        ),
        log_url=log_url,
        config=config,
        data=data,
    )
    path = out
    if path is None and not as_json and not made.is_empty:
        path = Path(f"plan-{plan_id}.json")
    if path is not None:
        _write_plan(made, path)
    if as_json:
        say_json(made)
    else:
        show_plan(Terminal(), made)
    if made.is_empty:
        written = "no plan was written" if path is None else f"the plan in {path} is empty"
        say(f"nothing to redrive: {written}", err=as_json)
    elif not as_json:
        say("")
        say(f'written to {path}; carry it out with:  pabal dlq redrive {path} --reason "…"')


@click.command()
@common_options
@click.argument("plan_file", metavar="PLAN", type=click.Path(path_type=Path, dir_okay=False))
@reason_option
@by_option
@click.option(
    "--canary",
    type=click.IntRange(min=0, max=MOST_CANARY),
    default=5,
    show_default=True,
    help="So many first, then wait.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=LEAST_PER_SECOND, max=MOST_PER_SECOND),
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
    type=click.FloatRange(min=LEAST_PATIENCE_SECONDS, max=MOST_PATIENCE_SECONDS),
    default=300.0,
    show_default=True,
    help="Stop after so many seconds without an answer.",
)
@json_option
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
    """Carry a plan out: a few letters first; if they are well, the rest at a rate.

    Ctrl-C stops it cleanly. Whatever stopped it, the same command goes on where it stopped; no letter is sent twice.
    Exit status 0 when every letter was dealt with, else 1.
    """
    made = read_plan(plan_file)
    who = Who(by=who_of(by), host=socket.gethostname(), reason=reason, token=secrets.token_hex(8))
    pace = Pace(canary=canary, per_second=rate, max_return_ratio=max_return, patience_seconds=patience)
    console = Terminal(stderr=True)
    endings: list[Ending] = []

    async def main(stopping: asyncio.Event) -> None:
        async with open_desk(log_url=log_url, config=config, data=data) as desk:
            with RedriveProgress(console, made, stopping=stopping) as progress:
                endings.append(
                    await Redrive(
                        desk.letters,
                        made,
                        tails=desk.tails,
                        producer=desk.producer,
                        clock=desk.clock,
                        pace=pace,
                        who=who,
                        watcher=progress,
                    ).run(stopping)
                )

    run(main)
    [ending] = endings
    if as_json:
        say_json(ending)
    else:
        show_ending(console, ending)
    if ending.ended != "completed":
        raise SystemExit(1)


@click.command()
@common_options
@click.argument("letter")
@click.option("--address", help="The address to use instead, on the same channel.")
@click.option("--provider", help="The provider to use.")
@reason_option
@by_option
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
    letter_id, who = parse_letter_id(letter), who_of(by)
    filed = with_desk(
        lambda desk: desk.decisions.edit(letter_id, address=address, provider=provider, by=who, reason=reason),
        log_url=log_url,
        config=config,
        data=data,
    )
    delivery = filed.letter.delivery
    assert delivery is not None
    say(
        f"{letter_id} will go to {delivery.address}"
        + (f" by {delivery.provider}" if delivery.provider else "")
        + f" under the key {delivery.idempotency_key}; send it with: pabal dlq plan --letter {letter_id}"
    )


@click.command()
@common_options
@click.argument("named", nargs=-1, metavar="[LETTER]...")
@selection_options
@reason_option
@by_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@with_clear_errors
def discard(
    log_url: str | None,
    config: Path | None,
    data: Path,
    named: tuple[str, ...],
    selection: Selection,
    reason: str,
    by: str | None,
    *,
    yes: bool,
) -> None:
    """Close dead letters for good, unsent: some by name, or all that fit the filters."""
    who = who_of(by)
    letters = tuple(str(parse_letter_id(text)) for text in named)
    chosen = msgspec.structs.replace(selection, letters=(*selection.letters, *letters))
    if chosen == Selection():
        raise ConfigError("which letters? Name some, or give filters; see: pabal dlq discard --help")

    async def discard_chosen(desk: DeadLetters) -> int:
        ends = await desk.letters.ends(chosen)
        _, count = await desk.letters.newest(chosen, states=("open",), limit=1)
        if count == 0:
            raise ConfigError("no open dead letter fits")
        if not (yes or named):
            click.confirm(f"Discard {count:,} open dead letters for good?", abort=True)
        done = 0
        async for so_far in desk.decisions.discard_all(chosen, ends=ends, by=who, reason=reason):
            done = so_far
        return done

    done = with_desk(discard_chosen, log_url=log_url, config=config, data=data)
    say(f"{done:,} discarded")


def _write_plan(made: Plan, path: Path) -> None:
    try:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(made)) + b"\n")
    except OSError as error:
        raise ConfigError(
            f"cannot write the plan to {path}: {error.strerror}; choose another file with --out"
        ) from None


def read_plan(path: Path) -> Plan:
    """The plan in a file. Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Plan)
    except OSError as error:
        raise ConfigError(f"cannot read the plan {path}: {error.strerror}; make one with: pabal dlq plan") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a plan of `pabal dlq plan`: {error}") from None

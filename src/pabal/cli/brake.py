"""`pabal brake`: classes that take nothing more because too much of what they read is unreadable."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click

from pabal.cli.options import (
    by_option,
    common_options,
    reason_option,
    settings_here,
    url_here,
    who_of,
    with_clear_errors,
)
from pabal.cli.terminal import say
from pabal.clock import SystemClock
from pabal.compose.parts import open_parts
from pabal.errors import ConfigError
from pabal.notification import CLASSES
from pabal.ops.brake_release import read_brakes, release_brake
from pabal.ops.brakes import RECORDER, BrakeState, how_to_release


@click.group()
def brake() -> None:
    """Classes that workers have stopped because too many records cannot be read (a suspected bad deploy).

    Workers release nothing by themselves: the person on call looks at what was deployed last, undoes it if that is
    what it was, and releases each class with a reason. Who did, and why, is a fact in the log (`pabal.audit`).
    """


@brake.command("list")
@common_options
@with_clear_errors
def list_brakes(log_url: str | None, config: Path | None, data: Path) -> None:
    """Show what is braked, since when and why, and what to do; and which releases hold."""
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)

    async def run() -> Mapping[str, BrakeState]:
        async with open_parts(settings, log_url=url, data=data) as parts:
            return await read_brakes(parts.broker.reader())

    states = asyncio.run(run())
    for line in describe_brakes(states, now=SystemClock().now()):
        say(line)


@brake.command()
@click.argument("channel")
@click.argument("class_", metavar="CLASS")
@reason_option
@by_option
@click.option(
    "--for",
    "minutes",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="MINUTES",
    help="How long what cannot be read is dead-lettered without braking again.",
)
@common_options
@with_clear_errors
def release(
    channel: str,
    class_: str,
    reason: str,
    by: str | None,
    minutes: float,
    log_url: str | None,
    config: Path | None,
    data: Path,
) -> None:
    """Let a class go on: what cannot be read goes to the dead topic as it is.

    Where a deploy was undone instead, release as well: the records are read again by what can read them.

    `pabal brake release recorder TOPIC` lets the recorder go on with a topic: what it can neither decode nor fold is
    set aside (pabal store set-aside). Start a recorder that can fold it first, if there is one.
    """
    settings = settings_here(config, data)
    if channel != RECORDER and channel not in settings.channels:
        raise ConfigError(f"there is no channel {channel!r} here; there are: {', '.join(settings.channels)}")
    if channel != RECORDER and class_ not in CLASSES:
        raise ConfigError(f"there is no class {class_!r}; there are: {', '.join(CLASSES)}")
    url, who = url_here(log_url, settings, data), who_of(by)

    async def run() -> None:
        async with open_parts(settings, log_url=url, data=data) as parts:
            await release_brake(
                channel=channel,
                class_=class_,
                by=who,
                reason=reason,
                minutes=minutes,
                reader=parts.broker.reader(),
                producer=parts.broker.producer(),
                clock=parts.clock,
            )

    asyncio.run(run())
    say(f"released {channel} {class_}; workers go on within a second or two")


def describe_brakes(states: Mapping[str, BrakeState], *, now: datetime) -> list[str]:
    """Lines for a person: what is braked and what to do about it, and the releases that hold."""
    lines = []
    for name, state in states.items():
        since = f"since {state.at:%Y-%m-%d %H:%M:%S}Z"
        if state.state == "braked":
            lines += [f"{name}  braked {since}  {state.reason}", f"    {how_to_release(name)}"]
        elif state.until is not None and state.until > now:
            lines.append(f"{name}  released {since}, not to be braked before {state.until:%H:%M:%S}Z  {state.reason}")
    return lines if any(state.state == "braked" for state in states.values()) else ["nothing is braked", *lines]

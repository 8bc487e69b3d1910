"""`pabal brake`: classes that take nothing more because too much of what they read is unreadable."""

import asyncio
import getpass
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import click

from pabal.broker.port import Broker, TopicPartition
from pabal.cli.compose import open_parts
from pabal.cli.options import common_options, settings_here, url_here, with_clear_errors
from pabal.clock import Clock
from pabal.errors import ConfigError
from pabal.notification import CLASSES, OPS_TOPIC
from pabal.worker.braking import BrakeState, brake_record, read_brake


@click.group()
def brake() -> None:
    """Classes that workers have stopped because too many records cannot be read (a suspected bad deploy)."""


@brake.command("list")
@common_options
@with_clear_errors
def list_brakes(log_url: str | None, config: Path | None, data: Path) -> None:
    """Show what is braked, since when and why."""
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)

    async def run() -> Mapping[str, BrakeState]:
        async with open_parts(settings, log_url=url, data=data) as parts:
            return await read_brakes(parts.broker)

    braked = {name: state for name, state in asyncio.run(run()).items() if state.state == "braked"}
    for name, state in braked.items():
        click.echo(f"{name}  since {state.at:%Y-%m-%d %H:%M:%S}Z  {state.reason}")
    if not braked:
        click.echo("nothing is braked")


@brake.command()
@click.argument("channel")
@click.argument("class_", metavar="CLASS", type=click.Choice(CLASSES))
@click.option("--reason", required=True, help="Why it may go on; workers write it into their log.")
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
    channel: str, class_: str, reason: str, minutes: float, log_url: str | None, config: Path | None, data: Path
) -> None:
    """Let a class go on: what cannot be read goes to the dead topic as it is.

    Where a deploy was undone instead, release as well: the records are read again by what can read them.
    """
    settings = settings_here(config, data)
    if channel not in settings.channels:
        raise ConfigError(f"there is no channel {channel!r} here; there are: {', '.join(settings.channels)}")
    url = url_here(log_url, settings, data)

    async def run() -> None:
        async with open_parts(settings, log_url=url, data=data) as parts:
            why = f"{getpass.getuser()}: {reason}"
            await release_brake(parts.broker, channel, class_, reason=why, minutes=minutes, clock=parts.clock)

    asyncio.run(run())
    click.echo(f"released {channel} {class_}; workers go on within a second or two")


async def read_brakes(broker: Broker) -> Mapping[str, BrakeState]:
    """What was said last of each class, by `<channel> <class>`."""
    reader = broker.reader()
    states: dict[str, BrakeState] = {}
    try:
        async for batch in reader.read(TopicPartition(OPS_TOPIC, 0)):
            for record in batch:
                if (state := read_brake(record)) is not None and record.key is not None:
                    states[record.key.decode().removeprefix("brake/").replace("/", " ")] = state
    finally:
        await reader.close()
    return states


async def release_brake(
    broker: Broker, channel: str, class_: str, *, reason: str, minutes: float, clock: Clock
) -> None:
    """Write that a class may go on."""
    now = clock.now()
    state = BrakeState(state="released", at=now, until=now + timedelta(minutes=minutes), reason=reason)
    producer = broker.producer()
    try:
        await producer.append([brake_record(channel, class_, state)])
    finally:
        await producer.close()

"""`pabal brake`: classes that take nothing more because too much of what they read is unreadable."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import click
import msgspec

from pabal.audit import AuditFact, audit_id, audit_record
from pabal.brakes import RECORDER, BrakeState, brake_key, brake_record, how_to_release, read_brake
from pabal.broker.port import Broker, TopicPartition
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
from pabal.clock import Clock, SystemClock
from pabal.compose.parts import open_parts
from pabal.errors import ConfigError, DecodeError
from pabal.notification import CLASSES, OPS_TOPIC, Fact, Instant, deliveries_topic
from pabal.unreadable import Unreadable

RELEASED: Final = "brake.released"


class Release(Fact, frozen=True, kw_only=True):
    """The detail of a release in `pabal.audit`: what had braked the class, and until when it is not braked again."""

    channel: str
    class_: str = msgspec.field(name="class")
    braked_at: Instant
    braked_because: str
    until: Instant


@click.group()
def brake() -> None:
    """Classes that workers have stopped because too many records cannot be read (a suspected bad deploy).

    Workers release nothing by themselves: whoever is on call looks at what was deployed last, undoes it if that is
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
            return await read_brakes(parts.broker)

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
                parts.broker, channel=channel, class_=class_, by=who, reason=reason, minutes=minutes, clock=parts.clock
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


async def read_brakes(broker: Broker) -> Mapping[str, BrakeState]:
    """What was said last of each class, by `<channel> <class>`."""
    reader = broker.reader()
    states: dict[str, BrakeState] = {}
    unreadable = Unreadable("brakes")
    try:
        async for batch in reader.read(TopicPartition(OPS_TOPIC, 0)):
            for record in batch:
                try:
                    state = read_brake(record)
                except DecodeError as error:
                    unreadable.note(record, error)
                    continue
                if state is not None and record.key is not None:
                    states[record.key.decode(errors="replace").removeprefix("brake/").replace("/", " ")] = state
    finally:
        await reader.close()
    return states


async def release_brake(
    broker: Broker, *, channel: str, class_: str, by: str, reason: str, minutes: float, clock: Clock
) -> None:
    """Write that a class may go on, and who said so.

    Raises:
        ConfigError: it is not braked.
        LogError: the log does not answer; releasing once more does no harm.
    """
    brakes = await read_brakes(broker)
    before = brakes.get(f"{channel} {class_}")
    if before is None or before.state != "braked":
        raise ConfigError(f"{channel} {class_} is not braked: there is nothing to release (pabal brake list)")
    now = clock.now()
    until = now + timedelta(minutes=minutes)
    detail = Release(channel=channel, class_=class_, braked_at=before.at, braked_because=before.reason, until=until)
    subject = brake_key(channel, class_).decode()
    fact = AuditFact(
        id=audit_id(action=RELEASED, subject=subject, occasion=now.isoformat()),
        action=RELEASED,
        subject=subject,
        by=by,
        at=now,
        reason=reason,
        detail=msgspec.to_builtins(detail),
    )
    state = BrakeState(state="released", at=now, until=until, reason=f"{by}: {reason}")
    producer = broker.producer()
    try:
        # The fact first: nothing is released of which nobody knows by whom.
        await producer.append([audit_record(fact)])
        released = [brake_record(channel, class_, state)]
        # What a worker may dead-letter, the recorder need not hold.
        topic = deliveries_topic(channel, class_)
        if (held := brakes.get(f"{RECORDER} {topic}")) is not None and held.state == "braked":
            released.append(brake_record(RECORDER, topic, state))
        await producer.append(released)
    finally:
        await producer.close()

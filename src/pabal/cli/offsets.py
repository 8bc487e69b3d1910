"""`pabal offsets`: partitions that cannot be read on, and the ways to go on."""

import asyncio
from collections.abc import Collection, Iterator
from pathlib import Path

import click
import msgspec

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
from pabal.compose.parts import Parts, open_parts
from pabal.errors import ConfigError
from pabal.groups import groups_for
from pabal.offsets.gaps import Gap, find_gaps
from pabal.offsets.lookback import describe_passed
from pabal.offsets.moving import Skip, leave, read_passed_over, read_skips, rewind, skip_gap
from pabal.offsets.passed import PassedOver
from pabal.offsets.ranges import OffsetRange

LATER = "; its members do so within a few seconds, or when they start"


class Unread(msgspec.Struct, frozen=True, kw_only=True):
    """What was not read: `gaps` and what was `passed` over that nobody has decided about, and what a person has left
    unread (`skipped`)."""

    gaps: tuple[Gap, ...]
    passed: tuple[PassedOver, ...]
    skipped: tuple[Skip, ...]

    @property
    def open_ranges(self) -> int:
        """How many wait for a person."""
        return len(self.gaps) + len(self.passed)


@click.group()
def offsets() -> None:
    """Partitions on which a group stands still, because what it should read next is not there.

    Records were deleted before they were read, or a topic was made anew and the group's offset lies above its end. All
    other partitions go on meanwhile. docs/offsets.md tells what to look at before going on.
    """


@offsets.command("list")
@common_options
@with_clear_errors
def list_offsets(log_url: str | None, config: Path | None, data: Path) -> None:
    """Show what stands still, how many records were deleted unread, and what was skipped before.

    Exit status 1 while something waits for a decision.
    """
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)

    async def run() -> Unread:
        async with open_parts(settings, log_url=url, data=data) as parts:
            return await find_unread(parts)

    unread = asyncio.run(run())
    for line in describe_unread(unread):
        say(line)
    if unread.open_ranges:
        raise click.ClickException(f"{unread.open_ranges} ranges of records wait for a decision")
    say("nothing stands still")


@offsets.command()
@click.argument("group")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@reason_option
@by_option
@common_options
@with_clear_errors
def skip(
    group: str,
    topic: str,
    partition: int,
    reason: str,
    by: str | None,
    log_url: str | None,
    config: Path | None,
    data: Path,
) -> None:
    """Let a group go on with the first record that a partition keeps.

    What was deleted unread stays lost; it is counted, and who decided and why is a fact in the log (`pabal.audit`).
    """
    settings = settings_here(config, data)
    url, who = url_here(log_url, settings, data), who_of(by)
    if topic not in groups_for(settings.channels).get(group, ()):
        raise ConfigError(f"group {group!r} does not read {topic!r} here (pabal offsets list shows what stands still)")

    async def run() -> str:
        async with open_parts(settings, log_url=url, data=data) as parts:
            unread = await find_unread(parts)
            now = parts.clock.now()
            for passed in unread.passed:
                if _is(passed, group, topic, partition):
                    await leave(parts.broker, passed, by=who, reason=reason, at=now)
                    return f"{passed.count} deliveries that {group} passed over in {topic}/{partition} are left unread"
            for gap in unread.gaps:
                if _is(gap, group, topic, partition):
                    why_not = await skip_gap(parts.broker, gap, by=who, reason=reason, at=now)
                    is_later = why_not is not None and gap.committed is not None
                    return f"{group} goes on at {gap.low} of {topic}/{partition}: {describe_gap(gap)}{LATER * is_later}"
        raise ConfigError(f"{group} does not stand still on {topic}/{partition}: nothing to skip")

    say(asyncio.run(run()))


@offsets.command("rewind")
@click.argument("group")
@click.argument("topic")
@click.argument("partition", type=click.IntRange(min=0))
@reason_option
@by_option
@common_options
@with_clear_errors
def rewind_command(
    group: str,
    topic: str,
    partition: int,
    reason: str,
    by: str | None,
    log_url: str | None,
    config: Path | None,
    data: Path,
) -> None:
    """Let a group read after all what it passed over (its offset was moved beyond it by hand).

    What was sent already is not sent again. Who decided and why is a fact in the log (`pabal.audit`).
    """
    settings = settings_here(config, data)
    url, who = url_here(log_url, settings, data), who_of(by)

    async def run() -> str:
        async with open_parts(settings, log_url=url, data=data) as parts:
            for passed in (await find_unread(parts)).passed:
                if _is(passed, group, topic, partition):
                    why_not = await rewind(parts.broker, passed, by=who, reason=reason, at=parts.clock.now())
                    is_later = why_not is not None
                    return f"{group} reads {topic}/{partition} again from {passed.from_} on{LATER * is_later}"
        raise ConfigError(f"nothing is known to be passed over by {group} in {topic}/{partition} (pabal offsets list)")

    say(asyncio.run(run()))


def _is(found: Gap | OffsetRange, group: str, topic: str, partition: int) -> bool:
    return (found.group, found.topic, found.partition) == (group, topic, partition)


async def find_unread(parts: Parts) -> Unread:
    """What was not read, as the log shows it now. Raises LogError."""
    admin, reader = parts.broker.admin(), parts.broker.reader()
    try:
        gaps = await find_gaps(admin, groups_for(parts.settings.channels))
        passed = await read_passed_over(reader)
        skipped = await read_skips(reader)
    finally:
        await admin.close()
        await reader.close()
    left = tuple(gap for gap in gaps if not _is_decided(gap, skipped))
    return Unread(gaps=left, passed=tuple(passed), skipped=tuple(skipped))


def _is_decided(gap: Gap, skipped: Collection[Skip]) -> bool:
    """Whether a person knows of what was deleted before a group's first commit: no offset will ever say so."""
    return gap.committed is None and any(
        _is(each, gap.group, gap.topic, gap.partition) and each.to >= gap.low
        for each in (decided.skipped for decided in skipped)
    )


def describe_gap(gap: Gap) -> str:
    """What is wrong with a partition, for a person."""
    if gap.why == "above the end":
        return f"its offset {gap.committed} lies above the end {gap.high}; was the topic made anew?"
    said = "" if gap.why == "deleted" else "; the group has never committed there"
    return f"{gap.count} records were deleted unread, offsets {gap.low - gap.count} to {gap.low - 1}{said}"


def describe_unread(unread: Unread) -> Iterator[str]:
    """Lines for a person: what was not read and what to do about it, and what a person has left unread."""
    for gap in unread.gaps:
        yield f"{gap.group}  {gap.topic}/{gap.partition}  {describe_gap(gap)}"
        yield f"    go on with: pabal offsets skip {gap.group} {gap.topic} {gap.partition} --reason WHY"
    for passed in unread.passed:
        yield describe_passed(passed)
    for decided in unread.skipped:
        skipped, fact = decided.skipped, decided.fact
        yield (
            f"{skipped.group}  {skipped.topic}/{skipped.partition}  {skipped.count} records skipped, offsets "
            f"{skipped.from_} to {skipped.to} ({skipped.why})  {fact.at:%Y-%m-%d %H:%M:%S}Z  {fact.by}: {fact.reason}"
        )

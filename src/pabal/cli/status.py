"""`pabal status`: which processes run, what they hold and why, and whether anything is wrong."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.text import Text

from pabal.cli.options import common_options, settings_here, url_here, with_clear_errors
from pabal.cli.terminal import PlainTable, Terminal, say, say_json
from pabal.compose.parts import Parts, open_parts
from pabal.compose.topics import check_topics
from pabal.groups import RoleName, groups_for
from pabal.monitor.fleet import MissingRole, Process
from pabal.monitor.looking import Onlooker
from pabal.monitor.sampling import Sampler
from pabal.monitor.watching import Watching
from pabal.monitor.windows import GroupView

_WRONG: Final = ("stall", "stop")
"""Verdicts that mean that something is broken. `held` is on purpose, `warn` and `rewind` may mend themselves."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `pabal status` shows. `wrong`: what is broken, each in one line; empty: nothing is."""

    wrong: Sequence[str]
    processes: Sequence[Process]
    groups: Sequence[GroupView]
    at: float


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@common_options
@with_clear_errors
def status(log_url: str | None, config: Path | None, data: Path, *, as_json: bool) -> None:
    """Show every process of this installation: its roles, its version, what it holds and why, when it was last heard.

    Exit status 1 when something is wrong: a role is missing, a group makes no progress or has no member, or unread
    records were deleted. What is held on purpose is not wrong. A role is missing when fewer processes report than
    [expected] says. A role that [expected] does not name is missing when it ran within the last hour and reports no
    more.
    """
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)

    async def run() -> Report:
        async with open_parts(settings, log_url=url, data=data) as parts:
            await check_topics(parts)
            return await _look(parts)

    report = asyncio.run(run())
    if as_json:
        say_json(_for_json(report))
    else:
        _show(report)
    if report.wrong:
        raise SystemExit(1)


async def _look(parts: Parts) -> Report:
    admin, reader, clock = parts.broker.admin(), parts.broker.reader(), parts.clock
    sampler = Sampler(admin=admin, reader=reader, groups=groups_for(parts.settings.channels), clock=clock)
    watching = await Onlooker(reader=reader, admin=admin, clock=clock).look_and_sample(sampler)
    specs = await admin.topics()
    views = watching.windows.groups(retention={name: spec.retention_seconds for name, spec in specs.items()})
    now = clock.boot_seconds()
    return Report(
        wrong=list(_wrong(watching, views, expected=parts.settings.expected, now=now)),
        processes=watching.fleet.processes(),
        groups=views,
        at=now,
    )


def _wrong(
    watching: Watching, groups: Sequence[GroupView], *, expected: Mapping[RoleName, int], now: float
) -> Iterator[str]:
    if not watching.fleet.processes() and not expected:
        yield "no process has told of itself within the last hour: nothing runs, or its clock is wrong"
    for each in watching.fleet.missing(expected, now):
        yield _missing(each, now)
    for group in groups:
        if group.verdict in _WRONG:
            yield f"{group.group}: {group.verdict.upper()}: {group.reason}"
        if group.lost:
            yield f"{group.group}: {group.lost:,} records were deleted unread (pabal offsets list)"


def _missing(missing: MissingRole, now: float) -> str:
    last = missing.last
    text = f"role {missing.role}: {missing.running} of {missing.expected} report"
    if last is None:
        return f"{text}; none was heard of within the last hour"
    how = "stopped in order" if last.status.state == "stopped" else "fell silent"
    return f"{text}; {last.status.instance} {how} {_ago(last.silent_for(now))}"


def _show(report: Report) -> None:
    console = Terminal()
    table = PlainTable("instance", "roles", "version", "state", "last heard", "up since", "holds", firm=4)
    for each in report.processes:
        own = each.status
        table.add_row(
            own.instance,
            ", ".join(own.roles),
            own.version,
            _state(each, report.at),
            _ago(each.silent_for(report.at)),
            own.started_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M"),
            "; ".join(_holds(each)) if each.is_running(report.at) else "",
        )
    console.print(table)
    verdicts = Counter(group.verdict for group in report.groups)
    say("groups: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()) + "  (pabal lag)")
    if report.wrong:
        say("")
        for line in report.wrong:
            console.print(Text(f"wrong: {line}", style="bold red"))
    else:
        say("nothing is wrong")


def _state(process: Process, now: float) -> Text:
    if process.status.state == "stopped":
        return Text("stopped", style="dim")
    return Text("running", style="green") if process.is_running(now) else Text("silent", style="bold red")


def _holds(process: Process) -> Iterator[str]:
    for group in process.status.groups:
        if group.held is not None:
            yield f"{group.group} ({group.held})"
    for provider in process.status.open:
        yield f"circuit of {provider} is open"


def _ago(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 7200 else f"{seconds / 3600:.0f} h ago"


def _for_json(report: Report) -> object:
    now = datetime.now(UTC)
    return {
        "wrong": report.wrong,
        "at": now,
        "processes": [
            {
                "instance": each.status.instance,
                "roles": each.status.roles,
                "version": each.status.version,
                "state": each.status.state
                if each.is_running(report.at) or each.status.state == "stopped"
                else "silent",
                "last_heard_seconds": round(each.silent_for(report.at), 1),
                "started_at": each.status.started_at,
                "ops_offset": each.status.ops_offset,
                "holds": [
                    {"group": group.group, "reason": group.held}
                    for group in each.status.groups
                    if group.held is not None
                ],
                "open": each.status.open,
            }
            for each in report.processes
        ],
        "groups": [
            {"group": each.group, "verdict": each.verdict, "reason": each.reason, "lag": each.lag, "lost": each.lost}
            for each in report.groups
        ],
    }

"""`pabal lag`: what each consumer group has not read yet, whether it moves, and when it will be done."""

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import click
import msgspec
from rich.console import Group
from rich.live import Live
from rich.text import Text

from pabal.broker.port import Admin, TopicSpec
from pabal.cli.options import common_options, settings_here, url_here, with_clear_errors
from pabal.cli.terminal import PlainTable, Terminal, harmless, say, say_json, say_json_line
from pabal.compose.parts import Parts, open_parts
from pabal.errors import ConfigError
from pabal.groups import groups_for
from pabal.lag import LagVerdict
from pabal.monitor.looking import RECENT, Onlooker
from pabal.monitor.sampling import Sampler
from pabal.monitor.windows import SAMPLE_EVERY_SECONDS, GroupView, PartitionView

_HISTORY = 40
_BARS = "▁▂▃▄▅▆▇█"
_STYLES: Mapping[LagVerdict, str] = {
    "ok": "green",
    "incomplete": "dim",
    "held": "cyan",
    "warn": "yellow",
    "rewind": "magenta",
    "stall": "bold red",
    "stop": "bold red",
}


@click.command()
@click.option("--group", "names", multiple=True, help="Only this group, also one of another system; may be repeated.")
@click.option("--watch", is_flag=True, help="Look again every two seconds, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch one line per look.")
@common_options
@with_clear_errors
def lag(
    names: tuple[str, ...],
    log_url: str | None,
    config: Path | None,
    data: Path,
    *,
    watch: bool,
    as_json: bool,
) -> None:
    """Show what each consumer group has not read yet, and what that means.

    ok: nothing to do. held: its owner takes nothing on purpose. warn: it falls behind. stall: a member is there, and
    nothing is done. stop: no member is there. rewind: its offset was set back. docs/lag.md says what to do about each.

    Judged is the last half minute, as the monitor has seen it. Where no monitor runs, two looks in a row tell whether
    anything moves; --watch tells more, the longer it runs.
    """
    settings = settings_here(config, data)
    url = url_here(log_url, settings, data)

    async def run() -> None:
        async with open_parts(settings, log_url=url, data=data) as parts:
            looks = _looks(parts, names)
            if watch:
                await (_print_lines(looks) if as_json else _show(looks, with_partitions=bool(names)))
                return
            groups = await anext(looks)
            if as_json:
                say_json(_for_json(groups))
                return
            Terminal().print(_table(groups, {}))
            for group in groups if names else ():
                Terminal().print(_partitions(group))

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        say("")


async def _looks(parts: Parts, names: Sequence[str]) -> AsyncIterator[Sequence[GroupView]]:
    """What each look at the log says, each from all looks so far and from the window that a monitor has kept."""
    admin, reader = parts.broker.admin(), parts.broker.reader()
    specs = await admin.topics()
    retention = {name: spec.retention_seconds for name, spec in specs.items()}
    groups = await _groups(admin, parts, names, specs)
    sampler = Sampler(admin=admin, reader=reader, groups=groups, clock=parts.clock)
    onlooker = Onlooker(reader=reader, admin=admin, clock=parts.clock, look_back=RECENT)
    while True:
        watching = await onlooker.look_and_sample(sampler)
        yield watching.windows.groups(retention=retention)
        await asyncio.sleep(SAMPLE_EVERY_SECONDS)


async def _groups(
    admin: Admin, parts: Parts, names: Sequence[str], specs: Mapping[str, TopicSpec]
) -> Mapping[str, Collection[str]]:
    """The groups that are asked for, with their topics. Raises ConfigError."""
    ours = groups_for(parts.settings.channels)
    missing = sorted({topic for topics in ours.values() for topic in topics} - specs.keys())
    if missing and not names:
        raise ConfigError(
            f"the log at {parts.log_url} lacks {missing[0]}: create Pabal's topics with `pabal topics create`, or name "
            "a group of another system with --group"
        )
    if not names:
        return ours
    found: dict[str, Collection[str]] = {}
    for name in names:
        topics = ours.get(name) or sorted({each.topic for each in await admin.committed(name)})
        if not topics:
            raise ConfigError(f"group {name!r} has committed nothing; Pabal's own groups are {', '.join(ours)}")
        found[name] = topics
    return found


async def _print_lines(looks: AsyncIterator[Sequence[GroupView]]) -> None:
    async for groups in looks:
        say_json_line(_for_json(groups))


async def _show(looks: AsyncIterator[Sequence[GroupView]], *, with_partitions: bool) -> None:
    console = Terminal()
    if not console.is_terminal:
        async for groups in looks:
            console.print(_table(groups, {}))
        return
    history: dict[str, deque[int]] = defaultdict(lambda: deque(maxlen=_HISTORY))
    with Live(console=console, auto_refresh=False, transient=False) as live:
        async for groups in looks:
            for group in groups:
                history[group.group].append(group.lag)
            tables = [_table(groups, history)]
            if with_partitions:
                tables += [_partitions(group) for group in groups]
            live.update(Group(*tables), refresh=True)


def _table(groups: Sequence[GroupView], history: Mapping[str, Sequence[int]]) -> PlainTable:
    columns = ["group", "verdict", "lag", "oldest", "in/s", "out/s", "drained in", "lost", "members"]
    table = PlainTable(*columns, *(["last minutes"] if history else []), "why", firm=4)
    for each in groups:
        cells = [
            each.group,
            Text(each.verdict.upper(), style=_STYLES[each.verdict]),
            f"{each.lag:,}",
            _seconds(each.age_seconds) if each.lag else "",
            f"{each.in_per_second:,.1f}" if each.in_per_second else "",
            f"{each.out_per_second:,.1f}" if each.out_per_second else "",
            _drained(each),
            f"{each.lost:,}" if each.lost else "",
            str(each.members),
        ]
        if history:
            cells.append(sparkline(history[each.group]))
        table.add_row(*cells, each.reason)
    return table


def _partitions(group: GroupView) -> PlainTable:
    table = PlainTable("topic", "partition", "verdict", "lag", "oldest", "committed", "end", "owner", "why")
    for each in group.partitions:
        table.add_row(*_partition_cells(each))
    table.title = harmless(group.group)
    table.title_justify = "left"
    return table


def _partition_cells(view: PartitionView) -> Sequence[str | Text]:
    return (
        view.topic,
        str(view.partition),
        Text(view.verdict.upper(), style=_STYLES[view.verdict]),
        f"{view.lag:,}",
        _seconds(view.age_seconds) if view.lag and view.age_seconds is not None else "",
        "" if view.committed is None else str(view.committed),
        str(view.high),
        view.owner or "",
        view.reason,
    )


def sparkline(values: Sequence[int]) -> str:
    """The values as a row of bars, the highest in full."""
    top = max(values, default=0)
    if not top:
        return _BARS[0] * len(values)
    return "".join(_BARS[min(value * len(_BARS) // (top + 1), len(_BARS) - 1)] for value in values)


def _drained(group: GroupView) -> str:
    if not group.lag:
        return ""
    if group.drained_in_seconds is None:
        return "?"
    return "never" if math.isinf(group.drained_in_seconds) else _seconds(group.drained_in_seconds)


def _seconds(seconds: float) -> str:
    """A duration in words: `4.2 s`, `3 min`, `2 days, 1:00:00`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return str(timedelta(seconds=round(seconds)))


def _for_json(groups: Sequence[GroupView]) -> object:
    """As the groups are, with null for what is infinite: JSON has no such number."""
    return {"groups": [_finite(msgspec.to_builtins(each)) for each in groups]}


def _finite(value: object) -> object:
    match value:
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
        case float() if math.isinf(value):
            return None
    return value

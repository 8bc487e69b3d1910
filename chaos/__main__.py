"""`python -m chaos [NAME ...]`: pull the plugs, print the accounts, write bench/out/chaos.jsonl."""

import sys
import time

import click
from rich.console import Console
from servers.kafka import missing

from chaos.account import Log, Row
from chaos.apart import conduct, run_to_its_end
from chaos.rows import OUT, QUICK_OUT, record
from chaos.run import QUICK, Scenario, Size
from chaos.scenarios import SCENARIOS

_LOGS: dict[str, tuple[Log, ...]] = {"embedded": ("embedded",), "kafka": ("kafka",), "all": ("embedded", "kafka")}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--log", "which", type=click.Choice(list(_LOGS)), default="all", show_default=True, help="On which log.")
@click.option("--quick", is_flag=True, help="Small counts, for developing; kept apart from the published figures.")
@click.option("--keep", is_flag=True, help="Keep the programs' logs and data, and say where.")
@click.option("--list", "show", is_flag=True, help="Only list the names.")
def main(names: tuple[str, ...], which: str, quick: bool, keep: bool, show: bool) -> None:
    """Pull the plug, and count: each scenario fails on any loss and on more duplicates than documented.

    Without a NAME, all of them. A row that is run anew replaces its former one in bench/out/chaos.jsonl.
    """
    console = Console(highlight=False, soft_wrap=True)
    unknown = set(names) - {each.name for each in SCENARIOS}
    if unknown:
        raise click.UsageError(f"no scenario {', '.join(sorted(unknown))}; --list names them")
    chosen = [each for each in SCENARIOS if not names or each.name in names]
    if show:
        for each in chosen:
            console.print(f"{each.name:24} {' '.join(each.logs):16} {each.title}")
        return
    failed = 0
    for scenario in chosen:
        for log in _LOGS[which]:
            if log in scenario.logs:
                row = _run(console, scenario, log=log, quick=quick, keep=keep)
                failed += row is None or bool(row.problems)
    if failed:
        raise click.ClickException(f"{failed} runs broke a promise")


def _run(console: Console, scenario: Scenario, *, log: Log, quick: bool, keep: bool) -> Row | None:
    """One run, printed and written; None when there is no Kafka to run it on, which does not pass."""
    if log == "kafka" and (reason := missing()):
        console.print(f"[red]{scenario.name} kafka: {reason}")
        return None
    began = time.monotonic()
    row = run_to_its_end(conduct(scenario, log=log, size=QUICK if quick else Size(), keep=keep))
    _print(console, row, name=scenario.name, took=time.monotonic() - began)
    record([row], QUICK_OUT if quick else OUT)
    return row


def _print(console: Console, row: Row, *, name: str, took: float) -> None:
    verdict = "[red]FAILED[/red]" if row.problems else "[green]kept[/green]"
    counts = "  ".join(
        f"{key} {getattr(row, key)}" for key in ("accepted", "sent", "lost", "duplicated", "uncertain", "dead")
    )
    console.print(f"{verdict} {name} ({row.log}, {took:.0f} s): {counts}", end="")
    console.print(f" (duplicates allowed: {row.duplicates_allowed}) recovered after {row.recovered_after_seconds} s")
    for line in (*row.notes, *row.problems):
        console.print(f"    {line}", markup=False)


if __name__ == "__main__":
    sys.exit(main())

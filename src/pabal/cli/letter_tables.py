"""What `pabal dlq` prints: dead letters, plans and redrives for people."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from rich.text import Text

from pabal.cli.terminal import PlainTable, Terminal
from pabal.dlq.letters.selection import Dimension, Selection
from pabal.dlq.letters.selection import Group as LetterGroup
from pabal.dlq.letters.views import LetterDetail, LetterPage, LetterView
from pabal.dlq.redrive.plan import FATES, MEANINGS, Plan
from pabal.dlq.redrive.run import Ending
from pabal.dlq.redrive.views import RedriveView

_STYLES: Final = {
    "open": "red",
    "redriven": "green",
    "discarded": "dim",
    "resolved": "green",
    "completed": "green",
    "running": "cyan",
    "waiting": "cyan",
    "broken": "red",
    "aborted": "red",
}


def none_text(selection: Selection, *, state: str = "any") -> str:
    """What is said when no letter of the state is meant: none is there at all, or none that fits the filters."""
    what = "dead letters" if state == "any" else f"{state} dead letters"
    return f"there are no {what}" if selection == Selection() else f"no {what} fit the filters"


def show_letters(console: Terminal, page: LetterPage, *, none: str, now: datetime) -> None:
    """A list, with how many there are beyond it; `none` when it is empty."""
    if not page.letters:
        console.print(none)
        return
    table = _table("letter", "state", "age", "error", "provider", "tenant", "class", "attempt", "address")
    for view in page.letters:
        redrives = f" (redriven {view.redrives}x)" if view.redrives else ""
        table.add_row(
            view.letter,
            _state(view.state),
            age_text(now - view.at),
            view.error_class,
            view.provider,
            view.tenant,
            view.class_,
            f"{view.attempt if view.attempt is not None else ''}{redrives}",
            Text(view.address or (view.undecodable or ""), overflow="ellipsis", no_wrap=True),
        )
    console.print(table)
    if page.total > len(page.letters):
        console.print(f"the newest {len(page.letters):,} of {page.total:,}; --limit shows more", style="dim")


def show_letter(console: Terminal, detail: LetterDetail, *, now: datetime) -> None:
    """One letter: what, why, where from, what was done, and its history."""
    view = detail.summary
    console.print(Text.assemble((view.letter, "bold"), "  ", _state(view.state), f"  {age_text(now - view.at)} old"))
    console.print(_facts(view, detail))
    if detail.delivery is not None:
        _head(console, "delivery")
        console.print_value_as_json(detail.delivery)
    if detail.value_hex is not None:
        _head(console, "value")
        console.print(Text(detail.value_hex))
    _head(console, "headers")
    headers = _table()
    for name, value in detail.headers.items():
        headers.add_row(name, Text(value))
    console.print(headers)
    if detail.delivery is not None:
        _show_history(console, detail)


def _facts(view: LetterView, detail: LetterDetail) -> PlainTable:
    facts = _table()
    for name, value in (
        ("given up", f"{_time(view.at)} by {view.provider or 'nobody (no provider was asked)'}"),
        ("because", f"{view.error_class}: {view.message}"),
        ("first failed", _time(detail.first_failed_at)),
        ("came from", detail.origin),
        ("unreadable", view.undecodable or ""),
        ("tenant", view.tenant),
        ("address", view.address),
        ("edited", f"edition {view.edit}" if view.edit else ""),
        ("closed", f"{_time(view.state_at)} by {view.state_by}: {view.state_reason}" if view.state_at else ""),
        ("plan", view.plan or ""),
    ):
        if value:
            facts.add_row(name, Text(value))
    return facts


def _show_history(console: Terminal, detail: LetterDetail) -> None:
    _head(console, "history")
    if not detail.history:
        console.print("nothing is kept of it any more: the events' retention has passed, and no store recorded it")
        return
    history = _table("at", "attempt", "what", "provider", "latency", "detail")
    for entry in detail.history:
        history.add_row(
            _time(entry.at),
            "" if entry.attempt is None else f"{entry.attempt}",
            entry.kind,
            entry.provider or "",
            "" if entry.latency_seconds is None else f"{entry.latency_seconds:.3f} s",
            Text(": ".join(filter(None, (entry.detail, entry.response))), overflow="ellipsis", no_wrap=True),
        )
    console.print(history)


def show_groups(
    console: Terminal, groups: Sequence[LetterGroup], *, dimensions: Sequence[Dimension], none: str, now: datetime
) -> None:
    """Counts, the most frequent first; `none` when there is nothing to count."""
    if not groups:
        console.print(none)
        return
    table = _table(*(dimension.replace("_", " ") for dimension in dimensions), "letters", "oldest", "newest")
    for group in groups:
        values = [group.values[dimension] or "-" for dimension in dimensions]
        table.add_row(*values, f"{group.count:,}", age_text(now - group.oldest), age_text(now - group.newest))
    console.print(table)
    total = sum(group.count for group in groups)
    console.print(f"{total:,} letter{'' if total == 1 else 's'}", style="dim")


def show_plan(console: Terminal, plan: Plan) -> None:
    """What a redrive would do, and why not more."""
    if not plan.counts:
        console.print(none_text(plan.selection))
        return
    console.print(Text.assemble("plan ", (plan.id, "bold"), f"  made {_time(plan.made_at)} by {plan.by}"))
    table = _table("letters", "", "")
    for fate in FATES:
        if count := plan.counts.get(fate):
            style = "bold green" if fate == "redrive" else ""
            table.add_row(Text(f"{count:,}", style=style), Text(fate, style=style), MEANINGS[fate])
    console.print(table)
    if plan.redrives:
        errors = ", ".join(f"{count:,} {error}" for error, count in plan.error_classes.items())
        console.print(f"would be sent again: {errors}")


def show_redrives(console: Terminal, views: Sequence[RedriveView]) -> None:
    """The redrives, newest first."""
    if not views:
        console.print("no redrives in that time")
        return
    table = _table("plan", "state", "redriven", "sent", "returned", "deferred", "by", "started", "why")
    for view in views:
        tally = view.ending.tally if view.ending else None
        table.add_row(
            view.plan,
            _state(view.state),
            f"{view.redriven:,} of {view.planned:,}",
            *(f"{count:,}" for count in (tally.sent, tally.returned, tally.deferred)) if tally else ("", "", ""),
            view.by,
            _time(view.started_at),
            Text(view.reason, overflow="ellipsis", no_wrap=True),
        )
    console.print(table)
    if len(views) == 1 and views[0].ending is not None:
        console.print(views[0].ending.message)


def show_ending(console: Terminal, ending: Ending) -> None:
    """How a run ended, in counts."""
    tally = ending.tally
    parts = [
        f"{tally.redriven:,} redriven",
        f"{tally.sent:,} sent",
        *(
            f"{count:,} {word}"
            for count, word in (
                (tally.returned, "dead again"),
                (tally.deferred, "refused again, on their ladder"),
                (tally.ended, "ended otherwise (refused, expired, suppressed, cancelled)"),
                (tally.waiting, "not heard of yet"),
                (ending.resolved, "had been sent after all"),
                (ending.refused, "too large for the log"),
            )
            if count
        ),
    ]
    console.print(Text.assemble(_state(ending.ended), ": ", ending.message))
    console.print(", ".join(parts))


def age_text(age: timedelta) -> str:
    """An age in the largest unit that says something: `12 s`, `5 min`, `3 h`, `2 d`."""
    seconds = max(0, int(age.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _head(console: Terminal, words: str) -> None:
    console.print()
    console.print(words, style="bold")


def _state(word: str) -> Text:
    return Text(word, style=_STYLES.get(word, "yellow"))


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}Z"


def _table(*columns: str) -> PlainTable:
    table = PlainTable(*columns)
    for column in table.columns:
        column.justify = "right" if column.header == "letters" else "left"
        column.no_wrap = column.header == "letter"
    return table

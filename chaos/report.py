"""The table of docs/guarantees.md, from what was measured last: `python -m chaos.report` (`--write` puts it there).

A row of the page that was not run here stays as it is.
"""

import sys
from collections.abc import Iterable, Mapping

from bench.lab import ROOT

from chaos.account import Row
from chaos.rows import OUT, read_rows
from chaos.scenarios import SCENARIOS

PAGE = ROOT / "docs" / "guarantees.md"
_BEGIN, _END = "<!-- chaos table: python -m chaos.report --write -->\n", "<!-- end of the chaos table -->\n"


_HEAD = (
    "| failure | log | accepted | sent | lost | again (bound) | uncertain | dead | recovered | `python -m chaos` |",
    "|---|---|--:|--:|--:|--:|--:|--:|--:|---|",
)


def table(page: str, rows: Iterable[Row], *, names: Mapping[str, str]) -> str:
    """The table of the page with these rows anew. `names`: each failure's scenario, in the order of the table."""
    lines = _lines_on(page) | _lines_of(rows, names=names)
    order = [f"`{name} --log {log}`" for name in names.values() for log in ("embedded", "kafka")]
    return "\n".join([*_HEAD, *(lines[command] for command in order if command in lines)]) + "\n"


def _lines_of(rows: Iterable[Row], *, names: Mapping[str, str]) -> dict[str, str]:
    """Markdown, a line per row by its command; `names` gives each failure's scenario."""
    lines = {}
    for row in rows:
        failure = f"{row.failure} **(a promise was broken)**" if row.problems else row.failure
        cells = [failure, row.log, *map(_count, (row.accepted, row.sent, row.lost))]
        cells.append(f"{_count(row.duplicated)} ({_count(row.duplicates_allowed)})")
        cells += map(_count, (row.uncertain, row.dead))
        recovered = row.recovered_after_seconds
        cells.append("–" if recovered is None else f"{recovered:.1f} s")
        command = f"`{names.get(row.failure, '?')} --log {row.log}`"
        lines[command] = f"| {' | '.join([*cells, command])} |"
    return lines


def _lines_on(page: str) -> dict[str, str]:
    """The lines of the table on the page, by their commands."""
    _, _, rest = page.partition(_BEGIN)
    lines = rest.partition(_END)[0].splitlines()[len(_HEAD) :]
    return {line.rstrip("| ").rpartition("| ")[2]: line for line in lines}


def _count(number: int | None) -> str:
    return "–" if number is None else f"{number:,}"


def written_into(page: str, new_table: str) -> str:
    """The page with the table between its marks replaced. Raises ValueError when they are missing."""
    before, _, rest = page.partition(_BEGIN)
    _, mark, after = rest.partition(_END)
    if not mark:
        raise ValueError(f"{PAGE.name} lacks the marks of the chaos table")
    return f"{before}{_BEGIN}{new_table}{_END}{after}"


def main(arguments: list[str]) -> None:
    """Print the table, or write it into the page."""
    names = {each.title: each.name for each in SCENARIOS}
    rows = [row for row in read_rows(OUT) if row.failure in names]
    page = PAGE.read_text()
    made = table(page, rows, names=names)
    if arguments == ["--write"]:
        PAGE.write_text(written_into(page, made))
    else:
        print(made, end="")


if __name__ == "__main__":
    main(sys.argv[1:])

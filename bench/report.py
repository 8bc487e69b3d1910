"""The table of docs/benchmarks.md, from what was measured last: `python -m bench.report`."""

import sys
from pathlib import Path

import msgspec

from bench.figures import Figure, Measured, number
from bench.measures import MEASURES


class _Document(msgspec.Struct):
    machine: dict[str, str | float]
    result: Measured


def main(out: Path) -> None:
    """Print one Markdown table, in the order of the measurements."""
    print("| | target | Pabal | sketch | ratio | |")
    print("|---|---|--:|--:|--:|---|")
    for name in MEASURES:
        file = out / f"{name}.json"
        if not file.exists():
            continue
        document = msgspec.json.decode(file.read_bytes(), type=_Document)
        lost = f"missing {document.result.missing}, duplicated {document.result.duplicated}"
        print(f"| **{document.result.title}** | | | | | {lost} |")
        for figure in document.result.figures:
            print(_row(figure))


def _row(figure: Figure) -> str:
    numbers = (number(each) for each in (figure.pabal, figure.sketch, figure.ratio))
    return f"| {figure.title}, {figure.unit} | {figure.target} | {' | '.join(numbers)} | {figure.verdict} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "out")

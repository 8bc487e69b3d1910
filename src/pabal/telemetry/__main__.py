"""`python -m pabal.telemetry`: write the page of metrics and the Grafana dashboard."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import click

from pabal.telemetry.documents import grafana_dashboard, metrics_page


def all_documents() -> Mapping[str, str]:
    """Both files, by name."""
    return {
        "metrics.md": metrics_page(),
        "grafana.json": json.dumps(grafana_dashboard(), indent=2, ensure_ascii=False) + "\n",
    }


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("docs"))
def main(folder: Path) -> None:
    """Write metrics.md and grafana.json into FOLDER."""
    for name, text in all_documents().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

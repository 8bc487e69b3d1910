"""The committed page and dashboard are what the table says, and the dashboard asks for what the table has."""

import re
from pathlib import Path

from click.testing import CliRunner

from pabal.telemetry.__main__ import all_documents, main
from pabal.telemetry.documents import PANELS, grafana_dashboard
from pabal.telemetry.table import METRICS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_committed_files_are_what_the_table_says(tmp_path: Path) -> None:
    committed = {name: (DOCS / name).read_text(encoding="utf-8") for name in all_documents()}

    assert committed == all_documents(), "the table changed: run `make contracts`"
    assert CliRunner().invoke(main, [str(tmp_path)]).exit_code == 0
    assert (tmp_path / "metrics.md").read_text(encoding="utf-8") == committed["metrics.md"]


def test_every_metric_has_its_row() -> None:
    page = all_documents()["metrics.md"]

    assert [name for name in METRICS if f"| `{name}` |" not in page] == []


def test_the_dashboard_asks_for_metrics_and_labels_that_exist() -> None:
    for _, row in PANELS:
        for panel in row:
            for expression, legend in panel.queries:
                asked = re.findall(r"(?:pabal|kafka)_\w+", expression)
                names = {name.removesuffix("_bucket") if name not in METRICS else name for name in asked}
                labels = {label for name in names for label in METRICS[name].labels}
                shown = re.findall(r"\{\{(\w+)\}\}", legend)
                by = [each.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for each in group.split(",")]

                assert names, panel.title
                assert set(shown) <= labels, panel.title
                assert set(by) - {"le"} <= labels, panel.title


def test_panels_do_not_lie_over_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in grafana_dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells

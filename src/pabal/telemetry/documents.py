"""The page of metrics and the Grafana dashboard, made from the table. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from pabal.telemetry.table import TABLE, HistogramName, Metric

Json = Mapping[str, Any]


class Panel(msgspec.Struct, frozen=True, kw_only=True):
    """One chart of the dashboard: what it shows, its queries with their legends, and the unit as Grafana names it."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    help: str = ""


_WINDOW: Final = "$__rate_interval"


def _quantile(quantile: float, name: HistogramName, *, by: str | None = None) -> str:
    """The query for a quantile of a histogram, by one of its labels."""
    kept = "le" if by is None else f"le, {by}"
    return f"histogram_quantile({quantile}, sum by ({kept}) (rate({name}_bucket[{_WINDOW}])))"


PANELS: Final[Sequence[tuple[str, Sequence[Panel]]]] = (
    (
        "Accepting",
        (
            Panel(
                title="Accepted",
                queries=(
                    (f"sum by (channel, class) (rate(pabal_accepted_total[{_WINDOW}]))", "{{channel}} {{class}}"),
                ),
                unit="ops",
            ),
            Panel(
                title="Answers",
                queries=((f"sum by (code) (rate(pabal_http_requests_total[{_WINDOW}]))", "{{code}}"),),
                unit="reqps",
            ),
            Panel(
                title="Time to answer, and to append, p95",
                queries=(
                    (_quantile(0.95, "pabal_http_request_duration_seconds", by="route"), "{{route}}"),
                    (_quantile(0.95, "pabal_append_duration_seconds"), "append"),
                ),
                unit="s",
            ),
        ),
    ),
    (
        "Sending",
        (
            Panel(
                title="Calls of providers",
                queries=(
                    (
                        f"sum by (provider, outcome) (rate(pabal_attempts_total[{_WINDOW}]))",
                        "{{provider}} {{outcome}}",
                    ),
                ),
                unit="ops",
            ),
            Panel(
                title="Time to send, p50 and p95",
                queries=tuple(
                    (_quantile(quantile, "pabal_time_to_send_seconds", by="class"), f"{{{{class}}}} {name}")
                    for quantile, name in ((0.5, "p50"), (0.95, "p95"))
                ),
                unit="s",
            ),
            Panel(
                title="How deliveries ended",
                queries=((f"sum by (status) (rate(pabal_ended_total[{_WINDOW}]))", "{{status}}"),),
                unit="ops",
            ),
            Panel(
                title="Records in flight",
                queries=(("sum by (channel, class) (pabal_in_flight)", "{{channel}} {{class}}"),),
            ),
            Panel(
                title="Held on purpose",
                queries=(("max by (channel, class, reason) (pabal_intake_held)", "{{channel}} {{class}} {{reason}}"),),
                help="1: the worker takes nothing of the class, for this reason.",
            ),
            Panel(
                title="Circuits open",
                queries=(
                    ("max by (channel, provider) (pabal_provider_open)", "{{channel}} {{provider}}"),
                    ("sum by (channel, provider) (pabal_hosts_open)", "{{channel}} {{provider}} hosts"),
                ),
            ),
        ),
    ),
    (
        "Waiting",
        (
            Panel(
                title="Overdue on the delay line",
                queries=(("max by (class) (pabal_delay_overdue_seconds)", "{{class}}"),),
                unit="s",
            ),
            Panel(title="Held on the delay line", queries=(("sum by (class) (pabal_delay_held)", "{{class}}"),)),
            Panel(title="Unaccounted", queries=(("sum(pabal_unaccounted)", "unaccounted"),)),
        ),
    ),
    (
        "Consumer groups",
        (
            Panel(
                title="Lag",
                queries=(("sum by (consumergroup) (kafka_consumergroup_lag_sum)", "{{consumergroup}}"),),
                help="Records that wait. A number alone says little: see the verdict and the age.",
            ),
            Panel(
                title="Age of what waits",
                queries=(("max by (consumergroup) (pabal_consumergroup_lag_seconds)", "{{consumergroup}}"),),
                unit="s",
            ),
            Panel(
                title="Lag verdicts that are not ok",
                queries=(
                    (
                        'max by (consumergroup, verdict) (pabal_consumergroup_verdict{verdict!="ok"})',
                        "{{consumergroup}} {{verdict}}",
                    ),
                ),
                help="1: the verdict holds. docs/lag.md says what each means and what to do.",
            ),
            Panel(
                title="Drained in",
                queries=(("max by (consumergroup) (pabal_consumergroup_drain_seconds)", "{{consumergroup}}"),),
                unit="s",
                help="At the rates of the last thirty seconds; infinite: never at these.",
            ),
            Panel(
                title="Retention headroom",
                queries=(("min by (topic) (pabal_topic_retention_headroom_seconds)", "{{topic}}"),),
                unit="s",
                help="Until the oldest unread record is deleted; infinite: none waits.",
            ),
            Panel(
                title="Roles: missing",
                queries=(("max by (role) (pabal_roles_expected - pabal_roles_running)", "{{role}}"),),
            ),
        ),
    ),
)
"""The dashboard, row by row."""


def metrics_page() -> str:
    """docs/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "Made from the table in `src/pabal/telemetry/table.py` by `make contracts`; do not edit it by hand.",
        "",
        "`GET /metrics` exposes them, without a key: on the API's port, and on the `--status-port` of every other",
        "role; with `pabal up` the API's are those of every role. No label names a tenant, a host, a recipient or a",
        "delivery: the configuration bounds its values. Beside these each process exposes `process_*`: CPU, memory,",
        "descriptors.",
        "",
        "[grafana.json](grafana.json) is a dashboard of them: in Grafana choose *Import* and give it the file.",
        "",
        "| metric | type | labels | counted in | what it tells |",
        "|---|---|---|---|---|",
    ]
    lines += [_row(metric) for metric in TABLE]
    lines += [
        "",
        "## Like them in OpenTelemetry",
        "",
        "OpenTelemetry's names for messaging are still in development, and have none for lag. Nearest to ours:",
        "",
        "| metric | OpenTelemetry |",
        "|---|---|",
    ]
    lines += [f"| `{metric.name}` | `{metric.open_telemetry}` |" for metric in TABLE if metric.open_telemetry]
    return "\n".join(lines) + "\n"


def grafana_dashboard() -> Json:
    """docs/grafana.json: a dashboard to import, of Grafana's schema version 39 (Grafana 10 and later)."""
    panels: list[Json] = []
    y = 0
    for title, row in PANELS:
        panels.append(
            {"type": "row", "title": title, "id": len(panels) + 1, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}}
        )
        y += 1
        for place, panel in enumerate(row):
            x = place % 3 * 8
            panels.append(_panel(panel, id_=len(panels) + 1, x=x, y=y + place // 3 * 8))
        y += -(-len(row) // 3) * 8
    return {
        "title": "Pabal",
        "uid": "pabal",
        "schemaVersion": 39,
        "tags": ["pabal"],
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "type": "datasource", "query": "prometheus", "label": "Prometheus"}]
        },
        "panels": panels,
    }


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    roles = ", ".join("every role" if role == "all" else role for role in metric.counted_in)
    told = metric.help
    return f"| `{metric.name}` | {metric.kind} | {labels} | {roles} | {told} |"


def _panel(panel: Panel, *, id_: int, x: int, y: int) -> Json:
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "type": "timeseries",
        "id": id_,
        "title": panel.title,
        "description": panel.help,
        "datasource": source,
        "gridPos": {"x": x, "y": y, "w": 8, "h": 8},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": source, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(panel.queries)
        ],
    }

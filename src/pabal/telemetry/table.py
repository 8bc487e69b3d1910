"""The table of metrics: name, type, unit, labels, what it tells, and which role counts it. Pure.

Names keep Prometheus' rules: base units, `_total` on counters, one series of 0 or 1 per state
(https://prometheus.io/docs/practices/naming/). A label's values are bounded by the configuration: no tenant, host,
recipient or delivery is a label.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

CounterName = Literal[
    "pabal_http_requests_total",
    "pabal_accepted_total",
    "pabal_attempts_total",
    "pabal_ended_total",
    "pabal_retries_total",
    "pabal_parks_total",
    "pabal_dead_letters_total",
    "pabal_consumergroup_lost_records_total",
    "pabal_redriven_total",
    "pabal_recorded_total",
    "pabal_undecodable_total",
]
GaugeName = Literal[
    "pabal_delay_overdue_seconds",
    "pabal_delay_held",
    "pabal_in_flight",
    "pabal_intake_held",
    "pabal_provider_open",
    "pabal_hosts_open",
    "pabal_concurrency_limit",
    "pabal_unaccounted",
    "pabal_dead_letters_open",
    "pabal_ops_offset",
    "pabal_build_info",
    "kafka_brokers",
    "kafka_topic_partitions",
    "kafka_topic_partition_current_offset",
    "kafka_topic_partition_oldest_offset",
    "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_under_replicated_partition",
    "kafka_consumergroup_members",
    "kafka_consumergroup_current_offset",
    "kafka_consumergroup_current_offset_sum",
    "kafka_consumergroup_lag",
    "kafka_consumergroup_lag_sum",
    "pabal_consumergroup_lag_seconds",
    "pabal_consumergroup_verdict",
    "pabal_consumergroup_drain_seconds",
    "pabal_topic_retention_headroom_seconds",
    "pabal_oldest_waiting_seconds",
    "pabal_roles_running",
    "pabal_roles_expected",
    "pabal_sample_age_seconds",
]
HistogramName = Literal[
    "pabal_http_request_duration_seconds",
    "pabal_append_duration_seconds",
    "pabal_attempt_duration_seconds",
    "pabal_time_to_send_seconds",
]
MetricName = CounterName | GaugeName | HistogramName

CALL_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""For a request, an append or a call, in seconds: what is slower than 5 s is slow, however slow."""

WAIT_BUCKETS: Final = (
    *(0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3600.0, 14400.0, 86400.0),
)
"""For a delivery's way from its acceptance to its sending, in seconds: retries make it minutes or hours."""

Place = Literal["api", "worker", "delayline", "recorder", "monitor", "all"]


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One metric. `counted_in` are the roles that count it; `open_telemetry` is the name of the like there, if any."""

    name: MetricName
    kind: Literal["counter", "gauge", "histogram", "untyped"]
    labels: tuple[str, ...] = ()
    help: str
    counted_in: tuple[Place, ...]
    buckets: tuple[float, ...] = ()
    open_telemetry: str | None = None


def _counter(
    name: CounterName, help_: str, *labels: str, by: tuple[Place, ...], open_telemetry: str | None = None
) -> Metric:
    return Metric(name=name, kind="counter", labels=labels, help=help_, counted_in=by, open_telemetry=open_telemetry)


def _gauge(name: GaugeName, help_: str, *labels: str, by: tuple[Place, ...]) -> Metric:
    return Metric(name=name, kind="gauge", labels=labels, help=help_, counted_in=by)


def _of_log(name: GaugeName, help_: str, *labels: str, is_typed: bool = True) -> Metric:
    """What the active monitor finds on the log. `is_typed`: promtool refuses a gauge whose name ends in `_sum`."""
    return Metric(
        name=name, kind="gauge" if is_typed else "untyped", labels=labels, help=help_, counted_in=("monitor",)
    )


def _histogram(
    name: HistogramName,
    help_: str,
    *labels: str,
    by: tuple[Place, ...],
    buckets: tuple[float, ...] = CALL_BUCKETS,
    open_telemetry: str | None = None,
) -> Metric:
    return Metric(
        name=name,
        kind="histogram",
        labels=labels,
        help=help_,
        counted_in=by,
        buckets=buckets,
        open_telemetry=open_telemetry,
    )


_WORKER: Final[tuple[Place, ...]] = ("worker",)
_API: Final[tuple[Place, ...]] = ("api",)
_ALL: Final[tuple[Place, ...]] = ("all",)

TABLE: Final[tuple[Metric, ...]] = (
    # Accepting.
    _counter(
        "pabal_http_requests_total",
        "Requests answered.",
        *("route", "code"),
        by=_API,
        open_telemetry="http.server.request.duration (count)",
    ),
    _histogram(
        "pabal_http_request_duration_seconds",
        "From the head of a request to the end of its answer.",
        "route",
        by=_API,
        open_telemetry="http.server.request.duration",
    ),
    _histogram(
        "pabal_append_duration_seconds",
        "From an append to the log to its acknowledgement.",
        by=_API,
        open_telemetry="messaging.client.operation.duration",
    ),
    _counter(
        "pabal_accepted_total",
        "Deliveries whose record is acknowledged by the log.",
        *("channel", "class"),
        by=_API,
        open_telemetry="messaging.client.sent.messages",
    ),
    # Sending.
    _counter(
        "pabal_attempts_total",
        "Calls of a provider, by what they came to.",
        *("channel", "class", "provider", "outcome"),
        by=_WORKER,
    ),
    _histogram(
        "pabal_attempt_duration_seconds",
        "How long a call of a provider took.",
        *("channel", "provider"),
        by=_WORKER,
        open_telemetry="messaging.process.duration",
    ),
    _counter(
        "pabal_ended_total",
        "Deliveries that ended, by their last status.",
        *("channel", "class", "status"),
        by=_WORKER,
    ),
    _counter("pabal_retries_total", "Attempts after which another is due.", "channel", "class", by=_WORKER),
    _counter("pabal_parks_total", "Waits without a call: the callee is refused.", "channel", "class", by=_WORKER),
    _histogram(
        "pabal_time_to_send_seconds",
        "From acceptance (or `send_at`) to the provider's yes. Redriven deliveries are left out.",
        *("channel", "class"),
        by=_WORKER,
        buckets=WAIT_BUCKETS,
    ),
    _gauge("pabal_in_flight", "Records in flight in the worker.", "channel", "class", by=_WORKER),
    _gauge(
        "pabal_intake_held",
        "1 while the worker takes nothing of the class, by the reason.",
        *("channel", "class", "reason"),
        by=_WORKER,
    ),
    _gauge("pabal_provider_open", "1 while the provider's circuit is open.", "channel", "provider", by=_WORKER),
    _gauge("pabal_hosts_open", "Hosts whose circuit is open.", "channel", "provider", by=_WORKER),
    _gauge("pabal_concurrency_limit", "Calls at once that the guard allows.", "channel", "provider", by=_WORKER),
    _counter(
        "pabal_dead_letters_total",
        "Deliveries that were dead-lettered.",
        *("channel", "error_class"),
        by=_WORKER,
    ),
    # Waiting.
    _gauge(
        "pabal_delay_overdue_seconds",
        "How late the record is that is due first; 0: none is late.",
        "class",
        by=("delayline",),
    ),
    _gauge("pabal_delay_held", "Records that the delay line holds until they are due.", "class", by=("delayline",)),
    # Dead letters, records, shared state.
    _counter(
        "pabal_redriven_total",
        "Redriven deliveries that ended, by how they ended.",
        *("channel", "result"),
        by=_WORKER,
    ),
    _counter(
        "pabal_recorded_total",
        "Records that the recorder has taken in, by the kind of their topic: deliveries, dead or events.",
        "kind",
        by=("recorder",),
        open_telemetry="messaging.client.consumed.messages",
    ),
    _counter(
        "pabal_undecodable_total",
        "Records that the role could not read, and set aside, dead-lettered or passed over.",
        "role",
        by=("worker", "delayline", "recorder", "monitor"),
    ),
    _gauge(
        "pabal_dead_letters_open",
        "Dead-lettered deliveries, neither redriven nor discarded, in the store; counted each minute, none before.",
        "channel",
        by=("recorder",),
    ),
    _gauge(
        "pabal_unaccounted",
        "Deliveries past their expiry of which no record says how they ended.",
        by=("recorder",),
    ),
    # Where the groups stand, under the names of kafka_exporter where it has one: its dashboards work as they are.
    _of_log("kafka_brokers", "Brokers of the cluster; 0 on the embedded log."),
    _of_log("kafka_topic_partitions", "Partitions of the topic.", "topic"),
    _of_log("kafka_topic_partition_current_offset", "The offset that the next record gets.", "topic", "partition"),
    _of_log("kafka_topic_partition_oldest_offset", "The first offset that is still kept.", "topic", "partition"),
    _of_log("kafka_topic_partition_in_sync_replica", "Replicas that are in sync.", "topic", "partition"),
    _of_log(
        "kafka_topic_partition_under_replicated_partition",
        "1 while fewer replicas are in sync than there should be.",
        *("topic", "partition"),
    ),
    _of_log("kafka_consumergroup_members", "Members of the group.", "consumergroup"),
    _of_log("kafka_consumergroup_current_offset", "The committed offset.", "consumergroup", "topic", "partition"),
    _of_log(
        "kafka_consumergroup_current_offset_sum",
        "The committed offsets of the topic, added up.",
        *("consumergroup", "topic"),
        is_typed=False,
    ),
    _of_log(
        "kafka_consumergroup_lag",
        "Records that the group has not read and that are still kept.",
        *("consumergroup", "topic", "partition"),
    ),
    _of_log(
        "kafka_consumergroup_lag_sum",
        "The lags of the topic's partitions, added up.",
        *("consumergroup", "topic"),
        is_typed=False,
    ),
    _of_log(
        "pabal_consumergroup_lag_seconds",
        "Age of the oldest record that the group has not read; 0: none waits.",
        *("consumergroup", "topic"),
    ),
    _of_log(
        "pabal_consumergroup_verdict",
        "1 for the lag verdict on the group, 0 for the others.",
        *("consumergroup", "verdict"),
    ),
    _of_log(
        "pabal_consumergroup_drain_seconds",
        "Until the group has read everything, at the rates of the sample window; +Inf: never at these.",
        "consumergroup",
    ),
    _counter(
        "pabal_consumergroup_lost_records_total",
        "Records that retention deleted before the group had read them.",
        *("consumergroup", "topic"),
        by=("monitor",),
    ),
    _of_log(
        "pabal_topic_retention_headroom_seconds",
        "Until retention deletes the oldest record that a group has not read; +Inf: none waits.",
        "topic",
    ),
    _of_log(
        "pabal_oldest_waiting_seconds",
        "Age of the oldest delivery that no worker has taken; 0: none waits.",
        *("channel", "class"),
    ),
    _of_log("pabal_roles_running", "Processes that report to run the role.", "role"),
    _of_log("pabal_roles_expected", "Processes of the role that should run.", "role"),
    _of_log("pabal_sample_age_seconds", "Age of the sample that these figures are from."),
    _gauge("pabal_ops_offset", "The offset of `pabal.ops` up to which the process obeys.", by=_ALL),
    _gauge("pabal_build_info", "1; the label says which version runs.", "version", by=_ALL),
)

METRICS: Final[Mapping[str, Metric]] = {metric.name: metric for metric in TABLE}

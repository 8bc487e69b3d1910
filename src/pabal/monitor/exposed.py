"""What the active monitor exposes: series that read its last sample. A scrape never samples the log itself."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import get_args

from pabal.broker.port import Replicas
from pabal.clock import Clock
from pabal.groups import ROLE_NAMES, RoleName, worker_group
from pabal.lag import LagVerdict, Sample
from pabal.monitor.monitor import Monitor
from pabal.monitor.windows import GroupView, PartitionView
from pabal.notification import CLASSES
from pabal.telemetry.meter import LabelValues, Meter

Values = Mapping[LabelValues, float]


def expose_monitor(
    monitor: Monitor, meter: Meter, *, clock: Clock, channels: Iterable[str], expected: Mapping[RoleName, int]
) -> None:
    """Let the meter ask the monitor. A monitor that is not the active one says nothing."""
    shown = _Shown(monitor, clock=clock, channels=tuple(channels), expected=expected)
    meter.gauge("kafka_brokers", shown.brokers)
    meter.gauge("kafka_topic_partitions", shown.topic_partitions)
    meter.gauge("kafka_topic_partition_current_offset", lambda: shown.of_topic_partitions(lambda each: each.high))
    meter.gauge("kafka_topic_partition_oldest_offset", lambda: shown.of_topic_partitions(lambda each: each.low))
    meter.gauge("kafka_topic_partition_in_sync_replica", lambda: shown.of_replicas(lambda each: each.in_sync))
    meter.gauge(
        "kafka_topic_partition_under_replicated_partition",
        lambda: shown.of_replicas(lambda each: each.in_sync < each.total),
    )
    meter.gauge("kafka_consumergroup_members", lambda: shown.of_groups(lambda each: each.members))
    meter.gauge("kafka_consumergroup_current_offset", shown.committed)
    meter.gauge("kafka_consumergroup_current_offset_sum", lambda: _sums(shown.committed()))
    meter.gauge("kafka_consumergroup_lag", shown.lags)
    meter.gauge("kafka_consumergroup_lag_sum", lambda: _sums(shown.lags()))
    meter.gauge("pabal_consumergroup_lag_seconds", shown.lag_seconds)
    meter.gauge("pabal_consumergroup_verdict", shown.verdicts)
    meter.gauge("pabal_consumergroup_drain_seconds", shown.drains)
    meter.gauge("pabal_topic_retention_headroom_seconds", shown.headroom)
    meter.gauge("pabal_oldest_waiting_seconds", shown.oldest_waiting)
    meter.gauge("pabal_roles_running", shown.roles_running)
    meter.gauge("pabal_roles_expected", shown.roles_expected)
    meter.gauge("pabal_sample_age_seconds", shown.sample_age)
    meter.gauge("pabal_consumergroup_lost_records_total", shown.losses)
    meter.gauge("pabal_undecodable_total", shown.undecodable)


class _Shown:
    """What the monitor's last sample says, metric by metric."""

    def __init__(
        self, monitor: Monitor, *, clock: Clock, channels: tuple[str, ...], expected: Mapping[RoleName, int]
    ) -> None:
        self._monitor = monitor
        self._clock = clock
        self._channels = channels
        self._expected = expected

    def brokers(self) -> Values:
        """Of the cluster."""
        cluster = self._monitor.cluster
        return {} if cluster is None else {(): cluster.brokers}

    def topic_partitions(self) -> Values:
        """How many each topic has."""
        counts: dict[LabelValues, float] = defaultdict(float)
        for topic, _ in self.of_topic_partitions(lambda each: each.high):
            counts[(topic,)] += 1
        return counts

    def of_topic_partitions(self, figure: Callable[[Sample], float]) -> Values:
        """A figure of each partition, whichever group reads it."""
        sampled = self._monitor.sampled
        if sampled is None:
            return {}
        return {(place.topic, str(place.partition)): figure(each) for place, each in sampled.samples.items()}

    def of_replicas(self, figure: Callable[[Replicas], float]) -> Values:
        """A figure of the replicas of each partition that is watched."""
        cluster = self._monitor.cluster
        if cluster is None:
            return {}
        watched = {topic for topic, _ in self.of_topic_partitions(lambda each: each.high)}
        return {
            (each.topic, str(each.partition)): figure(replicas)
            for each, replicas in cluster.replicas.items()
            if each.topic in watched
        }

    def of_groups(self, figure: Callable[[GroupView], float]) -> Values:
        """A figure of each group."""
        return {(each.group,): figure(each) for each in self._monitor.groups}

    def committed(self) -> Values:
        """By group, topic and partition; a partition of which nothing is committed has none."""
        return {
            (group, each.topic, str(each.partition)): each.committed
            for group, each in self._partitions()
            if each.committed is not None
        }

    def lags(self) -> Values:
        """By group, topic and partition."""
        return {(group, each.topic, str(each.partition)): each.lag for group, each in self._partitions()}

    def lag_seconds(self) -> Values:
        """The most of a topic's partitions. A partition whose oldest record could not be read counts for nothing."""
        return _most(((group, each.topic), each.age_seconds or 0.0) for group, each in self._partitions())

    def verdicts(self) -> Values:
        """1 for what holds."""
        return {
            (each.group, verdict): float(each.verdict == verdict)
            for each in self._monitor.groups
            for verdict in get_args(LagVerdict)
        }

    def drains(self) -> Values:
        """Of the groups whose window says so."""
        return {
            (each.group,): each.drained_in_seconds
            for each in self._monitor.groups
            if each.drained_in_seconds is not None
        }

    def headroom(self) -> Values:
        """The least of a topic's partitions and groups."""
        least = _most(((each.topic,), -each.headroom_seconds) for _, each in self._partitions())
        return {labels: -value for labels, value in least.items()}

    def oldest_waiting(self) -> Values:
        """By channel and class: what waits in the deliveries topics."""
        ages = {each.group: each.age_seconds for each in self._monitor.groups}
        return {
            (channel, class_): ages[group]
            for channel in self._channels
            for class_ in CLASSES
            if (group := worker_group(channel, class_)) in ages
        }

    def roles_running(self) -> Values:
        """How many processes report to run each role."""
        if (watching := self._monitor.watching) is None:
            return {}
        now = self._clock.boot_seconds()
        running = [each for each in watching.fleet.processes() if each.is_running(now)]
        return {(role,): sum(role in each.status.roles for each in running) for role in ROLE_NAMES}

    def roles_expected(self) -> Values:
        """How many processes should run each role."""
        if (watching := self._monitor.watching) is None:
            return {}
        expected = watching.fleet.expected(self._expected)
        return {(role,): expected[role] for role in ROLE_NAMES}

    def sample_age(self) -> Values:
        """Seconds."""
        sampled = self._monitor.sampled
        return {} if sampled is None else {(): max(self._clock.boot_seconds() - sampled.at, 0.0)}

    def losses(self) -> Values:
        """By group and topic; 0 where nothing was lost, so that an increase can be told."""
        if (watching := self._monitor.watching) is None:
            return {}
        return {
            (group, each.topic): float(watching.losses.get((group, each.topic), 0))
            for group, each in self._partitions()
        }

    def undecodable(self) -> Values:
        """Statuses that could not be read."""
        watching = self._monitor.watching
        return {} if watching is None else {("monitor",): float(watching.unreadable.count)}

    def _partitions(self) -> Iterator[tuple[str, PartitionView]]:
        return ((group.group, each) for group in self._monitor.groups for each in group.partitions)


def _sums(values: Values) -> Values:
    """Of each group and topic, over the partitions."""
    sums: dict[LabelValues, float] = defaultdict(float)
    for (group, topic, _), value in values.items():
        sums[group, topic] += value
    return sums


def _most(values: Iterable[tuple[LabelValues, float]]) -> dict[LabelValues, float]:
    most: dict[LabelValues, float] = {}
    for labels, value in values:
        most[labels] = max(value, most.get(labels, value))
    return most

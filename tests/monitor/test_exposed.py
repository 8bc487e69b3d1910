"""What a monitor exposes: series of its last sample while it is the active one, and nothing else."""

import math
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from pabal.broker.port import NewRecord, TopicPartition
from pabal.broker.sqlite.broker import SqliteBroker
from pabal.clock import SystemClock
from pabal.groups import ROLE_NAMES, groups_for, worker_group
from pabal.monitor.exposed import expose_monitor
from pabal.monitor.monitor import Monitor
from pabal.notification import CLASSES, STATUS_TOPIC
from pabal.telemetry.meter import LabelValues, Meter
from pabal.telemetry.table import METRICS
from pabal.topics.spec import topics_for
from tests.monitor.test_monitor import CHANNELS, World
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)

GROUP, TOPIC = worker_group("webhook", "bulk"), "pabal.deliveries.webhook.bulk"
NAMES = [name for name, metric in METRICS.items() if "monitor" in metric.counted_in]
WAITING = 3


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A log in which three records wait in the first of two partitions, behind one that was read."""
    broker = await SqliteBroker.open(tmp_path / "log.db", clock=SystemClock())
    for spec in topics_for(CHANNELS, partitions=2, replication=None):
        await broker.admin().create_topic(spec)
    records = [NewRecord(topic=TOPIC, key=b"k", value=b"{}", partition=0) for _ in range(1 + WAITING)]
    await broker.producer().append(records)
    await broker.admin().reset_offsets(GROUP, {TopicPartition(TOPIC, 0): 1})
    yield World(broker)
    await broker.close()


class Exposed:
    """The meter of a monitor's process."""

    def __init__(self, monitor: Monitor, world: World) -> None:
        self._meter = Meter()
        expose_monitor(monitor, self._meter, clock=world.clock, channels=CHANNELS, expected={"recorder": 2})

    def __call__(self, name: str, **of: str) -> Mapping[LabelValues, float]:
        """The series of a metric; `of`: only those with these values of labels."""
        labels = METRICS[name].labels
        series = self._meter.read_gauge(name)  # type: ignore[arg-type]
        wanted = {labels.index(label): value for label, value in of.items()}
        return {each: value for each, value in series.items() if all(each[i] == own for i, own in wanted.items())}

    def nothing(self) -> bool:
        return not any(self(name) for name in NAMES)


async def seen(monitor: Monitor) -> None:
    """The monitor has sampled twice, and has read a status of the worker and a record that is none."""

    def is_so() -> bool:
        watching = monitor.watching
        if watching is None or not watching.fleet.processes() or not watching.unreadable.count:
            return False
        return any(each.drained_in_seconds is not None for each in monitor.groups)

    await eventually(is_so, within_seconds=30)


async def test_the_active_monitor_exposes_where_every_group_stands(world: World) -> None:
    async with world.monitor("one") as monitor:
        exposed = Exposed(monitor, world)
        await world.tell("a worker", counted=1)
        await world.broker.producer().append([NewRecord(topic=STATUS_TOPIC, key=b"k", value=b"{}")])
        await seen(monitor)

        place = {"topic": TOPIC}
        ours = {"consumergroup": GROUP}
        # The embedded log has no broker, and no replica.
        assert exposed("kafka_brokers") == {(): 0}
        assert exposed("kafka_topic_partitions", **place) == {(TOPIC,): 2}
        assert exposed("kafka_topic_partition_current_offset", **place) == {(TOPIC, "0"): 4, (TOPIC, "1"): 0}
        assert exposed("kafka_topic_partition_oldest_offset", **place) == {(TOPIC, "0"): 0, (TOPIC, "1"): 0}
        assert exposed("kafka_consumergroup_current_offset", **ours) == {(GROUP, TOPIC, "0"): 1}
        assert exposed("kafka_consumergroup_current_offset_sum", **ours) == {(GROUP, TOPIC): 1}
        assert exposed("kafka_consumergroup_lag", **ours) == {(GROUP, TOPIC, "0"): WAITING, (GROUP, TOPIC, "1"): 0}
        assert exposed("kafka_consumergroup_lag_sum", **ours) == {(GROUP, TOPIC): WAITING}
        assert exposed("kafka_consumergroup_members", **ours) == {(GROUP,): 0}
        assert exposed("pabal_consumergroup_drain_seconds", **ours) == {(GROUP,): math.inf}
        assert exposed("pabal_consumergroup_lost_records_total", **ours) == {(GROUP, TOPIC): 0}
        assert {group for group, _ in exposed("pabal_consumergroup_verdict")} == set(groups_for(CHANNELS))
        [verdict] = [own for (_, own), value in exposed("pabal_consumergroup_verdict", **ours).items() if value]
        assert verdict == monitor_verdict(monitor)

        assert exposed("pabal_consumergroup_lag_seconds", **ours)[GROUP, TOPIC] > 0
        waiting = exposed("pabal_oldest_waiting_seconds")
        assert {labels for labels, age in waiting.items() if age} == {("webhook", "bulk")}
        assert set(waiting) == {("webhook", class_) for class_ in CLASSES}
        assert 0 < exposed("pabal_topic_retention_headroom_seconds", **place)[(TOPIC,)] < math.inf

        assert exposed("pabal_roles_running") == {(role,): float(role == "worker") for role in ROLE_NAMES}
        expected = {"worker": 1.0, "recorder": 2.0}
        assert exposed("pabal_roles_expected") == {(role,): expected.get(role, 0.0) for role in ROLE_NAMES}
        assert exposed("pabal_undecodable_total") == {("monitor",): 1}
        assert 0 <= exposed("pabal_sample_age_seconds")[()] < 30

    assert exposed.nothing()


def monitor_verdict(monitor: Monitor) -> str:
    [verdict] = [view.verdict for view in monitor.groups if view.group == GROUP]
    return verdict


async def test_a_monitor_that_is_not_the_active_one_exposes_nothing(world: World) -> None:
    async with world.monitor("one") as one, world.monitor("two") as two:
        await eventually(lambda: one.sampled or two.sampled, within_seconds=30)
        active, idle = (one, two) if one.sampled else (two, one)

        assert Exposed(idle, world).nothing()
        assert not Exposed(active, world).nothing()

"""The topics of an installation: which there are, and how each is kept. Pure."""

from collections.abc import Iterable

from pabal.broker.port import TopicSpec
from pabal.notification import (
    AUDIT_TOPIC,
    CLASSES,
    EVENTS_TOPIC,
    HISTORY_TOPIC,
    OPS_TOPIC,
    RUNGS_SECONDS,
    STATUS_TOPIC,
    SUPPRESSIONS_TOPIC,
    UNKNOWN_CHANNEL,
    dead_topic,
    delay_topic,
    deliveries_topic,
)

_DAY = 86400

DELIVERIES_RETENTION_SECONDS = 8 * _DAY
"""Longer than the longest life a delivery may ask for, so that nothing unread is deleted alive."""

AUDIT_RETENTION_SECONDS = 400 * _DAY
"""A year and a margin: who did what is asked about at the next yearly review."""

STATUS_RETENTION_SECONDS = _DAY
"""Long enough to see what a process was doing that fell silent over night."""

HISTORY_RETENTION_SECONDS = 400 * _DAY
"""A year and a margin: this week is compared with the same week a year ago."""


def topics_for(channels: Iterable[str], *, partitions: int, replication: int | None) -> list[TopicSpec]:
    """Every topic that these channels need, with `partitions` for those that share work."""

    def spec(name: str, retention_seconds: int, *, partitions: int = partitions) -> TopicSpec:
        return TopicSpec(name=name, partitions=partitions, retention_seconds=retention_seconds, replication=replication)

    names = list(channels)
    return [
        *(spec(deliveries_topic(name, class_), DELIVERIES_RETENTION_SECONDS) for name in names for class_ in CLASSES),
        *(
            spec(delay_topic(class_, seconds), DELIVERIES_RETENTION_SECONDS, partitions=min(partitions, 2))
            for class_ in CLASSES
            for seconds in RUNGS_SECONDS
        ),
        *(spec(dead_topic(name), 30 * _DAY, partitions=1) for name in (*names, UNKNOWN_CHANNEL)),
        spec(EVENTS_TOPIC, 7 * _DAY),
        spec(AUDIT_TOPIC, AUDIT_RETENTION_SECONDS, partitions=1),
        spec(STATUS_TOPIC, STATUS_RETENTION_SECONDS, partitions=1),
        spec(HISTORY_TOPIC, HISTORY_RETENTION_SECONDS, partitions=1),
        TopicSpec(name=OPS_TOPIC, partitions=1, compacted=True, replication=replication),
        TopicSpec(name=SUPPRESSIONS_TOPIC, partitions=1, compacted=True, replication=replication),
    ]

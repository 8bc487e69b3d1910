"""The roles and the consumer groups of Pabal, by name, and the topics that each group reads. Pure."""

from collections.abc import Collection, Mapping
from typing import Final, Literal, get_args

from pabal.notification import (
    CLASSES,
    EVENTS_TOPIC,
    RUNGS_SECONDS,
    UNKNOWN_CHANNEL,
    dead_topic,
    delay_topic,
    deliveries_topic,
)

RoleName = Literal["api", "worker", "delayline", "recorder", "monitor"]
"""In the order in which a delivery meets them; the monitor last, which looks on."""

ROLE_NAMES: Final[tuple[RoleName, ...]] = get_args(RoleName)

DELAYLINE_GROUP: Final = "pabal.delayline"
RECORDER_GROUP: Final = "pabal.recorder"

MONITOR_GROUP: Final = "pabal.monitor"
"""The monitors. The owner of the only partition of `pabal.status` is the active one."""


def worker_group(channel: str, class_: str) -> str:
    """The group of the workers for one class of one channel."""
    return f"pabal.worker.{channel}.{class_}"


def delay_topics() -> list[str]:
    """What the delay line reads."""
    return [delay_topic(class_, seconds) for class_ in CLASSES for seconds in RUNGS_SECONDS]


def recorded_topics(channels: Collection[str]) -> list[str]:
    """What the recorder reads: the topics that tell what happened on these channels."""
    return [
        *(deliveries_topic(channel, class_) for channel in channels for class_ in CLASSES),
        *(dead_topic(channel) for channel in (*channels, UNKNOWN_CHANNEL)),
        EVENTS_TOPIC,
    ]


def groups_for(channels: Collection[str]) -> Mapping[str, Collection[str]]:
    """Every consumer group of an installation with these channels, and the topics that it reads."""
    workers = {
        worker_group(channel, class_): [deliveries_topic(channel, class_)] for channel in channels for class_ in CLASSES
    }
    return {**workers, DELAYLINE_GROUP: delay_topics(), RECORDER_GROUP: recorded_topics(channels)}

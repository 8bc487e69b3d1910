"""What a sample of the log is made of. Pure."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from pabal.broker.port import TopicPartition
from pabal.lag import Sample

DELAY_PREFIX: Final = "pabal.delay."
"""Records of these topics wait on purpose."""


class Place(NamedTuple):
    """One partition as one group reads it."""

    group: str
    topic: str
    partition: int

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition alone."""
        return TopicPartition(self.topic, self.partition)


class Owner(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the owner of a partition told of itself. See `pabal.lag.Sample`."""

    is_polling: bool | None = None
    held: str | None = None
    ended: int | None = None
    highest_ended: int | None = None


class Sampled(msgspec.Struct, frozen=True, kw_only=True):
    """One sample of the whole log. `at` is on the boot clock, in seconds."""

    at: float
    samples: Mapping[Place, Sample]
    members: Mapping[str, int]

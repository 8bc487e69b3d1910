"""A range of offsets of one partition of a group: what seeks, passed-over deliveries and facts share. Pure.

Such a record of `pabal.ops` has a key that names the group and the partition, and must speak of no other.
"""

from datetime import datetime

from pabal.broker.port import TopicPartition
from pabal.errors import DecodeError
from pabal.notification import Fact, Offset, PartitionNumber, is_reckoned


class OffsetRange(Fact, frozen=True, kw_only=True, rename={"from_": "from"}):
    """From offset `from_` to `to` of a partition that `group` reads."""

    group: str
    topic: str
    partition: PartitionNumber
    from_: Offset
    to: Offset

    @property
    def topic_partition(self) -> TopicPartition:
        """The partition."""
        return TopicPartition(self.topic, self.partition)


def key_of(prefix: bytes, group: str, partition: TopicPartition) -> bytes:
    """The key in `pabal.ops` of what is said of a partition of a group."""
    return prefix + f"{group}/{partition.topic}/{partition.partition}".encode()


def check_place(said: OffsetRange, *, at: datetime, prefix: bytes, key: bytes | None, what: str) -> None:
    """Raise DecodeError when a record speaks of another partition than its key names, or of a time beyond all
    reckoning. `what` it says, for the error."""
    if not is_reckoned(at) or key_of(prefix, said.group, said.topic_partition) != key:
        raise DecodeError(f"{what} of the partition that its key names", error_class="misplaced")

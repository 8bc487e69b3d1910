"""Topics of the embedded log: made, grown and configured, each in one write transaction."""

from pabal.broker.port import TopicSpec
from pabal.broker.sqlite.groups import retarget_subscribers
from pabal.broker.sqlite.storage import WriteTransaction
from pabal.errors import LogError, UnknownTopic


def create_topic(transaction: WriteTransaction, *, spec: TopicSpec) -> bool:
    """Make a topic; False when it exists."""
    if spec.partitions < 1:
        raise LogError(f"topic {spec.name!r} must have a partition")
    if not transaction.change("INSERT OR IGNORE INTO topics VALUES (?, ?, ?)", *_settings(spec)):
        return False
    _add(transaction, spec.name, range(spec.partitions))
    return True


def add_partitions(transaction: WriteTransaction, *, topic: str, total: int) -> None:
    """Grow a topic; members that read it get their shares of what is new."""
    [(count,)] = transaction.select("SELECT count(*) FROM partitions WHERE topic = ?", topic)
    if count == 0:
        raise UnknownTopic(topic)
    if total < count:
        raise LogError(f"topic {topic!r} has {count} partitions and cannot shrink to {total}")
    _add(transaction, topic, range(count, total))
    retarget_subscribers(transaction, topic)


def configure_topic(transaction: WriteTransaction, *, spec: TopicSpec) -> None:
    """Bring retention and compaction to `spec`."""
    name, *settings = _settings(spec)
    if not transaction.change("UPDATE topics SET retention_seconds = ?, compacted = ? WHERE name = ?", *settings, name):
        raise UnknownTopic(spec.name)


def _settings(spec: TopicSpec) -> tuple[str, int | None, bool]:
    """Name, retention, compaction; a compacted topic has no retention."""
    return spec.name, None if spec.compacted else spec.retention_seconds, spec.compacted


def _add(transaction: WriteTransaction, topic: str, numbers: range) -> None:
    transaction.change_many(
        "INSERT INTO partitions (topic, number) VALUES (?, ?)", [(topic, number) for number in numbers]
    )
    transaction.changes.new_partitions.update(numbers)

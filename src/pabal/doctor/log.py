"""The checks of the log: its topics, the ledger that it belongs to, the time of its newest record."""

from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from pabal.broker.port import Record, TopicPartition, TopicSpec, Watermarks
from pabal.doctor.finding import Finding, fail, ok, warn
from pabal.notification import EVENTS_TOPIC, OPS_TOPIC
from pabal.ops.ledger_identity import Identity, Recorded
from pabal.topics.spec import topics_for

_MOST_NAMED = 3


class LooksAtLog(Protocol):
    """The questions that the checks ask a log: the reading half of `Admin` and of `Reader`. Each raises LogError."""

    async def topics(self) -> Mapping[str, TopicSpec]:
        """See `Admin.topics`."""
        ...

    async def watermarks(self, topic: str) -> Mapping[TopicPartition, Watermarks]:
        """See `Admin.watermarks`."""
        ...

    def read(self, partition: TopicPartition, *, start: int | None = None) -> AsyncIterator[Sequence[Record]]:
        """See `Reader.read`."""
        ...

    async def close(self) -> None:
        """Close what was opened for these questions."""
        ...


def compare_topics(existing: Mapping[str, TopicSpec], *, channels: Collection[str], create: str) -> list[Finding]:
    """Compare the `existing` topics with the topics that Pabal needs. `create`: the command that makes missing ones."""
    wanted = topics_for(channels, partitions=2, replication=None)
    missing = [spec.name for spec in wanted if spec.name not in existing]
    pairs = [(spec, existing[spec.name]) for spec in wanted if spec.name in existing]
    findings = []
    if missing:
        findings.append(fail("topics", f"{len(missing)} of {len(wanted)} are missing: {_some(missing)}; run: {create}"))
    for own, found in pairs:
        if found.compacted != own.compacted:
            right, wrong = ("compact", "delete") if own.compacted else ("delete", "compact")
            findings.append(fail("topics", f"{own.name}: its cleanup.policy is {wrong}, it has to be {right}"))
        elif _keeps_less(found, own):
            findings.append(
                fail(
                    "topics",
                    f"{own.name} keeps its records for {found.retention_seconds} s, it has to be "
                    f"{own.retention_seconds} s at least: what is unread would be deleted",
                )
            )
    findings += _compare_partitions([(own, found) for own, found in pairs])
    return findings or [ok("topics", f"all {len(wanted)} are there")]


def _keeps_less(found: TopicSpec, own: TopicSpec) -> bool:
    return (
        not own.compacted
        and found.retention_seconds is not None
        and found.retention_seconds < (own.retention_seconds or 0)
    )


def _compare_partitions(pairs: Sequence[tuple[TopicSpec, TopicSpec]]) -> list[Finding]:
    findings = []
    single = [found.name for own, found in pairs if own.partitions == 1 and found.partitions != 1]
    if single:
        findings.append(fail("topics", f"{_some(single)} must have one partition, or the order of its records is lost"))
    shared = {found.name: found.partitions for _, found in pairs if found.name.startswith("pabal.deliveries.")}
    if len(set(shared.values())) > 1:
        usual, _ = Counter(shared.values()).most_common(1)[0]
        different = [f"{name} ({count})" for name, count in shared.items() if count != usual]
        findings.append(warn("topics", f"most have {usual} partitions, but {_some(different)}: workers share unevenly"))
    lone = [found.name for _, found in pairs if found.replication == 1]
    if lone:
        text = f"{len(lone)} have one copy: a broker that is lost takes records along (in production: --replication 3)"
        findings.append(warn("topics", text))
    return findings


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


async def recorded_ledger(log: LooksAtLog) -> Recorded:
    """The ledger that the log belongs to. Raises LogError."""
    identity = Identity()
    for partition in await log.watermarks(OPS_TOPIC):
        async for records in log.read(partition):
            identity.take(records)
    return identity.recorded


async def newest_record(log: LooksAtLog) -> datetime | None:
    """When the last event was appended, by the log's clock; None: there is none. Raises LogError."""
    newest = None
    for partition, watermarks in (await log.watermarks(EVENTS_TOPIC)).items():
        if watermarks.high > watermarks.low:
            async for batch in log.read(partition, start=watermarks.high - 1):
                newest = max(newest or 0.0, *(record.timestamp for record in batch))
    return None if newest is None else datetime.fromtimestamp(newest, UTC)

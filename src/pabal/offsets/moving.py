"""What a person decided about an offset, carried out: the fact, the seek, and the committed offset without members."""

from datetime import datetime

import msgspec

from pabal.audit import AuditFact, audit_record, read_audit
from pabal.broker.port import Broker, Reader, TopicPartition
from pabal.errors import DecodeError, LogError, LogUnavailable, UnknownTopic
from pabal.notification import AUDIT_TOPIC
from pabal.offsets.gaps import Gap
from pabal.offsets.seeks import SKIPPED, Seek, Skipped, seek_fact, seek_record


async def skip_gap(broker: Broker, gap: Gap, *, by: str, reason: str, at: datetime) -> str | None:
    """Let a group go on with what a partition keeps. Returns why its members must do it themselves (they hear it and
    do, within seconds), None where its committed offset was set here.

    Raises LogUnavailable: unknown how far it came; it can be repeated.
    """
    seek = Seek(
        group=gap.group,
        topic=gap.topic,
        partition=gap.partition,
        from_=gap.committed or 0,
        to=gap.low,
        at=at,
        by=by,
        reason=reason,
    )
    return await move(broker, seek, seek_fact(seek, count=gap.count, why=gap.why))


async def move(broker: Broker, seek: Seek, fact: AuditFact) -> str | None:
    """See `skip_gap`."""
    producer, admin = broker.producer(), broker.admin()
    try:
        # The fact first: no group goes on of which nobody knows by whom.
        await producer.append([audit_record(fact)])
        await producer.append([seek_record(seek)])
        try:
            await admin.reset_offsets(seek.group, {seek.topic_partition: seek.to})
        except LogUnavailable:
            raise
        except LogError as error:
            return str(error)
    finally:
        await producer.close()
        await admin.close()
    return None


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What a person left unread: the fact, and its detail."""

    fact: AuditFact
    skipped: Skipped


async def read_skips(reader: Reader) -> list[Decided]:
    """What was left unread by a person's word, each range once, oldest first. Raises LogError."""
    decided: dict[tuple[object, ...], Decided] = {}
    try:
        async for batch in reader.read(TopicPartition(AUDIT_TOPIC, 0)):
            for record in batch:
                try:
                    fact = read_audit(record)
                    if fact.action != SKIPPED:
                        continue
                    detail = fact.detail_as(Skipped)
                except DecodeError:
                    continue  # what is no fact of ours is said by whoever reads all of them
                what = (detail.group, detail.topic, detail.partition, detail.from_, detail.to)
                decided.setdefault(what, Decided(fact=fact, skipped=detail))
    except UnknownTopic:
        return []
    return list(decided.values())

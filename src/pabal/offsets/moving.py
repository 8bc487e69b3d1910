"""What a person decided about an offset, carried out: the fact, the seek, and the committed offset without members."""

from datetime import datetime

import msgspec

from pabal.audit import AuditFact, audit_record, read_audit
from pabal.broker.port import Broker, NewRecord, Reader, TopicPartition
from pabal.errors import DecodeError, LogError, LogUnavailable, UnknownTopic
from pabal.notification import AUDIT_TOPIC, OPS_TOPIC
from pabal.offsets.gaps import Gap
from pabal.offsets.passed import PassedOver, decided_record, is_about_passing, read_passed, rewind_of
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
        # The fact first: no group goes on before the log says on whose word.
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


async def rewind(broker: Broker, passed: PassedOver, *, by: str, reason: str, at: datetime) -> str | None:
    """Let a group read after all what it passed over. Returns and raises as `skip_gap`."""
    seek = rewind_of(passed, at=at, by=by, reason=reason)
    why_not = await move(broker, seek, seek_fact(seek, count=passed.count, why="passed over"))
    if why_not is None:
        await _append(broker, decided_record(passed.group, passed.topic_partition))
    return why_not


async def leave(broker: Broker, passed: PassedOver, *, by: str, reason: str, at: datetime) -> None:
    """Leave unread what a group passed over: the fact, and then it is not told of any more. Raises LogUnavailable."""
    seek = Seek(
        group=passed.group,
        topic=passed.topic,
        partition=passed.partition,
        from_=passed.from_,
        to=passed.to,
        at=at,
        by=by,
        reason=reason,
    )
    await _append(broker, audit_record(seek_fact(seek, count=passed.count, why="passed over")))
    await _append(broker, decided_record(passed.group, passed.topic_partition))


async def read_passed_over(reader: Reader) -> list[PassedOver]:
    """What groups passed over and no person has decided about. Raises LogError."""
    found: dict[bytes, PassedOver] = {}
    async for batch in reader.read(TopicPartition(OPS_TOPIC, 0)):
        for record in batch:
            if record.key is None or not is_about_passing(record):
                continue
            try:
                passed = read_passed(record)
            except DecodeError:
                continue  # its reader, a worker, says so
            found.pop(record.key, None)
            if passed is not None:
                found[record.key] = passed
    return list(found.values())


async def _append(broker: Broker, record: NewRecord) -> None:
    producer = broker.producer()
    try:
        await producer.append([record])
    finally:
        await producer.close()


class Skip(msgspec.Struct, frozen=True, kw_only=True):
    """What a person left unread: the fact, and its detail."""

    fact: AuditFact
    skipped: Skipped


async def read_skips(reader: Reader) -> list[Skip]:
    """What was left unread by a person's word, each range once, oldest first. Raises LogError."""
    decided: dict[tuple[object, ...], Skip] = {}
    try:
        async for batch in reader.read(TopicPartition(AUDIT_TOPIC, 0)):
            for record in batch:
                try:
                    fact = read_audit(record)
                    if fact.action != SKIPPED:
                        continue
                    detail = fact.detail_as(Skipped)
                except DecodeError:
                    continue  # the readers of all facts say what is no fact of ours
                what = (detail.group, detail.topic, detail.partition, detail.from_, detail.to)
                decided.setdefault(what, Skip(fact=fact, skipped=detail))
    except UnknownTopic:
        return []
    return list(decided.values())

"""A person's word that a group goes on with another offset: what stands in `pabal.ops`, and in `pabal.audit`. Pure.

A seek stays under its key until the next one of that partition. It is heard only where it fits (`is_meant_for`), so an
old seek does no harm.
"""

from typing import Final, Literal

import msgspec

from pabal.audit import AuditFact, audit_id
from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, decoded
from pabal.notification import OPS_TOPIC, Instant, Offset
from pabal.offsets.ranges import OffsetRange, check_place, key_of

SEEK_SCHEMA: Final = b"seek/1"

SKIPPED: Final = "offsets.skipped"
REWOUND: Final = "offsets.rewound"

_KEY_PREFIX: Final = b"seek/"


class Seek(OffsetRange, frozen=True, kw_only=True):
    """A group goes on with offset `to` of a partition instead of `from_`.

    Forward, what lies between is left unread; backward, it is read again. `by` and `reason` are a person's. `rewinds`:
    back to what was passed over, from wherever the member has got to; else it is about a partition that stands still.
    """

    at: Instant
    by: str
    reason: str
    rewinds: bool = False

    def is_meant_for(self, position: int, *, high: int | None) -> bool:
        """Whether a member that stands still at `position` goes on by this; `high` is where the partition ends, None
        where that is not known.

        A member may have read further than was committed when the seek was said, never less.
        """
        if self.rewinds:
            return False
        if self.to > self.from_:
            return self.from_ <= position < self.to
        return position >= self.from_ and (high is None or position > high)


class Skipped(OffsetRange, frozen=True, kw_only=True):
    """The detail of both actions in `pabal.audit`: the offsets, and how many records were left unread (or will be read
    again) at the most, counted in offsets."""

    count: Offset
    why: Literal["deleted", "above the end", "never read", "passed over"]


_decode = msgspec.json.Decoder(Seek).decode


def seek_record(seek: Seek) -> NewRecord:
    """The record that says it."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=key_of(_KEY_PREFIX, seek.group, seek.topic_partition),
        value=msgspec.json.encode(seek),
        headers=((SCHEMA_HEADER, SEEK_SCHEMA),),
    )


def read_seek(record: Record) -> Seek | None:
    """What a record of `pabal.ops` says of a seek; None: it speaks of something else. Raises DecodeError."""
    if record.value is None or record.header(SCHEMA_HEADER) != SEEK_SCHEMA:
        return None
    seek = decoded(_decode, record.value, what="a seek")
    check_place(seek, at=seek.at, prefix=_KEY_PREFIX, key=record.key, what="not a seek")
    return seek


def seek_fact(
    seek: Seek, *, count: int, why: Literal["deleted", "above the end", "never read", "passed over"]
) -> AuditFact:
    """Who did it, and what it leaves unread or has read again."""
    action = REWOUND if seek.rewinds else SKIPPED
    subject = f"{seek.group}/{seek.topic}/{seek.partition}"
    detail = Skipped(
        group=seek.group,
        topic=seek.topic,
        partition=seek.partition,
        from_=seek.from_,
        to=seek.to,
        count=count,
        why=why,
    )
    return AuditFact(
        id=audit_id(action=action, subject=subject, occasion=seek.at.isoformat()),
        action=action,
        subject=subject,
        by=seek.by,
        at=seek.at,
        reason=seek.reason,
        detail=msgspec.to_builtins(detail),
    )

"""What each process tells of itself, and what the monitor saw: the records of `pabal.status`. Pure.

Every role of every process appends a *status* every ten seconds, at once when something changes that an operator would
ask about, and a last one when it stops. The active monitor appends its *samples*, so that another one that takes over
goes on with them. Both are kept for a day. They are hints: nothing is decided by them but what is shown and told.
"""

import uuid
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.groups import RoleName
from pabal.notification import STATUS_TOPIC, Fact, Instant, is_reckoned
from pabal.telemetry.meter import Snapshot

STATUS_SCHEMA: Final = b"status/1"
SAMPLE_SCHEMA: Final = b"lag-sample/1"

REPORT_EVERY_SECONDS: Final = 10.0

FRESH_SECONDS: Final = 3 * REPORT_EVERY_SECONDS
"""A process that has told nothing for three periods is silent."""


class PartitionStatus(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition that a process owns: how many of its records ended since it was assigned, and the highest of their
    offsets (None: none ended)."""

    topic: str
    partition: int
    ended: int
    highest_ended: int | None = None


class GroupStatus(Fact, frozen=True, kw_only=True):
    """One membership of a process. `held`: why it takes nothing (None: it takes what comes). `is_polling`: whether it
    asked the log for records within the last seconds."""

    group: str
    is_polling: bool
    held: str | None = None
    partitions: tuple[PartitionStatus, ...] = ()


class RoleStatus(Fact, frozen=True, kw_only=True):
    """One role of one process, as it tells of itself (schema `status/1`).

    `instance` names the process, for as long as it lives. `ops_offset`: up to where it obeys `pabal.ops` (None: it does
    not). `open`: providers whose circuit is open, as `channel/provider`. `figures`: what its meter counted.
    """

    role: RoleName
    instance: str
    version: str
    state: Literal["running", "stopped"]
    at: Instant
    started_at: Instant
    groups: tuple[GroupStatus, ...] = ()
    open: tuple[str, ...] = ()
    ops_offset: int | None = None
    figures: Snapshot = Snapshot()


class SampleRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition of a sample. See `pabal.lag.Sample`."""

    group: str
    topic: str
    partition: int
    low: int
    high: int
    committed: int | None
    owner: str | None = None
    is_polling: bool | None = None
    held: str | None = None
    ended: int | None = None
    highest_ended: int | None = None
    overdue_seconds: float | None = None
    age_seconds: float | None = None


class LagSample(Fact, frozen=True, kw_only=True):
    """One sample of the monitor `instance` (schema `lag-sample/1`).

    `rows` are the partitions that changed since its sample before, or all of them (`is_whole`). `members` are those of
    each group.
    """

    instance: str
    at: Instant
    is_whole: bool
    rows: tuple[SampleRow, ...] = ()
    members: dict[str, int] = {}


_decode_status = msgspec.json.Decoder(RoleStatus).decode
_decode_sample = msgspec.json.Decoder(LagSample).decode
_encode = msgspec.json.Encoder().encode


def new_instance() -> str:
    """A name for a process that was given none."""
    return uuid.uuid4().hex[:12]


def status_record(status: RoleStatus) -> NewRecord:
    """The record that tells it."""
    return NewRecord(
        topic=STATUS_TOPIC,
        key=f"{status.role}/{status.instance}".encode(),
        value=_encode(status),
        headers=((SCHEMA_HEADER, STATUS_SCHEMA),),
    )


def sample_record(sample: LagSample) -> NewRecord:
    """The record that keeps it."""
    return NewRecord(
        topic=STATUS_TOPIC,
        key=b"monitor/sample",
        value=_encode(sample),
        headers=((SCHEMA_HEADER, SAMPLE_SCHEMA),),
    )


def read_status(record: Record) -> RoleStatus | LagSample:
    """What a record of `pabal.status` tells. Raises DecodeError."""
    if record.header(SCHEMA_HEADER) == SAMPLE_SCHEMA:
        found: RoleStatus | LagSample = decoded(_decode_sample, record.value, what="a sample of lags")
        times: Sequence[Instant] = (found.at,)
    else:
        check_schema(record, STATUS_SCHEMA)
        found = decoded(_decode_status, record.value, what="a status")
        times = (found.at, found.started_at)
    if not all(map(is_reckoned, times)):
        raise DecodeError("not a status: a time beyond all reckoning", error_class="undecodable")
    return found

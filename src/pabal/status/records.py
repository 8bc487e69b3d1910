"""The records of `pabal.status`: what a process tells of itself, and what the monitor sampled. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from pabal.broker.port import NewRecord, Record, TopicPartition
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.groups import RoleName
from pabal.notification import STATUS_TOPIC, Counter, Fact, Instant, Offset, PartitionNumber, is_reckoned
from pabal.progress import Progress
from pabal.telemetry.meter import Snapshot

STATUS_SCHEMA: Final = b"status/1"
SAMPLE_SCHEMA: Final = b"lag-sample/1"


class PartitionStatus(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition that a process owns: how many of its records ended since it was assigned, and the highest offset
    among them (None: none ended)."""

    topic: str
    partition: PartitionNumber
    ended: Offset
    highest_ended: Offset | None = None


class GroupStatus(Fact, frozen=True, kw_only=True):
    """One consumer group of a process. `held`: why the process takes nothing from it (None: it takes what comes).
    `is_polling`: whether it asked the log for records within the last seconds."""

    group: str
    is_polling: bool = True
    held: str | None = None
    partitions: tuple[PartitionStatus, ...] = ()


class ProcessStatus(Fact, frozen=True, kw_only=True):
    """One process, as it tells of itself (schema `status/1`).

    `instance` names the process among those that run. `open`: providers whose circuit is open, as `channel/provider`.
    `ops_offset`: the process obeys all records of `pabal.ops` before this offset. `figures`: what its meter counted
    since `started_at`; None: as in its status before.
    """

    instance: str
    roles: tuple[RoleName, ...]
    version: str
    state: Literal["running", "stopped"]
    at: Instant
    started_at: Instant
    groups: tuple[GroupStatus, ...] = ()
    open: tuple[str, ...] = ()
    ops_offset: Offset = 0
    figures: Snapshot | None = None


class SampleRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One partition of a lag sample, as one group stands on it. See `pabal.lag.Sample`."""

    group: str
    topic: str
    partition: PartitionNumber
    low: Offset
    high: Offset
    committed: Offset | None = None
    owner: str | None = None
    is_polling: bool | None = None
    held: str | None = None
    ended: Offset | None = None
    highest_ended: Offset | None = None
    overdue_seconds: float | None = None
    age_seconds: float | None = None


class LagSample(Fact, frozen=True, kw_only=True):
    """One sample of the monitor `instance` (schema `lag-sample/1`).

    `rows`: the partitions that differ from the sample before, or all of them (`is_whole`). `members`: how many each
    group has.
    """

    instance: str
    at: Instant
    is_whole: bool
    rows: tuple[SampleRow, ...] = ()
    members: Mapping[str, Counter] = {}


_decode_status = msgspec.json.Decoder(ProcessStatus).decode
_decode_sample = msgspec.json.Decoder(LagSample).decode
_encode = msgspec.json.Encoder().encode


def group_status(
    group: str,
    progress: Mapping[TopicPartition, Progress],
    *,
    held: str | None = None,
    is_polling: bool = True,
) -> GroupStatus:
    """The status of a group from how far its partitions are done."""
    return GroupStatus(
        group=group,
        is_polling=is_polling,
        held=held,
        partitions=tuple(
            PartitionStatus(*partition, own.ended, own.highest_ended) for partition, own in sorted(progress.items())
        ),
    )


def status_record(status: ProcessStatus) -> NewRecord:
    """The record that tells it."""
    return _record(STATUS_SCHEMA, f"status/{status.instance}", _encode(status))


def sample_record(sample: LagSample) -> NewRecord:
    """The record that keeps it."""
    return _record(SAMPLE_SCHEMA, f"sample/{sample.instance}", _encode(sample))


def _record(schema: bytes, key: str, value: bytes) -> NewRecord:
    return NewRecord(topic=STATUS_TOPIC, key=key.encode(), value=value, headers=((SCHEMA_HEADER, schema),))


def read_status(record: Record) -> ProcessStatus | LagSample:
    """What a record of `pabal.status` tells. Raises DecodeError."""
    if record.header(SCHEMA_HEADER) == SAMPLE_SCHEMA:
        found: ProcessStatus | LagSample = decoded(_decode_sample, record.value, what="a lag sample")
        times: Sequence[Instant] = (found.at,)
    else:
        check_schema(record, STATUS_SCHEMA)
        status = found = decoded(_decode_status, record.value, what="a status")
        times = (status.at, status.started_at)
    if not all(map(is_reckoned, times)):
        raise DecodeError("a time beyond all reckoning", error_class="undecodable")
    return found

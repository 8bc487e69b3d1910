"""Who answers again after an outage: workers say it in `pabal.ops`, the delay line hears it. Pure.

It is a hint. Where it is lost, what was parked comes back when it is due; said twice it changes nothing. The delay line
clears the topic of what is older than the longest park, whoever said it.
"""

from typing import Final

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, decoded
from pabal.errors import DecodeError
from pabal.notification import OPS_TOPIC, Fact, Instant, is_reckoned

RECOVERY_SCHEMA: Final = b"recovery/1"
_KEY_PREFIX: Final = b"recovery/"


class Recovery(Fact, frozen=True, kw_only=True):
    """A callee of a channel (a provider, a host or a tenant of it) answers again (schema `recovery/1`).

    What was parked for it before `at` need not wait any longer. A tombstone takes it back.
    """

    channel: str
    callee: str
    at: Instant


_decode = msgspec.json.Decoder(Recovery).decode


def recovery_key(channel: str, callee: str) -> bytes:
    """The key of its record in `pabal.ops`."""
    return _KEY_PREFIX + f"{channel}/{callee}".encode()


def recovery_record(recovery: Recovery) -> NewRecord:
    """The record that says so."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=recovery_key(recovery.channel, recovery.callee),
        value=msgspec.json.encode(recovery),
        headers=((SCHEMA_HEADER, RECOVERY_SCHEMA),),
    )


def relapse_record(key: bytes) -> NewRecord:
    """The record that takes it back: a tombstone."""
    return NewRecord(topic=OPS_TOPIC, key=key, value=None)


def is_about_recovery(record: Record) -> bool:
    """Whether a record of `pabal.ops` says that a callee answers again, or takes that back."""
    is_ours = record.value is None or record.header(SCHEMA_HEADER) == RECOVERY_SCHEMA
    return is_ours and record.key is not None and record.key.startswith(_KEY_PREFIX)


def read_recovery(record: Record) -> Recovery | None:
    """What such a record says; None: it is taken back. Raises DecodeError."""
    if record.value is None:
        return None
    recovery = decoded(_decode, record.value, what="a recovery")
    if not is_reckoned(recovery.at) or recovery_key(recovery.channel, recovery.callee) != record.key:
        raise DecodeError("not a recovery of the callee that its key names", error_class="misplaced")
    return recovery

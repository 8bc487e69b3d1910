"""Callees that answer again after an outage: workers say it in `pabal.ops`, the delay line hears it. Pure.

A recovery is a hint. Where it is lost, what was parked comes back when it is due; said twice it changes nothing. The
delay line clears the topic of recoveries older than the longest park, because workers come and go.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, decoded
from pabal.errors import DecodeError
from pabal.notification import OPS_TOPIC, Fact, Instant, is_reckoned
from pabal.unreadable import Unreadable

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


class Recoveries:
    """The fold: tells on which callees answer again, and which do not any more.

    The last word on a callee is not enough: a relapse before a recovery begins the return anew, so it is told as well.
    """

    def __init__(self, tell: Callable[[Mapping[bytes, Recovery | None]], None]) -> None:
        """`tell` is given recoveries by the keys of their records, None for a relapse. Of one key it is told the words
        that matter, in order."""
        self.prefix = _KEY_PREFIX
        self.unreadable = Unreadable("recoveries")
        self._tell = tell
        self._standing: dict[bytes, datetime] = {}

    def take(self, records: Sequence[Record]) -> None:
        """See `Fold.take`."""
        heard: dict[bytes, Recovery | None] = {}
        for record in records:
            if record.key is None or not is_about_recovery(record):
                continue
            try:
                recovery = read_recovery(record)
            except DecodeError as error:
                self.unreadable.note(record, error)
                continue
            if recovery is not None and record.key in heard and heard[record.key] is None:
                self._tell(heard)
                heard = {}
            heard[record.key] = recovery
            self._remember(record.key, recovery)
        if heard:
            self._tell(heard)

    def older_than(self, instant: datetime) -> Sequence[bytes]:
        """The keys of recoveries from before an instant that still stand in the topic."""
        return [key for key, at in self._standing.items() if at < instant]

    def forget(self, keys: Iterable[bytes]) -> None:
        """These have been cleared from the topic."""
        for key in keys:
            self._standing.pop(key, None)

    def _remember(self, key: bytes, recovery: Recovery | None) -> None:
        if recovery is None:
            self._standing.pop(key, None)
        else:
            self._standing[key] = recovery.at


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

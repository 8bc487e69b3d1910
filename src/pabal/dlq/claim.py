"""One redrive at a time per dead topic: who holds it, folded from records of `pabal.ops`. Pure.

The claim is a record under `redrive/<topic>` that its holder renews. The log orders rival claims, so everybody who
reads them in order agrees on who holds: the first, until its lease ends or it lets go (a tombstone). It spares people
confusion; what protects from sending twice is the ledger.
"""

from datetime import datetime
from typing import Final

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.notification import OPS_TOPIC, Fact, Instant
from pabal.unreadable import Unreadable

CLAIM_SCHEMA: Final = b"redrive-claim/1"
LEASE_SECONDS: Final = 15.0
"""How long a claim holds without a word; it is renewed three times as often."""

LONGEST_LEASE_SECONDS: Final = 3600.0
"""No claim is held for longer: one that a stranger wrote must not hold a topic for ever."""

_KEY_PREFIX: Final = b"redrive/"


class TopicClaim(Fact, frozen=True, kw_only=True):
    """Who redrives from a dead topic. `token` is the run's own; it holds for `lease_seconds` after its record."""

    topic: str
    token: str
    plan: str
    by: str
    host: str
    since: Instant
    lease_seconds: float = LEASE_SECONDS


class Claims:
    """The claims on dead topics as the log orders them."""

    def __init__(self) -> None:
        self.unreadable = Unreadable("redrives' claims")
        self._held: dict[str, tuple[TopicClaim, float]] = {}

    def take(self, record: Record) -> None:
        """Take in a record of `pabal.ops`; others than claims change nothing."""
        key = record.key or b""
        if not key.startswith(_KEY_PREFIX):
            return
        topic = key.removeprefix(_KEY_PREFIX).decode(errors="replace")
        if record.value is None:
            self._held.pop(topic, None)
            return
        try:
            claim = _read(record, topic=topic)
        except DecodeError as error:
            self.unreadable.note(record, error)
            return  # It cannot be held against anyone.
        held = self._held.get(topic)
        if held is None or held[0].token == claim.token or record.timestamp - held[1] > held[0].lease_seconds:
            self._held[topic] = (claim, record.timestamp)

    def holder(self, topic: str, *, now: datetime) -> TopicClaim | None:
        """Who holds the topic now; None: nobody, or a lease that ended."""
        return self._held[topic][0] if self.seconds_left(topic, now=now) > 0 else None

    def seconds_left(self, topic: str, *, now: datetime) -> float:
        """How long the present lease still holds, unless it is renewed."""
        held = self._held.get(topic)
        return max(0.0, held[1] + held[0].lease_seconds - now.timestamp()) if held else 0.0

    def holders(self, *, now: datetime) -> list[TopicClaim]:
        """Every live claim."""
        return [claim for topic in self._held if (claim := self.holder(topic, now=now)) is not None]


_decode = msgspec.json.Decoder(TopicClaim).decode


def _read(record: Record, *, topic: str) -> TopicClaim:
    check_schema(record, CLAIM_SCHEMA)
    claim = decoded(_decode, record.value, what="a redrive's claim")
    if claim.topic != topic or not 0 < claim.lease_seconds <= LONGEST_LEASE_SECONDS:
        raise DecodeError(
            "not a redrive's claim: of another topic than its key names, or for longer than any holds",
            error_class="misplaced",
        )
    return claim


def claim_record(claim: TopicClaim) -> NewRecord:
    """The record that claims the topic, or renews the claim."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=_KEY_PREFIX + claim.topic.encode(),
        value=msgspec.json.encode(claim),
        headers=((SCHEMA_HEADER, CLAIM_SCHEMA),),
    )


def release_record(topic: str) -> NewRecord:
    """The record that lets go."""
    return NewRecord(topic=OPS_TOPIC, key=_KEY_PREFIX + topic.encode(), value=None)

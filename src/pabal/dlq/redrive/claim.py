"""One redrive at a time per tenant and dead topic: which run holds them, folded from records of `pabal.ops`. Pure.

The claim is a record under `redrive/<topic>/<tenant>` that its holder renews. A redrive of every tenant's letters has
its claim under `redrive/<topic>`, which excludes all others there. The log orders rival claims, so every reader comes
to the same holder: the first claim holds, until its lease ends or its holder lets go (a tombstone). A claim spares
people confusion; the ledger is what protects from sending twice.
"""

from datetime import datetime
from typing import Final, NamedTuple

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
"""No claim is held for longer: a claim that a stranger wrote must not hold a topic for ever."""

_KEY_PREFIX: Final = b"redrive/"


class TenantLetters(NamedTuple):
    """The letters that a redrive works on: one tenant's in a dead topic, or (`tenant` empty) every tenant's there."""

    topic: str
    tenant: str

    def meets(self, other: "TenantLetters") -> bool:
        """Whether a letter may belong to both."""
        return self.topic == other.topic and (self.tenant == other.tenant or not (self.tenant and other.tenant))

    @property
    def key(self) -> bytes:
        """The key of the claim's record. A topic has no slash in it."""
        return _KEY_PREFIX + "/".join(filter(None, self)).encode()


class TopicClaim(Fact, frozen=True, kw_only=True):
    """Who redrives a tenant's letters (empty: every tenant's) from a dead topic. `token` is the run's own; it holds for
    `lease_seconds` after its record."""

    topic: str
    token: str
    plan: str
    by: str
    host: str
    since: Instant
    lease_seconds: float = LEASE_SECONDS
    tenant: str = ""

    @property
    def letters(self) -> TenantLetters:
        """What it holds."""
        return TenantLetters(self.topic, self.tenant)


class Claims:
    """The claims on dead letters as the log orders them."""

    def __init__(self) -> None:
        self.unreadable = Unreadable("redrives' claims")
        self._held: dict[TenantLetters, tuple[TopicClaim, float]] = {}

    def take(self, record: Record) -> None:
        """Take in a record of `pabal.ops`; a record that is no claim changes nothing."""
        key = record.key or b""
        if not key.startswith(_KEY_PREFIX):
            return
        topic, _, tenant = key.removeprefix(_KEY_PREFIX).decode(errors="replace").partition("/")
        letters = TenantLetters(topic, tenant)
        if record.value is None:
            self._held.pop(letters, None)
            return
        try:
            claim = _read(record, letters=letters)
        except DecodeError as error:
            self.unreadable.note(record, error)
            return  # It keeps no run from its letters.
        if all(
            rival.token == claim.token or record.timestamp - at > rival.lease_seconds
            for held, (rival, at) in self._held.items()
            if held.meets(letters)
        ):
            self._held[letters] = (claim, record.timestamp)

    def holder(self, letters: TenantLetters, *, now: datetime) -> TopicClaim | None:
        """The live claim on any of these letters; None: there is none, or its lease ended."""
        live = self._live(letters, now=now)
        return live[0] if live is not None else None

    def seconds_left(self, letters: TenantLetters, *, now: datetime) -> float:
        """How long the present claim still holds, unless it is renewed."""
        live = self._live(letters, now=now)
        return live[1] if live is not None else 0.0

    def holders(self, *, now: datetime) -> list[TopicClaim]:
        """Every live claim."""
        return [claim for claim, at in self._held.values() if _left(claim, at, now=now) > 0]

    def _live(self, letters: TenantLetters, *, now: datetime) -> tuple[TopicClaim, float] | None:
        # The claim on exactly these letters first: while it lives no other can.
        rivals = sorted((held for held in self._held if held.meets(letters)), key=lambda held: held != letters)
        live = ((claim, _left(claim, at, now=now)) for claim, at in map(self._held.__getitem__, rivals))
        return next((each for each in live if each[1] > 0), None)


def _left(claim: TopicClaim, at: float, *, now: datetime) -> float:
    return max(0.0, at + claim.lease_seconds - now.timestamp())


_decode = msgspec.json.Decoder(TopicClaim).decode


def _read(record: Record, *, letters: TenantLetters) -> TopicClaim:
    check_schema(record, CLAIM_SCHEMA)
    claim = decoded(_decode, record.value, what="a redrive's claim")
    if claim.letters != letters or not 0 < claim.lease_seconds <= LONGEST_LEASE_SECONDS:
        raise DecodeError(
            "not a redrive's claim: of other letters than its key names, or for longer than any holds",
            error_class="misplaced",
        )
    return claim


def claim_record(claim: TopicClaim) -> NewRecord:
    """The record that claims the letters, or renews the claim."""
    return NewRecord(
        topic=OPS_TOPIC,
        key=claim.letters.key,
        value=msgspec.json.encode(claim),
        headers=((SCHEMA_HEADER, CLAIM_SCHEMA),),
    )


def release_record(letters: TenantLetters) -> NewRecord:
    """The record that lets go."""
    return NewRecord(topic=OPS_TOPIC, key=letters.key, value=None)

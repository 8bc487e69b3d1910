"""What a redrive would do, decided before anything is done. Pure.

A plan pins which letters it speaks of: its filters, and the end of each dead topic when it was made. What comes later
is not its business. What has changed by the time it is carried out (a letter expired, was discarded or redriven by
another plan) is judged again, letter by letter, by the same function.
"""

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Annotated, Final, Literal, get_args

import msgspec

from pabal.channels.suppression import suppression_key
from pabal.dlq.letters.letter import UNCERTAIN, Letter
from pabal.dlq.letters.marks import State
from pabal.dlq.letters.selection import Selection
from pabal.notification import Delivery, Fact, Instant

Fate = Literal[
    "redrive",
    "redriven",
    "discarded",
    "resolved",
    "sent",
    "copy",
    "undecodable",
    "no_channel",
    "uncertain",
    "capped",
    "expired",
    "suppressed",
]
"""What becomes of a letter: `redrive`, or why not."""

FATES: Final[tuple[Fate, ...]] = get_args(Fate)

MEANINGS: Final[Mapping[Fate, str]] = {
    "redrive": "would be sent again",
    "redriven": "already redriven",
    "discarded": "already discarded",
    "resolved": "was sent after all, as an earlier redrive found",
    "sent": "already sent: the provider's acceptance, or its receipt, came late",
    "copy": "a copy of another letter (a worker crashed while it was writing)",
    "undecodable": "cannot be decoded: discard it, or plan again with a version that reads it",
    "no_channel": "its channel is switched off here",
    "uncertain": "may have been sent already: --include-uncertain sends it, perhaps twice",
    "capped": "was redriven too often: --max-redrives raises the limit",
    "expired": "too late to be useful: discard it",
    "suppressed": "its address is suppressed",
}

DEFAULT_MAX_REDRIVES: Final = 3


class Rules(Fact, frozen=True, kw_only=True):
    """What a plan's author decided: how often a letter may be redriven, and whether the uncertain are."""

    max_redrives: int = DEFAULT_MAX_REDRIVES
    include_uncertain: bool = False


class Plan(Fact, frozen=True, kw_only=True):
    """A plan, as it stands in its file. `ends`: per `channel/partition`, the offset before which letters are meant.

    `counts` is what its making found, for people: the redrive judges each letter anew.
    """

    id: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$(?!\n)")]
    made_at: Instant
    by: str
    selection: Selection
    rules: Rules
    ends: dict[str, int]
    counts: dict[str, int]
    error_classes: dict[str, int]

    @property
    def redrives(self) -> int:
        """How many letters it would have redriven when it was made."""
        return self.counts.get("redrive", 0)

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to carry out when it was made: no letter to send, none to close as sent."""
        return not (self.counts.get("redrive") or self.counts.get("sent"))


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What a letter is judged against: the time, the channels, which addresses are suppressed, what was sent."""

    now: datetime
    channels: Container[str]
    suppressed: Container[bytes]
    sent: Container[str]
    """Ids of deliveries in hex."""


def judge(letter: Letter, *, state: State, rules: Rules, world: World) -> Fate:
    """What becomes of this letter under the plan's rules. The first reason that speaks against it is the answer."""
    delivery = letter.delivery
    if state != "open":
        return state
    if delivery is None:
        return "undecodable"
    if delivery.id.hex in world.sent:
        return "sent"
    if delivery.channel not in world.channels:
        return "no_channel"
    if delivery.expires_at <= world.now:
        return "expired"
    key = suppression_key(tenant=delivery.tenant, channel=delivery.channel, address=delivery.address)
    if key in world.suppressed:
        return "suppressed"
    if delivery.redrives >= rules.max_redrives:
        return "capped"
    if letter.error_class == UNCERTAIN and not rules.include_uncertain:
        return "uncertain"
    return "redrive"


def redriven_delivery(letter: Letter) -> Delivery:
    """The delivery on its way again: the next attempt, from the foot of the ladder (`architecture.md` §8, numbering).

    Since when its key has been in use goes on, for that is how long the far side knows it; an edit begins a new key.
    """
    delivery = letter.delivery
    assert delivery is not None
    return msgspec.structs.replace(
        delivery,
        attempt=delivery.attempt + 1,
        rung=0,
        parks=0,
        redrives=delivery.redrives + 1,
        first_failed_at=None if letter.is_edited else delivery.first_failed_at or letter.first_failed_at,
    )

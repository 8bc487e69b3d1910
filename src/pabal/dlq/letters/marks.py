"""What has been done to dead letters, folded from the facts in `pabal.audit`. Pure.

A letter is never changed. Whether it is still open, and what an operator corrected in it, follows
from facts that name it.
"""

import logging
from datetime import datetime
from typing import Final, Literal, get_args
from uuid import UUID

import msgspec

from pabal.audit import AuditFact, audit_id
from pabal.dlq.letters.letter import Letter
from pabal.errors import DecodeError
from pabal.notification import Fact
from pabal.unreadable import Unreadable

logger = logging.getLogger(__name__)

State = Literal["open", "redriven", "discarded", "resolved"]
"""`resolved`: found to have been sent after all, when a redrive came to it."""

STATES: Final[tuple[State, ...]] = get_args(State)

REDRIVEN: Final = "dead_letter.redriven"
DISCARDED: Final = "dead_letter.discarded"
RESOLVED: Final = "dead_letter.resolved"
EDITED: Final = "dead_letter.edited"
_STATES: Final[dict[str, State]] = {REDRIVEN: "redriven", DISCARDED: "discarded", RESOLVED: "resolved"}


class Mark(Fact, frozen=True, kw_only=True):
    """The detail of what was done to one letter. `matter` is what the letter is about, so that a copy of it counts
    as done too; `attempt` is the one it was redriven as."""

    matter: str
    delivery_id: UUID | None = None
    attempt: int | None = None
    plan: str | None = None


class Edit(Fact, frozen=True, kw_only=True):
    """The detail of a correction: the new edit number, and what is new. An order key that came from the address
    follows it."""

    matter: str
    edit: int
    address: str | None = None
    order_key: str | None = None
    provider: str | None = None


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a letter stands, and which fact says so (None: nothing was done to it)."""

    state: State = "open"
    fact: AuditFact | None = None
    plan: str | None = None


class Marks:
    """The facts about letters, in the order of the log, each once; the first word on a letter's state holds.

    `unreadable` counts facts that cannot be read: they say nothing about letters.
    """

    def __init__(self) -> None:
        self.unreadable = Unreadable("facts about dead letters")
        self._edits_taken: set[UUID] = set()
        self._standings: dict[str, Standing] = {}
        self._edits: dict[str, Edit] = {}

    def take(self, fact: AuditFact) -> None:
        """Take a fact in; a fact about something else changes nothing."""
        try:
            if (state := _STATES.get(fact.action)) is not None:
                mark = fact.detail_as(Mark)
                standing = Standing(state=state, fact=fact, plan=mark.plan)
                # By its place too: bytes that were unreadable when they were discarded may become readable.
                for name in {mark.matter, fact.subject}:
                    self._standings.setdefault(name, standing)
            elif fact.action == EDITED and fact.id not in self._edits_taken:
                edit = fact.detail_as(Edit)
                self._edits_taken.add(fact.id)
                self._edits[edit.matter] = merge_edits(self._edits.get(edit.matter), edit)
        except DecodeError as error:
            logger.warning("a fact in the audit log is left out: %s", error)

    def standing(self, letter: Letter) -> Standing:
        """Where this letter stands."""
        return self._standings.get(letter.matter) or self._standings.get(str(letter.id)) or Standing()

    def corrected(self, letter: Letter) -> Letter:
        """The letter with what an operator corrected in it."""
        edit = self._edits.get(letter.matter)
        if edit is None or letter.delivery is None:
            return letter
        delivery = msgspec.structs.replace(
            letter.delivery,
            edit=edit.edit,
            address=edit.address or letter.delivery.address,
            order_key=edit.order_key or letter.delivery.order_key,
            provider=edit.provider or letter.delivery.provider,
        )
        return msgspec.structs.replace(letter, delivery=delivery, is_edited=True)


def merge_edits(earlier: Edit | None, later: Edit) -> Edit:
    """Both corrections; where both speak of one thing the later one holds."""
    if earlier is None:
        return later
    return msgspec.structs.replace(
        later,
        address=later.address or earlier.address,
        order_key=later.order_key or earlier.order_key,
        provider=later.provider or earlier.provider,
    )


def marking_fact(
    letter: Letter, *, action: str, by: str, at: datetime, reason: str, detail: Mark | Edit, occasion: str
) -> AuditFact:
    """The fact that something was done to a letter."""
    return AuditFact(
        id=audit_id(action=action, subject=str(letter.id), occasion=occasion),
        action=action,
        subject=str(letter.id),
        by=by,
        at=at,
        reason=reason,
        detail=msgspec.to_builtins(detail),
    )

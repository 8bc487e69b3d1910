"""Dead letters as they are shown: what `--json` prints and the API answers. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from pabal.dlq.letters.letter import hex_dump
from pabal.dlq.letters.marks import State
from pabal.dlq.letters.reading import Filed
from pabal.notification import Delivery, Fact
from pabal.store.port import TimelineEntry


class LetterView(Fact, frozen=True, kw_only=True, rename={"class_": "class"}):
    """One letter in a list. What nobody can tell of unreadable bytes is absent.

    `state_by`, `state_at`, `state_reason` and `plan` say who closed it, when, why and by which plan.
    """

    letter: str
    state: State
    at: datetime
    error_class: str
    message: str
    provider: str = ""
    tenant: str = ""
    class_: str = ""
    address: str = ""
    delivery_id: UUID | None = None
    attempt: int | None = None
    redrives: int = 0
    edit: int = 0
    undecodable: str | None = None
    state_by: str | None = None
    state_at: datetime | None = None
    state_reason: str | None = None
    plan: str | None = None


class LetterPage(msgspec.Struct, frozen=True, kw_only=True):
    """The newest letters of a selection, newest first, and how many there are in all."""

    letters: Sequence[LetterView]
    total: int


class LetterDetail(Fact, frozen=True, kw_only=True):
    """One letter, whole. `value_hex` is given when the bytes cannot be read."""

    summary: LetterView
    topic: str
    origin: str
    first_failed_at: datetime
    headers: Mapping[str, str]
    delivery: Delivery | None = None
    value_hex: str | None = None
    history: Sequence[TimelineEntry] = ()


def view_letter(filed: Filed) -> LetterView:
    """The letter in a list."""
    letter, delivery, fact = filed.letter, filed.letter.delivery, filed.standing.fact
    return LetterView(
        letter=str(letter.id),
        state=filed.standing.state,
        at=letter.at,
        error_class=letter.error_class,
        message=letter.message,
        provider=letter.provider,
        tenant=letter.tenant,
        class_=letter.class_,
        address=delivery.address if delivery else "",
        delivery_id=delivery.id if delivery else None,
        attempt=delivery.attempt if delivery else None,
        redrives=delivery.redrives if delivery else 0,
        edit=delivery.edit if delivery else 0,
        undecodable=letter.undecodable,
        state_by=fact.by if fact else None,
        state_at=fact.at if fact else None,
        state_reason=fact.reason if fact else None,
        plan=filed.standing.plan,
    )


def view_letter_detail(filed: Filed, *, history: Sequence[TimelineEntry]) -> LetterDetail:
    """The letter, whole."""
    letter = filed.letter
    return LetterDetail(
        summary=view_letter(filed),
        topic=letter.record.topic,
        origin=letter.origin,
        first_failed_at=letter.first_failed_at,
        headers={name: value.decode(errors="backslashreplace") for name, value in letter.record.headers},
        delivery=letter.delivery,
        value_hex=None if letter.delivery else hex_dump(letter.record.value or b""),
        history=tuple(history),
    )

"""Who did what, why, and how it ended: the immutable facts of `pabal.audit` (schema `audit/1`). Pure.

Each thing that a person does to an installation is a fact here, and so is what was done for that person until it ended.
Facts are never changed; a later fact about the same subject says more.
"""

import json
import uuid
from typing import Any, Final, TypeVar

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import SCHEMA_HEADER, check_schema, decoded
from pabal.errors import DecodeError
from pabal.notification import AUDIT_TOPIC, Fact, Instant, is_reckoned

AUDIT_SCHEMA: Final = b"audit/1"

_NAMESPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "https://pabal.dev/audit/1")

_encode = msgspec.json.Encoder().encode

T = TypeVar("T")


class AuditFact(Fact, frozen=True, kw_only=True):
    """One fact. `action` is a dotted word (`dead_letter.discarded`), `subject` what it was done to, `by` a person or
    key, `reason` their words. `ended` says how it ended, where it has an end; `detail` what that action's readers need.

    `id` is derived (`audit_id`), so that appending a fact twice is harmless.
    """

    id: uuid.UUID
    action: str
    subject: str
    by: str
    at: Instant
    reason: str | None = None
    ended: str | None = None
    detail: dict[str, Any] = msgspec.field(default_factory=dict)

    def detail_as(self, kind: type[T]) -> T:
        """The detail as a typed value. Raises DecodeError when it is not one."""
        return decoded(lambda _: msgspec.convert(self.detail, kind), None, what=f"{self.action} of {self.subject}")


_decode = msgspec.json.Decoder(AuditFact).decode


def audit_id(*, action: str, subject: str, occasion: str) -> uuid.UUID:
    """The id of a fact. `occasion` tells repeats of the action on the subject apart: an instant, a plan."""
    return uuid.uuid5(_NAMESPACE, json.dumps([action, subject, occasion]))


def audit_record(fact: AuditFact) -> NewRecord:
    """The fact as a record."""
    return NewRecord(
        topic=AUDIT_TOPIC,
        key=fact.subject.encode(),
        value=_encode(fact),
        headers=((SCHEMA_HEADER, AUDIT_SCHEMA), ("x-action", fact.action.encode())),
    )


def read_audit(record: Record) -> AuditFact:
    """The fact in a record of `pabal.audit`. Raises DecodeError."""
    check_schema(record, AUDIT_SCHEMA)
    fact = decoded(_decode, record.value, what="an audit fact")
    if not is_reckoned(fact.at):
        raise DecodeError("not an audit fact: a time beyond all reckoning", error_class="undecodable")
    return fact

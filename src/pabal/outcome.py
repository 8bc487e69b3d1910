"""What a provider answered (`Outcome`) and what we decided (`Verdict`): two closed sets of values."""

from datetime import datetime

import msgspec


class _Value(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, tag=str.lower, tag_field="kind"):
    pass


class Accepted(_Value, frozen=True, kw_only=True):
    """The provider took it. `provider_id` is its name for it, `response` a snippet for the timeline (≤ 2 KiB)."""

    provider_id: str | None = None
    response: str | None = None


class Deferred(_Value, frozen=True, kw_only=True):
    """Known not taken: try later, not before `retry_after_seconds` if the provider named a time.

    `address_only`: this address alone (a URL, a mailbox) is refused for now; the far side serves others.
    """

    reason: str
    retry_after_seconds: float | None = None
    response: str | None = None
    address_only: bool = False


class Rejected(_Value, frozen=True, kw_only=True):
    """Known not taken, and never will be (unknown mailbox, 410 Gone): the recipient's own fault, final."""

    reason: str
    response: str | None = None


class Misconfigured(_Value, frozen=True, kw_only=True):
    """Our fault (credentials, quota, certificate): says nothing about this delivery.

    `tenant_only`: it is the settings of this delivery's tenant that are at fault; the provider serves the others.
    """

    reason: str
    response: str | None = None
    tenant_only: bool = False


class Unknown(_Value, frozen=True, kw_only=True):
    """Bytes may have been handed over and no answer came: it may have been taken."""

    reason: str


Outcome = Accepted | Deferred | Rejected | Misconfigured | Unknown


class Done(_Value, frozen=True, kw_only=True):
    """Sent: nothing is called again."""


class RetryAt(_Value, frozen=True, kw_only=True):
    """Append the next attempt to the delay line. `rung` is the ladder position the next record carries."""

    due: datetime
    rung: int


class Park(_Value, frozen=True, kw_only=True):
    """Wait without a call: attempt and rung stay as they are, the record's `parks` goes up by one.

    `callee`: what would not take it, by the guard's name; the wait may end as soon as the callee answers again.
    """

    due: datetime
    reason: str | None = None
    callee: str | None = None


class DeadLetter(_Value, frozen=True, kw_only=True):
    """A person must look: `error_class` is a stable word (`exhausted`, `uncertain`, `template`, …)."""

    error_class: str
    message: str


class Expired(_Value, frozen=True, kw_only=True):
    """Too late to be useful: final without a send."""


class Suppressed(_Value, frozen=True, kw_only=True):
    """The address must not be written to: final without a send."""


class Cancelled(_Value, frozen=True, kw_only=True):
    """The caller took it back in time: final without a send."""


class Refused(_Value, frozen=True, kw_only=True):
    """The provider rejected it for good: final."""

    reason: str


Verdict = Done | RetryAt | Park | DeadLetter | Expired | Suppressed | Cancelled | Refused

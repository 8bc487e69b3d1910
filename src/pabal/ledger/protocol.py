"""The send protocol: what may be called, as a pure state machine over one ledger row per delivery.

A worker reads a record of attempt *n*, *claims* the attempt here, calls the provider, *finishes* the claim with
the outcome and verdict, appends the verdict's record and event, and lets the claim be *settled*. Every step may be
followed by a crash, a second copy of the record, or a former owner that wakes up late. The laws:

* One claim permits one call, without exception.
* Once an acceptance is known (`Row.accepted`) nothing is claimed again: whatever was decided becomes `Done`.
* A claim whose lease ended is *taken over*: its call counts as unknown, and the next call has the next number. It is
  made at the same provider, because no other provider can recognise it.
* A verdict is decided once. The claim that comes second gets the stored verdict (`Resume`), or nothing to do (`GHOST`).
* Once *cancelled*, nothing is called again; only the call under way may still end as it ends.

A record is named by its *source*, `(attempt, parks)`: each record that a delivery gives rise to has a higher one
than the record it came from, so an older source is always a copy of something dealt with.

The functions take the stored row (None: no row) and return the row to store with the answer; they neither read a
clock nor store anything. The ledger calls them inside one transaction.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

import msgspec

from pabal.outcome import (
    Accepted,
    Cancelled,
    DeadLetter,
    Done,
    Outcome,
    Park,
    RetryAt,
    Unknown,
    Verdict,
)

MAX_TAKEOVERS: Final = 3
"""How often a record's lost call is followed by another. One more lost call (the fourth), and it is dead-lettered: the
record probably causes the crashes."""


class Source(NamedTuple):
    """Which of a delivery's records: ordered, and higher for each record that follows."""

    attempt: int
    parks: int


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger keeps of one delivery.

    `claimed`: a call is permitted to `owner`'s `token` until `lease_until` (seconds on the
    ledger's lease clock);
    `free`: a claim was given back uncalled; `decided`: `verdict` holds, and `settled` once its records are in
    the log. `accepted` is the attempt that the provider is known to have taken (0: none): it never goes back, and
    `outcome` is then that attempt's.
    """

    source: Source
    attempt: int
    state: Literal["claimed", "free", "decided"]
    owner: int
    token: int
    lease_until: float
    provider: str
    verdict: Verdict | None = None
    outcome: Outcome | None = None
    settled: bool = False
    accepted: int = 0
    takeovers: int = 0
    prune_after: float = 0.0
    cancelled: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A worker asks to call. `refusal`: what speaks against any call (it expired, …).

    `may_repeat`: a former call with an unknown end may be followed by another at this provider. `owner` and
    `token` name the claim, which holds for `lease_seconds`; `prune_after` (seconds since the epoch) is how long
    its row must be kept.

    Safe to repeat with the same token while its answer is not known: a permission that was stored is given again.
    A claim whose answer is known is over: the next one needs a new token. `recipient` names the recipient of the
    call (`channels.suppression.suppression_key`), for the gate to look up.
    """

    source: Source
    owner: int
    token: int
    lease_seconds: float
    provider: str
    may_repeat: bool
    refusal: Verdict | None = None
    prune_after: float = 0.0
    recipient: bytes = b""


class Finish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A worker reports what its call came to, and what it would decide."""

    attempt: int
    owner: int
    token: int
    outcome: Outcome
    verdict: Verdict


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Call the provider, once, as `attempt`. `took_over`: the attempt before it, closed as unknown (0: none).

    Attempts from the record's own up to `took_over` all closed that way, each in a takeover; saying so again is
    harmless.
    """

    attempt: int
    took_over: int = 0


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Another claim's lease is alive for `seconds` more: wait in memory and ask again.

    With a `provider` the lease has ended, but the lost call was made there: the next claim must name that provider.
    """

    seconds: float
    provider: str | None = None


class Resume(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Decided, but its records may be missing: append them (again), then settle `owner`'s `token`.

    `provider`: a call of its may have been taken, so what follows must be its as well (None: no such call).
    """

    attempt: int
    verdict: Verdict
    outcome: Outcome | None
    owner: int
    token: int
    provider: str | None = None


class Ghost(msgspec.Struct, frozen=True, gc=False):
    """A copy of something dealt with: nothing to do, its offset counts."""


class Decided(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verdict that holds: append its records. It is the asker's own, or `Done` if an acceptance is known.

    `attempt` is the one the verdict speaks of.
    """

    attempt: int
    verdict: Verdict


class Late(msgspec.Struct, frozen=True, gc=False):
    """The claim was taken over meanwhile: append an event of what happened, never a verdict's record.

    The offset counts: the worker that took over holds a copy of the record, and sees to the verdict.
    """


GHOST: Final = Ghost()
LATE: Final = Late()

ClaimAnswer = Call | Held | Resume | Ghost
FinishAnswer = Decided | Late
CancelAnswer = Literal["cancelled", "in_flight", "too_late"]
"""`cancelled`: nothing is sent any more. `in_flight`: a call may be under way; after it nothing more is sent.
`too_late`: it was sent, or its end was decided already."""


def claim(
    row: Row | None, ask: Claim, *, now_seconds: float, lease_left: Callable[[Row], float]
) -> tuple[Row | None, ClaimAnswer]:
    """Answer a claim.

    `now_seconds` is the lease clock; `lease_left` says for how many seconds a claimed row's lease still holds
    (not above 0: it ended, or its owner is known to be dead).
    """
    if row is None:
        return _start(None, ask, attempt=ask.source.attempt, now_seconds=now_seconds)
    if row.accepted:
        return _already_accepted(row, ask, lease_left=lease_left)
    if ask.source < row.source:
        return row, GHOST
    if row.state == "claimed":
        if (row.owner, row.token) == (ask.owner, ask.token):
            # The answer got lost and nothing was called.
            return _start(row, ask, attempt=row.attempt, now_seconds=now_seconds)
        left = lease_left(row)
        return (row, Held(seconds=left)) if left > 0 else _take_over(row, ask, now_seconds=now_seconds)
    if row.state == "free":
        return _start(row, ask, attempt=max(row.attempt, ask.source.attempt), now_seconds=now_seconds)
    if ask.source > row.source and isinstance(row.verdict, RetryAt | Park | DeadLetter):
        return _start(row, ask, attempt=_next_attempt(row, ask), now_seconds=now_seconds)
    return row, GHOST if row.settled else _resume(row)


def finish(row: Row | None, ask: Finish) -> tuple[Row | None, FinishAnswer]:
    """Take the end of a call: compare-and-set on attempt and token. Safe to repeat.

    An acceptance is taken note of however late it comes; nothing else is.
    """
    if row is None:
        return None, LATE
    accepted_now = isinstance(ask.outcome, Accepted) and not row.accepted
    if (row.attempt, row.owner, row.token) == (ask.attempt, ask.owner, ask.token):
        if row.state == "claimed":
            decided = _decide(row, ask, accepted=ask.attempt if accepted_now else row.accepted)
            return decided, _decided(decided)
        if row.state == "decided":
            return row, _decided(row)
    if row.state == "claimed":
        # A later call is under way: its worker will find the acceptance.
        return _accept(row, ask) if accepted_now else row, LATE
    if accepted_now:
        # Whatever was decided since becomes `Done`, under this claim's name: a `settle` of the former verdict's
        # records must not pass for this one's.
        done = msgspec.structs.replace(
            _accept(row, ask), state="decided", verdict=Done(), owner=ask.owner, token=ask.token, settled=False
        )
        return done, _decided(done)
    # This may repeat a verdict that a late acceptance has replaced. Then each worker appends the event of the new one.
    return row, _decided(row) if row.accepted and row.state == "decided" and not row.settled else LATE


def settle(row: Row | None, *, owner: int, token: int) -> Row | None:
    """Note that the records of this claim's verdict are in the log."""
    if row is not None and (row.owner, row.token, row.state) == (owner, token, "decided"):
        return msgspec.structs.replace(row, settled=True)
    return row


def release(row: Row | None, *, owner: int, token: int) -> Row | None:
    """Give a claim back that was not used for a call."""
    if row is not None and (row.owner, row.token, row.state) == (owner, token, "claimed"):
        return msgspec.structs.replace(row, state="free")
    return row


def cancel(row: Row | None, *, prune_after: float) -> tuple[Row, CancelAnswer]:
    """Take a delivery back, also one whose record no worker has seen yet. Safe to repeat."""
    if row is None:
        unseen = Row(source=Source(0, 0), attempt=0, state="free", owner=0, token=0, lease_until=0.0, provider="")
        return msgspec.structs.replace(unseen, cancelled=True, prune_after=prune_after), "cancelled"
    if row.accepted:
        return row, "too_late"
    if row.state == "claimed":
        return msgspec.structs.replace(row, cancelled=True), "in_flight"
    if row.state == "free" or isinstance(row.verdict, RetryAt | Park | DeadLetter):
        return msgspec.structs.replace(row, cancelled=True), "cancelled"
    return row, "cancelled" if isinstance(row.verdict, Cancelled) else "too_late"


def acknowledge(row: Row | None, *, outcome: Outcome) -> Row | None:
    """The far side reports that it has the delivery, under our key: whatever was decided, nothing is called again.

    A call under way still ends; what ended without a known acceptance (a dead letter `uncertain`, a retry that waits)
    is `Done`. Safe to repeat.
    """
    if row is None or row.accepted or row.attempt == 0:
        return row
    accepted = msgspec.structs.replace(row, accepted=row.attempt, outcome=outcome)
    if row.state == "claimed":
        return accepted
    # The report itself stands in the log and says more than the event would.
    return msgspec.structs.replace(accepted, state="decided", verdict=Done(), settled=True)


def _start(
    row: Row | None, ask: Claim, *, attempt: int, now_seconds: float, takeover: int = 0
) -> tuple[Row, ClaimAnswer]:
    """Claim `attempt`, or store the asker's refusal as the verdict. `takeover` is 1 if this is one, else 0."""
    same_record = row is not None and row.source == ask.source
    claimed = Row(
        source=ask.source,
        attempt=attempt,
        state="claimed",
        owner=ask.owner,
        token=ask.token,
        lease_until=now_seconds + ask.lease_seconds,
        provider=ask.provider,
        takeovers=(row.takeovers if row and same_record else 0) + takeover,
        prune_after=max(ask.prune_after, row.prune_after if row else 0.0),
        cancelled=row.cancelled if row else False,
    )
    refusal = Cancelled() if claimed.cancelled else ask.refusal
    if refusal is None:
        # Within one record only a takeover raises the attempt.
        return claimed, Call(attempt=attempt, took_over=attempt - 1 if attempt > ask.source.attempt else 0)
    refused = msgspec.structs.replace(claimed, state="decided", verdict=refusal)
    return refused, _resume(refused)


def _next_attempt(row: Row, ask: Claim) -> int:
    """The attempt of a record that follows a decided one: never one that may have been called already."""
    uncalled = isinstance(row.verdict, Park) and row.outcome is None
    return max(ask.source.attempt, row.attempt if uncalled else row.attempt + 1)


def _take_over(row: Row, ask: Claim, *, now_seconds: float) -> tuple[Row, ClaimAnswer]:
    """The lease ended without a word: the call counts as unknown; may it be repeated, it is, at once."""
    attempt = max(row.attempt, ask.source.attempt - 1)
    if ask.provider != row.provider:
        return row, Held(seconds=0.0, provider=row.provider)
    if ask.may_repeat and row.takeovers < MAX_TAKEOVERS and not row.cancelled:
        return _start(row, ask, attempt=attempt + 1, now_seconds=now_seconds, takeover=1)
    uncertain = DeadLetter(error_class="uncertain", message="a worker was lost during the call; it may have been sent")
    dead = msgspec.structs.replace(
        row,
        source=ask.source,
        attempt=attempt,
        state="decided",
        owner=ask.owner,
        token=ask.token,
        outcome=Unknown(reason="the worker's lease ended during the call"),
        verdict=Cancelled() if row.cancelled else uncertain,
        settled=False,
    )
    return dead, _resume(dead)


def _already_accepted(row: Row, ask: Claim, *, lease_left: Callable[[Row], float]) -> tuple[Row, ClaimAnswer]:
    if row.state == "decided":
        return row, GHOST if row.settled else _resume(row)
    done = msgspec.structs.replace(row, state="decided", verdict=Done(), settled=False)
    ours = (row.owner, row.token) == (ask.owner, ask.token)
    if row.state == "claimed" and not ours and lease_left(row) > 0:
        # A later call is still under way and will end as Done. This record has nothing to wait for.
        return row, _resume(done)
    return done, _resume(done)


def _decide(row: Row, ask: Finish, *, accepted: int) -> Row:
    taken_back = row.cancelled and isinstance(ask.verdict, RetryAt | Park | DeadLetter)
    return msgspec.structs.replace(
        row,
        state="decided",
        verdict=Done() if accepted else Cancelled() if taken_back else ask.verdict,
        outcome=row.outcome if row.accepted else ask.outcome,
        settled=False,
        accepted=accepted,
    )


def _accept(row: Row, ask: Finish) -> Row:
    """A call that was given up was taken after all."""
    return msgspec.structs.replace(row, accepted=ask.attempt, outcome=ask.outcome)


def _resume(row: Row) -> Resume:
    assert row.verdict is not None
    return Resume(
        attempt=row.accepted or row.attempt,
        verdict=row.verdict,
        outcome=row.outcome,
        owner=row.owner,
        token=row.token,
        provider=row.provider if _may_have_been_taken(row) else None,
    )


def _may_have_been_taken(row: Row) -> bool:
    return not row.accepted and (row.takeovers > 0 or isinstance(row.outcome, Unknown))


def _decided(row: Row) -> Decided:
    assert row.verdict is not None
    return Decided(attempt=row.accepted or row.attempt, verdict=row.verdict)

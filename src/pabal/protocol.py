"""The send protocol: what may be called, as a pure state machine over one ledger row per delivery.

A worker reads a record of attempt *n*, *claims* the attempt here, calls the provider, *finishes* the claim with
the outcome and verdict, appends the verdict's record and event, and lets the claim be *settled*. Every step may be
followed by a crash, a second copy of the record, or a former owner that wakes up late. The laws:

* One claim permits one call, without exception.
* Once an acceptance is known (`Row.accepted`) nothing is claimed again: whatever was decided becomes `Done`.
* A claim whose lease ended is *taken over*: its call counts as unknown, and the next call has the next number.
* A verdict is decided once. Who comes second gets the stored one (`Resume`), or nothing to do (`GHOST`).

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
    DeadLetter,
    Done,
    Outcome,
    Park,
    RetryAt,
    Unknown,
    Verdict,
)

MAX_TAKEOVERS: Final = 3
"""A record whose calls ended in that many crashes probably causes them: it is dead-lettered."""


class Source(NamedTuple):
    """Which of a delivery's records: ordered, and higher for each record that follows."""

    attempt: int
    parks: int


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the ledger keeps of one delivery.

    `claimed`: a call is permitted to `owner`'s `token` until `lease_until` (seconds on the
    ledger's lease clock);
    `free`: a claim was given back uncalled; `decided`: `verdict` holds, and `settled` once its records are in
    the log. `accepted` is the attempt that the provider is known to have taken (0: none): it never goes back.
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


class Claim(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A worker asks to call. `refusal`: what the gate found against any call (it expired, …).

    `may_repeat`: a former call with an unknown end may be followed by another at this provider. `owner` and
    `token` name the claim, which holds for `lease_seconds`; `prune_after` (seconds since the epoch) is how long
    its row must be kept.
    """

    source: Source
    owner: int
    token: int
    lease_seconds: float
    provider: str
    may_repeat: bool
    refusal: Verdict | None = None
    prune_after: float = 0.0


class Finish(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A worker reports what its call came to, and what it would decide."""

    attempt: int
    owner: int
    token: int
    outcome: Outcome
    verdict: Verdict


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Call the provider, once, as `attempt`. `took_over`: the attempt that hereby closed as unknown (0: none)."""

    attempt: int
    took_over: int = 0


class Held(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Another claim's lease is alive for `seconds` more: wait in memory and ask again."""

    seconds: float


class Resume(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Decided, but its records may be missing: append them (again), then settle `owner`'s `token`."""

    attempt: int
    verdict: Verdict
    outcome: Outcome | None
    owner: int
    token: int


class Ghost(msgspec.Struct, frozen=True, gc=False):
    """A copy of something dealt with: nothing to do, its offset counts."""


class Decided(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The verdict that holds: append its records. It is the asker's own, or `Done` if an acceptance is known.

    `attempt` is the one the verdict speaks of.
    """

    attempt: int
    verdict: Verdict


class Late(msgspec.Struct, frozen=True, gc=False):
    """The claim was taken over meanwhile: append an event of what happened, never a verdict's record."""


GHOST: Final = Ghost()
LATE: Final = Late()

ClaimAnswer = Call | Held | Resume | Ghost
FinishAnswer = Decided | Late


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
        return _already_accepted(row)
    if ask.source < row.source:
        return row, GHOST
    if row.state == "claimed":
        left = lease_left(row)
        return (row, Held(seconds=left)) if left > 0 else _take_over(row, ask, now_seconds=now_seconds)
    if row.state == "free":
        return _start(row, ask, attempt=max(row.attempt, ask.source.attempt), now_seconds=now_seconds)
    assert row.verdict is not None
    if ask.source > row.source and isinstance(row.verdict, RetryAt | Park | DeadLetter):
        return _start(row, ask, attempt=ask.source.attempt, now_seconds=now_seconds)
    return row, GHOST if row.settled else _resume(row)


def finish(row: Row | None, ask: Finish) -> tuple[Row | None, FinishAnswer]:
    """Take the end of a call: compare-and-set on attempt and token. Safe to repeat."""
    if row is None:
        return None, LATE
    ours = (row.attempt, row.owner, row.token) == (ask.attempt, ask.owner, ask.token)
    took = isinstance(ask.outcome, Accepted)
    if ours and row.state == "claimed":
        accepted = row.accepted or (ask.attempt if took else 0)
        decided = msgspec.structs.replace(
            row,
            state="decided",
            verdict=Done() if accepted else ask.verdict,
            outcome=ask.outcome,
            settled=False,
            accepted=accepted,
        )
        return decided, _decided(decided)
    if ours and row.state == "decided":
        return row, _decided(row)
    if took and not row.accepted:
        return _accept_late(row, ask), LATE
    return row, LATE


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


def _start(
    row: Row | None, ask: Claim, *, attempt: int, now_seconds: float, took_over: int = 0
) -> tuple[Row, ClaimAnswer]:
    """Claim `attempt`, or store the gate's refusal as the final verdict."""
    same_record = row is not None and row.source == ask.source
    claimed = Row(
        source=ask.source,
        attempt=attempt,
        state="claimed",
        owner=ask.owner,
        token=ask.token,
        lease_until=now_seconds + ask.lease_seconds,
        provider=ask.provider,
        takeovers=(row.takeovers if row and same_record else 0) + (1 if took_over else 0),
        prune_after=max(ask.prune_after, row.prune_after if row else 0.0),
    )
    if ask.refusal is None:
        return claimed, Call(attempt=attempt, took_over=took_over)
    refused = msgspec.structs.replace(claimed, state="decided", verdict=ask.refusal)
    return refused, _resume(refused)


def _take_over(row: Row, ask: Claim, *, now_seconds: float) -> tuple[Row, ClaimAnswer]:
    """The lease ended without a word: the call counts as unknown; may it be repeated, it is, at once."""
    attempt = max(row.attempt, ask.source.attempt - 1)
    if ask.may_repeat and row.takeovers < MAX_TAKEOVERS:
        return _start(row, ask, attempt=attempt + 1, now_seconds=now_seconds, took_over=row.attempt)
    dead = msgspec.structs.replace(
        row,
        source=ask.source,
        attempt=attempt,
        state="decided",
        owner=ask.owner,
        token=ask.token,
        outcome=Unknown(reason="the worker's lease ended during the call"),
        verdict=DeadLetter(error_class="uncertain", message="a worker was lost during the call; it may have been sent"),
        settled=False,
    )
    return dead, _resume(dead)


def _already_accepted(row: Row) -> tuple[Row, ClaimAnswer]:
    if row.state == "decided":
        return row, GHOST if row.settled else _resume(row)
    if row.state == "claimed":
        # A later call is still under way; its end will be Done. This record has nothing to wait for.
        return row, _resume(msgspec.structs.replace(row, verdict=Done()))
    done = msgspec.structs.replace(row, state="decided", verdict=Done(), settled=False)
    return done, _resume(done)


def _accept_late(row: Row, ask: Finish) -> Row:
    """A call that was given up was taken after all: what was decided since becomes `Done`."""
    if row.state == "claimed":
        return msgspec.structs.replace(row, accepted=ask.attempt)
    return msgspec.structs.replace(
        row,
        state="decided",
        verdict=Done(),
        outcome=ask.outcome,
        accepted=ask.attempt,
        owner=ask.owner,
        token=ask.token,
        settled=False,
    )


def _resume(row: Row) -> Resume:
    assert row.verdict is not None
    return Resume(
        attempt=row.accepted or row.attempt,
        verdict=row.verdict,
        outcome=row.outcome,
        owner=row.owner,
        token=row.token,
    )


def _decided(row: Row) -> Decided:
    assert row.verdict is not None
    return Decided(attempt=row.accepted or row.attempt, verdict=row.verdict)

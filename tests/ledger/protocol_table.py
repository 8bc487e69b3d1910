"""A row, a claim and an end of a call, as the tables of the send protocol vary them."""

from typing import Any

import msgspec

from pabal.ledger.protocol import (
    Claim,
    ClaimAnswer,
    Finish,
    Row,
    Source,
    claim,
)
from pabal.outcome import (
    Accepted,
    DeadLetter,
    Deferred,
    Outcome,
    RetryAt,
    Unknown,
    Verdict,
)
from tests.ledger.protocol_facts import DUE

OURS = Claim(
    source=Source(2, 0),
    owner=7,
    token=70,
    lease_seconds=30.0,
    provider="smtp",
    may_repeat=True,
    prune_after=900.0,
)
RETRY = RetryAt(due=DUE, rung=1)
BUSY = Deferred(reason="busy")
TAKEN = Accepted(provider_id="abc")
CRASHED = Unknown(reason="the worker's lease ended during the call")
UNCERTAIN = DeadLetter(error_class="uncertain", message="a worker was lost during the call; it may have been sent")


def theirs(**changes: Any) -> Row:
    """A row in another worker's name."""
    row = Row(
        source=Source(2, 0),
        attempt=2,
        state="claimed",
        owner=1,
        token=10,
        lease_until=100.0,
        provider="smtp",
        prune_after=500.0,
    )
    return msgspec.structs.replace(row, **changes)


def ask(row: Row | None, request: Claim = OURS, *, now_seconds: float = 50.0) -> tuple[Row | None, ClaimAnswer]:
    return claim(row, request, now_seconds=now_seconds, lease_left=lambda row: row.lease_until - now_seconds)


def end(outcome: Outcome = BUSY, verdict: Verdict = RETRY, *, attempt: int = 2, token: int = 10) -> Finish:
    return Finish(attempt=attempt, owner=1, token=token, outcome=outcome, verdict=verdict)

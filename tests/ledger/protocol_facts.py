"""What the model of the send protocol speaks of: records, tasks, workers, and what is counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple, assert_never

from pabal.ledger.protocol import Source
from pabal.outcome import (
    Accepted,
    Cancelled,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Suppressed,
    Unknown,
    Verdict,
)

PARTITIONS = 2
LADDER_LENGTH = 2
LEASE_SECONDS = 60.0
DUE = datetime(2026, 1, 1, tzinfo=UTC)

OutcomeWord = Literal["accepted", "deferred", "rejected", "misconfigured", "unknown"]
Phase = Literal["asking", "permitted", "called", "decided", "appended", "late", "done"]

OUTCOMES: Mapping[OutcomeWord, Outcome] = {
    "accepted": Accepted(),
    "deferred": Deferred(reason="busy"),
    "rejected": Rejected(reason="no such mailbox"),
    "misconfigured": Misconfigured(reason="bad key"),
    "unknown": Unknown(reason="no answer"),
}


class Record(NamedTuple):
    """One copy of a delivery in its partition."""

    delivery: int
    attempt: int
    rung: int
    parks: int


class Event(NamedTuple):
    delivery: int
    attempt: int
    kind: str


class ClaimName(NamedTuple):
    owner: int
    token: int


@dataclass(eq=False)
class Task:
    """What one worker does with one record it polled."""

    record: Record
    partition: int
    offset: int
    epoch: int
    token: int
    phase: Phase = "asking"
    attempt: int = 0
    outcome: Outcome | None = None
    verdict: Verdict | None = None
    record_appended: bool = False
    settles: ClaimName | None = None
    accepted_late: bool = False


@dataclass(eq=False)
class Worker:
    """One incarnation of a worker process. `running` ends with its crash."""

    name: str
    owner: int
    running: bool = True
    positions: dict[int, int] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    waiting_settles: list[tuple[int, ClaimName]] = field(default_factory=list)

    def steppable(self) -> list[Task]:
        """The first unfinished task of each lane, a lane being one delivery in one assignment of its partition."""
        lanes: dict[tuple[int, int], Task] = {}
        for task in self.tasks:
            if task.phase != "done":
                lanes.setdefault((task.record.delivery, task.epoch), task)
        return list(lanes.values())


@dataclass(eq=False)
class Tally:
    """What the properties are stated over."""

    calls_by_claim: Counter[tuple[int, ClaimName]] = field(default_factory=Counter)
    calls_by_attempt: Counter[tuple[int, int]] = field(default_factory=Counter)
    taken: set[int] = field(default_factory=set)
    """Deliveries that the provider took, whether we heard of it or not."""
    known_taken: set[int] = field(default_factory=set)
    """Deliveries whose acceptance the ledger stored."""
    claimed_after_acceptance: int = 0
    verdicts: dict[tuple[int, int, int], set[Verdict]] = field(default_factory=dict)
    """By delivery, attempt and the parks of the record they were made for."""
    decided: Counter[int] = field(default_factory=Counter)
    appended: Counter[int] = field(default_factory=Counter)
    """Records (deliveries and dead letters) that verdicts of a delivery gave rise to."""
    lost_tasks: Counter[int] = field(default_factory=Counter)
    """Tasks that a crash ended or whose partition moved away, before they were through."""
    exposed: Counter[int] = field(default_factory=Counter)
    """Claims that were alive when their worker crashed, or whose lease ended before they were finished."""
    uncertain_by_takeover: Counter[int] = field(default_factory=Counter)
    calls_by_source: Counter[tuple[int, Source]] = field(default_factory=Counter)
    called_after_cancel: int = 0
    """Calls that whoever took the delivery back was not told of."""
    cancelled_except: dict[int, set[ClaimName]] = field(default_factory=dict)
    """Deliveries that were taken back, and the claims whose calls may have been under way at that moment."""
    called_while_suppressed: int = 0
    unheard_acceptances: set[int] = field(default_factory=set)
    """Accepted by a call that was given up, whose worker crashed before it could say so, with no record left to ask."""


def kind_of_outcome(outcome: Outcome) -> str:
    match outcome:
        case Accepted():
            return "sent"
        case Rejected():
            return "rejected"
        case Unknown():
            return "unknown"
        case _:
            return "deferred"


def kind_of_verdict(verdict: Verdict) -> str:
    match verdict:
        case Done():
            return "sent"
        case RetryAt():
            return "deferred"
        case Park():
            return "parked"
        case DeadLetter():
            return "dead_lettered"
        case Refused():
            return "rejected"
        case Expired():
            return "expired"
        case Suppressed():
            return "suppressed"
        case Cancelled():
            return "cancelled"
        case _ as never:
            assert_never(never)

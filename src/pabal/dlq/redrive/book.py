"""How redrives stand, folded from the facts in `pabal.audit`.

An *order* is a redrive that was asked for over HTTP: it stands in the log before its caller is answered, with its whole
plan, and API processes carry it out until a run of it ends for good (completed, aborted, unanswered, failed, cancelled)
or it is cancelled. What `pabal dlq redrive` runs is no order: its caller sees it end, and begins it again or does not.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from pabal.audit import AuditFact, audit_id, read_audit
from pabal.broker.port import Record
from pabal.dlq.letters.marks import REDRIVEN, Mark
from pabal.dlq.redrive.plan import Plan
from pabal.dlq.redrive.run import ENDED, INTERRUPTED, STARTED, Ending, Start
from pabal.dlq.redrive.stepping import Pace
from pabal.dlq.redrive.views import RedriveView
from pabal.errors import DecodeError
from pabal.unreadable import Unreadable

REQUESTED: Final = "redrive.requested"
CANCELLED: Final = "redrive.cancelled"
_SUBJECT: Final = "plan/"

REDRIVE_ACTIONS: Final = frozenset({REQUESTED, STARTED, CANCELLED, ENDED})
"""The actions of the facts about redrives themselves, not about their letters."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A redrive that API processes carry out until it ends. `id` is its fact's."""

    id: UUID
    plan: Plan
    pace: Pace
    by: str
    reason: str


class Entry:
    """One plan's redrives. `order` is what is left to API processes; `cancelled` the order that was taken back."""

    def __init__(self, fact: AuditFact, start: Start) -> None:
        self.fact = fact
        self.start = start
        self.order: Order | None = None
        self.cancelled: UUID | None = None
        self.redriven = 0
        self.runs = 0
        self.latest: Start | None = None
        self.ending: tuple[AuditFact, Ending] | None = None
        self._served: UUID | None = None

    def request(self, order: Order) -> None:
        """It was asked for over HTTP. Asked for again before it has ended, it is the same order."""
        if self.order is None:
            self.order, self.cancelled, self.ending = order, None, None

    def begin(self, start: Start) -> None:
        """A run of it began."""
        self.runs += 1
        self.latest, self.ending = start, None
        self._served = self.order.id if self.order else None

    def cancel(self) -> None:
        """Its order was taken back."""
        if self.order is not None:
            self.cancelled, self.order = self.order.id, None

    def end(self, fact: AuditFact, ending: Ending) -> None:
        """A run of it ended. The end of a run that another run has relieved since changes nothing."""
        if self.latest is None or ending.run != self.latest.run:
            return
        self.ending = (fact, ending)
        # An order that came while a cancelled run was ending is not the order that the run served.
        if ending.ended != INTERRUPTED and self.order is not None and self.order.id == self._served:
            self.order = None

    def state(self, *, is_running: bool) -> str:
        """See `RedriveView`."""
        if self.ending is not None and self.order is None and self.ending[1].ended != INTERRUPTED:
            return self.ending[1].ended
        if is_running:
            return "running"
        if self.order is not None:
            return "waiting"
        if self.cancelled is not None:
            return "cancelled"
        return INTERRUPTED if self.ending is not None else "broken"


class Book:
    """The redrives that are known, by plan. Facts are taken in the order of the log, each once, however often it stands
    there; a fact about something else changes nothing.

    `since`: facts from before are not known here, so that the copy of one is not taken for a new one.
    """

    def __init__(self, *, since: datetime | None = None) -> None:
        self.entries: dict[str, Entry] = {}
        self.unreadable = Unreadable("redrives")
        self._since = since
        self._taken: set[UUID] = set()
        self._redriven: Counter[str] = Counter()

    def read(self, record: Record) -> None:
        """Take in the fact in a record of `pabal.audit`. One that cannot be read (it may be of a later version) is no
        fact about redrives as they are known here."""
        try:
            self.take(read_audit(record))
        except DecodeError as error:
            self.unreadable.note(record, error)

    def take(self, fact: AuditFact) -> None:
        """Take a fact in. Raises DecodeError when its detail has a form that is not known here."""
        if fact.id in self._taken or (self._since is not None and fact.at < self._since):
            return
        self._take(fact)
        self._taken.add(fact.id)

    def _take(self, fact: AuditFact) -> None:
        if fact.action in (REQUESTED, STARTED):
            start = fact.detail_as(Start)
            entry = self.entries.setdefault(start.plan.id, Entry(fact, start))
            if fact.action == STARTED:
                entry.begin(start)
            else:
                entry.request(order_of(fact))
        elif fact.action == REDRIVEN:
            if (plan := fact.detail_as(Mark).plan) is not None:
                self._redriven[plan] += 1
        elif (known := self.entries.get(fact.subject.removeprefix(_SUBJECT))) is not None:
            if fact.action == CANCELLED:
                known.cancel()
            elif fact.action == ENDED:
                known.end(fact, fact.detail_as(Ending))

    def orders(self) -> Iterator[Order]:
        """What is left to API processes."""
        return (entry.order for entry in self.entries.values() if entry.order is not None)

    def view(self, plan: str, *, is_running: bool) -> RedriveView:
        """How this one stands."""
        entry = self.entries[plan]
        return RedriveView(
            plan=plan,
            state=entry.state(is_running=is_running),
            by=entry.fact.by,
            reason=entry.fact.reason or "",
            started_at=entry.fact.at,
            planned=entry.start.plan.redrives,
            redriven=self._redriven[plan],
            runs=entry.runs,
            pace=entry.start.pace,
            selection=entry.start.plan.selection,
            host=entry.latest.host if entry.latest and entry.latest.host else None,
            ended_at=entry.ending[0].at if entry.ending else None,
            ending=entry.ending[1] if entry.ending else None,
        )


def request_fact(plan: Plan, *, pace: Pace, by: str, reason: str, at: datetime, token: str) -> AuditFact:
    """The fact that a redrive is asked for over HTTP. `token` tells requests of one plan apart."""
    asked = _fact(REQUESTED, plan=plan.id, by=by, at=at, token=token)
    return msgspec.structs.replace(asked, reason=reason, detail=msgspec.to_builtins(Start(plan=plan, pace=pace)))


def cancel_fact(plan: str, *, by: str, at: datetime, token: str) -> AuditFact:
    """The fact that such a request is taken back."""
    return _fact(CANCELLED, plan=plan, by=by, at=at, token=token)


def _fact(action: str, *, plan: str, by: str, at: datetime, token: str) -> AuditFact:
    subject = f"{_SUBJECT}{plan}"
    fact = audit_id(action=action, subject=subject, occasion=token)
    return AuditFact(id=fact, action=action, subject=subject, by=by, at=at)


def order_of(fact: AuditFact) -> Order:
    """The order that a `redrive.requested` is. Raises DecodeError."""
    start = fact.detail_as(Start)
    return Order(id=fact.id, plan=start.plan, pace=start.pace, by=fact.by, reason=fact.reason or "")

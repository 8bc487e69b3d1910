"""How redrives stand and stood, told from the facts in `pabal.audit` and the claims in `pabal.ops`."""

import contextlib
from collections import Counter
from datetime import datetime

from pabal.audit import AuditFact, read_audit
from pabal.dlq.claim import Claims
from pabal.dlq.desk import DeadLetters
from pabal.dlq.marks import REDRIVEN, Mark
from pabal.dlq.redrive import ENDED, STARTED, Ending, Start
from pabal.dlq.views import RedriveView
from pabal.errors import DecodeError
from pabal.notification import AUDIT_TOPIC, OPS_TOPIC


async def list_redrives(desk: DeadLetters, *, since: datetime | None, plan: str | None = None) -> list[RedriveView]:
    """The redrives that began since an instant (None: all that is known), the newest first."""
    book = _Book()
    async for record in desk.tail(AUDIT_TOPIC, start=since).read():
        with contextlib.suppress(DecodeError):  # A fact of a later version is none about redrives as we know them.
            book.take(read_audit(record))
    claims = Claims()
    async for record in desk.tail(OPS_TOPIC, start=None).read():
        claims.take(record)
    running = {claim.plan for claim in claims.holders(now=desk.clock.now())}
    views = [book.view(name, is_running=name in running) for name in book.plans if plan in (None, name)]
    return sorted(views, key=lambda view: view.started_at, reverse=True)


class _Book:
    def __init__(self) -> None:
        self.plans: dict[str, tuple[AuditFact, Start]] = {}
        self._runs: Counter[str] = Counter()
        self._redriven: Counter[str] = Counter()
        self._endings: dict[str, tuple[AuditFact, Ending]] = {}

    def take(self, fact: AuditFact) -> None:
        """Take a fact in."""
        if fact.action == STARTED:
            start = fact.detail_as(Start)
            self.plans.setdefault(start.plan.id, (fact, start))
            self._endings.pop(start.plan.id, None)
            self._runs[start.plan.id] += 1
        elif fact.action == ENDED:
            self._endings[fact.subject.removeprefix("plan/")] = (fact, fact.detail_as(Ending))
        elif fact.action == REDRIVEN and (plan := fact.detail_as(Mark).plan) is not None:
            self._redriven[plan] += 1

    def view(self, plan: str, *, is_running: bool) -> RedriveView:
        """How this one stands."""
        fact, start = self.plans[plan]
        ended = self._endings.get(plan)
        return RedriveView(
            plan=plan,
            state=ended[1].ended if ended else "running" if is_running else "broken",
            by=fact.by,
            reason=fact.reason or "",
            started_at=fact.at,
            planned=start.plan.redrives,
            redriven=self._redriven[plan],
            runs=self._runs[plan],
            pace=start.pace,
            selection=start.plan.selection,
            ended_at=ended[0].at if ended else None,
            ending=ended[1] if ended else None,
        )

"""`/v1/redrives`: what `pabal dlq plan|redrive|status` does, over HTTP. Scopes as in `dead_letters.py`."""

from secrets import token_hex
from typing import Annotated

import msgspec

from pabal.api.asgi import Answer
from pabal.api.dead_letters import MAX_BODY_BYTES, Reason, caller_of, told_as_problems, who_is
from pabal.api.endpoint import Call
from pabal.api.keys import Caller, Keyring
from pabal.api.letter_filters import LetterFilters, may_touch
from pabal.api.problems import Refused, refuse_field
from pabal.dlq.hold import check_free
from pabal.dlq.host import REMEMBERED, RedriveHost
from pabal.dlq.plan import Plan, Rules
from pabal.dlq.planning import make_plan
from pabal.dlq.selection import Selection
from pabal.dlq.status import list_redrives
from pabal.dlq.stepping import Pace
from pabal.dlq.views import RedriveView
from pabal.errors import ConfigError


class PlanRequest(LetterFilters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are meant, and what is to be done with those of which it is not plain."""

    max_redrives: Annotated[int, msgspec.Meta(ge=1, le=1000)] = Rules().max_redrives
    include_uncertain: bool = False


class RequestedSelection(Selection, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan's filters."""


class RequestedRules(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan's rules."""


class RequestedPlan(Plan, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as `/v1/redrives/plan` gave it. A filter misspelt is an error: left out it would mean more letters."""

    selection: RequestedSelection
    rules: RequestedRules


class RequestedPace(Pace, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fast, and when to stop. `canary` letters first (0: none); then `per_second`; no further when more than
    `max_return_ratio` of the recent ones came back, or nothing was heard for `patience_seconds`."""


class RedriveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as `/v1/redrives/plan` gave it, and how fast."""

    plan: RequestedPlan
    reason: Reason
    pace: RequestedPace = RequestedPace()


class RedriveList(msgspec.Struct, frozen=True, kw_only=True):
    """The redrives of the last 30 days, the newest first."""

    redrives: tuple[RedriveView, ...]


class BegunRedrive(msgspec.Struct, frozen=True, kw_only=True):
    """It is carried out until it ends, whatever becomes of this process; `Location` tells how it stands."""

    plan: str


class CancelledRedrive(msgspec.Struct, frozen=True, kw_only=True):
    """It stops once what was begun is marked."""

    plan: str
    state: str = "stopping"


class RedriveOperations:
    """The requests. Each looks at the log anew."""

    def __init__(self, *, keyring: Keyring, host: RedriveHost) -> None:
        self._keyring = keyring
        self._host = host
        self._desk = host.desk
        self._plan = msgspec.json.Decoder(PlanRequest)
        self._redrive = msgspec.json.Decoder(RedriveRequest)

    async def plan(self, call: Call) -> Answer:
        """What a redrive would do. Changes nothing."""
        caller = caller_of(call, self._keyring)
        request = await call.json(self._plan, limit=MAX_BODY_BYTES)
        rules = Rules(max_redrives=request.max_redrives, include_uncertain=request.include_uncertain)
        plan_id = f"{self._desk.clock.now():%Y%m%d-%H%M%S}-{token_hex(2)}"
        with told_as_problems():
            selection = request.selection(caller)
            made = await make_plan(self._desk, selection, rules=rules, plan_id=plan_id, by=who_is(caller))
        return Answer(status=200, body=made)

    async def redrives(self, call: Call) -> Answer:
        """GET lists, POST begins."""
        return await (self.redrive(call) if call.method == "POST" else self.list_redrives(call))

    async def redrive(self, call: Call) -> Answer:
        """Begin to carry a plan out; it stands in the log before it is answered."""
        caller = caller_of(call, self._keyring)
        request = await call.json(self._redrive, limit=MAX_BODY_BYTES)
        plan = msgspec.convert(msgspec.to_builtins(request.plan), Plan)
        pace = msgspec.convert(msgspec.to_builtins(request.pace), Pace)
        if not may_touch(caller, plan.selection):
            message = f"must be [{caller.tenant!r}]: this key lacks the scope 'operator'"
            raise refuse_field("invalid_field", path="$.plan.selection.tenants", message=message)
        with told_as_problems(field="$.plan", caller=caller):
            await self._check_ends(plan)
            await check_free(self._desk, plan)
            await self._host.begin(plan, pace=pace, by=who_is(caller), reason=request.reason)
        link = f"/v1/redrives/{plan.id}"
        return Answer(status=202, body=BegunRedrive(plan=plan.id), headers=[(b"location", link.encode())])

    async def list_redrives(self, call: Call) -> Answer:
        """How redrives stand."""
        views = await self._views(caller_of(call, self._keyring), plan=None)
        return Answer(status=200, body=RedriveList(redrives=tuple(views)))

    async def show_redrive(self, call: Call) -> Answer:
        """How one redrive stands."""
        views = await self._views(caller_of(call, self._keyring), plan=call.part("plan"))
        if not views:
            raise Refused("not_found", "no redrive of such a plan has begun")
        return Answer(status=200, body=views[0])

    async def cancel_redrive(self, call: Call) -> Answer:
        """Stop a redrive that was begun over HTTP, whichever API process it runs in."""
        caller, plan = caller_of(call, self._keyring), call.part("plan")
        if not await self._views(caller, plan=plan):
            raise Refused("not_found", "no redrive of such a plan has begun")
        with told_as_problems():
            await self._host.cancel(plan, by=who_is(caller))
        return Answer(status=202, body=CancelledRedrive(plan=plan))

    async def _check_ends(self, plan: Plan) -> None:
        present = await self._desk.ends(plan.selection)
        for place, end in plan.ends.items():
            if not 0 <= end <= present.get(place, -1):
                raise ConfigError(f"it speaks of {place} up to {end}, which is not in this log; make it anew")

    async def _views(self, caller: Caller, *, plan: str | None) -> list[RedriveView]:
        since = self._desk.clock.now() - REMEMBERED
        views = await list_redrives(self._desk, since=since, plan=plan)
        return [view for view in views if may_touch(caller, view.selection)]

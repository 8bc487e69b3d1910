"""`/v1/redrives`: what `pabal dlq plan|redrive|status` does, over HTTP. Scopes as in `dead_letters.py`."""

from collections.abc import Mapping, Sequence
from secrets import token_hex
from typing import Annotated, Any, Final

import msgspec

from pabal.api.asgi import ApiResponse
from pabal.api.bodies import JsonBody
from pabal.api.codes import LOG_CODES
from pabal.api.dead_letters import (
    ABOUT,
    CHANGE_CODES,
    LOOK_CODES,
    MAX_BODY_BYTES,
    Reason,
    told_as_problems,
    who_is,
)
from pabal.api.keys import Caller
from pabal.api.letter_filters import LetterFilters, may_touch
from pabal.api.operation import WORD, Operation, Part, Success
from pabal.api.problems import RequestRefused, refuse_field
from pabal.api.request import ApiRequest
from pabal.dlq.letters.selection import Selection
from pabal.dlq.redrive.hold import check_free
from pabal.dlq.redrive.host import REMEMBERED, RedriveHost
from pabal.dlq.redrive.making import make_plan
from pabal.dlq.redrive.plan import Plan, Rules
from pabal.dlq.redrive.status import list_redrives
from pabal.dlq.redrive.stepping import Pace
from pabal.dlq.redrive.views import RedriveView
from pabal.errors import ConfigError
from pabal.notification import OPS_TOPIC


class PlanRequest(LetterFilters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which dead letters are meant, how often a letter may be redriven, and whether uncertain letters are."""

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
    """How fast, and when to stop. First `canary` letters (0: none), then `per_second`. The redrive stops when more than
    `max_return_ratio` of its recent letters came back, or after `patience_seconds` without an answer."""


class RedriveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as `/v1/redrives/plan` gave it, and how fast."""

    plan: RequestedPlan
    reason: Reason
    pace: RequestedPace = RequestedPace()


class RedriveList(msgspec.Struct, frozen=True, kw_only=True):
    """The redrives of the last 30 days, the newest first."""

    redrives: tuple[RedriveView, ...]


class BegunRedrive(msgspec.Struct, frozen=True, kw_only=True):
    """The redrive is carried out until it ends, whatever becomes of this process. `Location` tells how it stands."""

    plan: str


class CancelledRedrive(msgspec.Struct, frozen=True, kw_only=True):
    """The redrive stops once the letters that it has begun are marked."""

    plan: str
    state: str = "stopping"


_PLAN_PART: Final[Mapping[str, Part]] = {"plan": Part(description="The plan's id.", schema=WORD)}
_PLAN_EXAMPLE: Final = {
    "id": "20260131-140000-0a1b",
    "made_at": "2026-01-31T14:00:00Z",
    "by": "an API key of shop",
    "selection": {"tenants": ["shop"]},
    "rules": {},
    "ends": {"webhook/0": 17},
    "counts": {"redrive": 3},
    "error_classes": {"exhausted": 3},
}


class RedriveRequests:
    """The requests. Each looks at the log anew."""

    def __init__(self, host: RedriveHost) -> None:
        self._host = host
        self._desk = host.dead_letters

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        return (
            Operation(
                method="POST",
                path="/v1/redrives/plan",
                scope="admin",
                respond=self.plan,
                body=JsonBody(PlanRequest, limit=MAX_BODY_BYTES, example={"error_classes": ["exhausted"]}),
                answers={200: Success("The plan.", Plan)},
                codes=CHANGE_CODES,
                name="planRedrive",
                summary="Say what a redrive would do",
                about=f"Say what a redrive would do. {ABOUT}",
            ),
            Operation(
                method="GET",
                path="/v1/redrives",
                scope="admin",
                respond=self.list_redrives,
                answers={200: Success("The redrives.", RedriveList)},
                codes=LOOK_CODES,
                name="listRedrives",
                summary="List redrives",
                about=f"List redrives. {ABOUT}",
            ),
            Operation(
                method="POST",
                path="/v1/redrives",
                scope="admin",
                respond=self.redrive,
                body=JsonBody(
                    RedriveRequest,
                    limit=MAX_BODY_BYTES,
                    example={"plan": _PLAN_EXAMPLE, "reason": "the endpoint is mended"},
                ),
                answers={202: Success("It stands in the log.", BegunRedrive)},
                codes=("redrive_held", *LOG_CODES),
                name="beginRedrive",
                summary="Carry a plan out",
                about="Carry a plan out: a canary, then at a rate, until it ends or is cancelled, whatever becomes of "
                f"this process. Begun again after that, the same plan goes on from where it stopped. {ABOUT}",
            ),
            *self._operations_on_one(),
        )

    def _operations_on_one(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                method="GET",
                path="/v1/redrives/{plan}",
                scope="admin",
                respond=self.show_redrive,
                parts=_PLAN_PART,
                answers={200: Success("The redrive as it stands.", RedriveView)},
                codes=(*LOOK_CODES, "not_found"),
                name="getRedrive",
                summary="How a redrive stands",
                about=f"How a redrive stands. {ABOUT}",
            ),
            Operation(
                method="POST",
                path="/v1/redrives/{plan}/cancel",
                scope="admin",
                respond=self.cancel_redrive,
                parts=_PLAN_PART,
                answers={202: Success("The order to stop stands in the log.", CancelledRedrive)},
                codes=(*LOOK_CODES, "not_found", "letter_refused"),
                name="cancelRedrive",
                summary="Stop a redrive",
                about=f"Stop a redrive. {ABOUT}",
            ),
        )

    async def plan(self, request: ApiRequest[None, PlanRequest]) -> ApiResponse:
        """What a redrive would do. Changes nothing."""
        caller, asked = request.caller, await request.body()
        rules = Rules(max_redrives=asked.max_redrives, include_uncertain=asked.include_uncertain)
        plan_id = f"{self._desk.clock.now():%Y%m%d-%H%M%S}-{token_hex(2)}"
        with told_as_problems():
            selection = asked.selection(caller)
            made = await make_plan(
                self._desk.letters,
                selection,
                tails=self._desk.tails,
                clock=self._desk.clock,
                rules=rules,
                plan_id=plan_id,
                by=who_is(caller),
            )
        return ApiResponse(status=200, body=made)

    async def redrive(self, request: ApiRequest[None, RedriveRequest]) -> ApiResponse:
        """Begin to carry a plan out; it stands in the log before it is answered."""
        caller, asked = request.caller, await request.body()
        plan = msgspec.convert(msgspec.to_builtins(asked.plan), Plan)
        pace = msgspec.convert(msgspec.to_builtins(asked.pace), Pace)
        if not may_touch(caller, plan.selection):
            message = f"must be [{caller.tenant!r}]: this key lacks the scope 'operator'"
            raise refuse_field("invalid_field", path="$.plan.selection.tenants", message=message)
        with told_as_problems(field="$.plan", caller=caller):
            await self._check_ends(plan)
            await check_free(plan, ops=self._desk.tails.of(OPS_TOPIC), now=self._desk.clock.now())
            await self._host.begin(plan, pace=pace, by=who_is(caller), reason=asked.reason)
        link = f"/v1/redrives/{plan.id}"
        return ApiResponse(status=202, body=BegunRedrive(plan=plan.id), headers=[(b"location", link.encode())])

    async def list_redrives(self, request: ApiRequest[None, None]) -> ApiResponse:
        """How redrives stand."""
        views = await self._views(request.caller, plan=None)
        return ApiResponse(status=200, body=RedriveList(redrives=tuple(views)))

    async def show_redrive(self, request: ApiRequest[None, None]) -> ApiResponse:
        """How one redrive stands."""
        views = await self._views(request.caller, plan=request.part("plan"))
        if not views:
            raise RequestRefused("not_found", "no redrive of such a plan has begun")
        return ApiResponse(status=200, body=views[0])

    async def cancel_redrive(self, request: ApiRequest[None, None]) -> ApiResponse:
        """Stop a redrive that was begun over HTTP, whichever API process it runs in."""
        caller, plan = request.caller, request.part("plan")
        if not await self._views(caller, plan=plan):
            raise RequestRefused("not_found", "no redrive of such a plan has begun")
        with told_as_problems():
            await self._host.cancel(plan, by=who_is(caller))
        return ApiResponse(status=202, body=CancelledRedrive(plan=plan))

    async def _check_ends(self, plan: Plan) -> None:
        present = await self._desk.letters.ends(plan.selection)
        for place, end in plan.ends.items():
            if not 0 <= end <= present.get(place, -1):
                raise ConfigError(f"it speaks of {place} up to {end}, which is not in this log; make it anew")

    async def _views(self, caller: Caller, *, plan: str | None) -> list[RedriveView]:
        since = self._desk.clock.now() - REMEMBERED
        views = await list_redrives(self._desk.tails, clock=self._desk.clock, since=since, plan=plan)
        return [view for view in views if may_touch(caller, view.selection)]

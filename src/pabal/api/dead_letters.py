"""`/v1/dead-letters` and `/v1/redrives`: what `pabal dlq` does, over HTTP, for the letters of the key's own tenant.

All of it needs the scope `admin`. Bytes that cannot be read belong to no tenant and are seen with `pabal dlq` alone.
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from secrets import token_hex
from typing import Annotated, Final
from uuid import UUID

import msgspec

from pabal.api.asgi import Answer
from pabal.api.endpoint import Call, refuse_parameter
from pabal.api.keys import Keyring
from pabal.api.problems import Refused, refuse_field
from pabal.dlq.desk import DeadLetters, Filed
from pabal.dlq.hold import check_free
from pabal.dlq.host import RedriveHost
from pabal.dlq.letter import parse_letter_id
from pabal.dlq.marks import State
from pabal.dlq.plan import Plan, Rules
from pabal.dlq.planning import make_plan
from pabal.dlq.selection import DIMENSIONS, Dimension, Group, Selection, count_by
from pabal.dlq.status import list_redrives
from pabal.dlq.stepping import Pace
from pabal.dlq.views import LetterDetail, LetterPage, RedriveView, view_letter, view_letter_detail
from pabal.errors import ConfigError, InvalidAddress, LetterRefused, NoSuchLetter, RedriveHeld
from pabal.notification import Instant, NotificationClass

MAX_BODY_BYTES: Final = 64 * 1024
_REMEMBERED: Final = timedelta(days=30)

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description="Why, for the audit log.")]
Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=100)]


class LettersQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"class_": "class"}):
    """Filters of a list; what is left out does not matter."""

    channel: str | None = None
    error_class: str | None = None
    provider: str | None = None
    class_: NotificationClass | None = None
    delivery: UUID | None = None
    since: Annotated[Instant | None, msgspec.Meta(description="Given up at or after.")] = None
    until: Annotated[Instant | None, msgspec.Meta(description="Given up before.")] = None
    state: State = "open"
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The newest so many.")] = 100


class CountsQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to count by: names with commas between them."""

    by: Annotated[str, msgspec.Meta(max_length=200)] = "channel,error_class"
    state: State = "open"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Letters that are alike, the most frequent first."""

    groups: tuple[Group, ...]


class EditRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to send instead: another address, another provider, or both."""

    reason: Reason
    address: Annotated[str, msgspec.Meta(min_length=1, max_length=2048)] | None = None
    provider: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None


class DiscardRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a letter is closed unsent."""

    reason: Reason


class PlanRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters are meant: one must fit every filter given, and any value of it."""

    channels: Names = ()
    error_classes: Names = ()
    providers: Names = ()
    classes: tuple[NotificationClass, ...] = ()
    letters: Names = ()
    since: Instant | None = None
    until: Instant | None = None
    max_redrives: Annotated[int, msgspec.Meta(ge=1, le=1000)] = Rules().max_redrives
    include_uncertain: bool = False


class RedriveRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A plan as `/v1/redrives/plan` gave it, and how fast."""

    plan: Plan
    reason: Reason
    pace: Pace = Pace()


class RedriveList(msgspec.Struct, frozen=True, kw_only=True):
    """The redrives of the last 30 days, the newest first."""

    redrives: tuple[RedriveView, ...]


class BegunRedrive(msgspec.Struct, frozen=True, kw_only=True):
    """It runs in this process from now on; `Location` tells how it stands."""

    plan: str


class CancelledRedrive(msgspec.Struct, frozen=True, kw_only=True):
    """It stops once what was begun is marked."""

    plan: str
    state: str = "stopping"


class DeadLetterOperations:
    """The requests. Each looks at the log anew."""

    def __init__(self, *, keyring: Keyring, desk: DeadLetters, host: RedriveHost) -> None:
        self._keyring = keyring
        self._desk = desk
        self._host = host
        self._edit = msgspec.json.Decoder(EditRequest)
        self._discard = msgspec.json.Decoder(DiscardRequest)
        self._plan = msgspec.json.Decoder(PlanRequest)
        self._redrive = msgspec.json.Decoder(RedriveRequest)

    async def letters(self, call: Call) -> Answer:
        """The newest letters that fit."""
        tenant = self._tenant(call)
        query = call.query(LettersQuery)
        selection = Selection(
            tenants=(tenant,),
            channels=_given(query.channel),
            error_classes=_given(query.error_class),
            providers=_given(query.provider),
            classes=_given(query.class_),
            deliveries=() if query.delivery is None else (query.delivery,),
            since=query.since,
            until=query.until,
        )
        with _problems(parameter="channel"):
            newest, total = await self._desk.newest(selection, states=(query.state,), limit=query.limit)
        return Answer(status=200, body=LetterPage(letters=[view_letter(filed) for filed in newest], total=total))

    async def counts(self, call: Call) -> Answer:
        """How many there are of each kind."""
        tenant = self._tenant(call)
        query = call.query(CountsQuery)
        dimensions: list[Dimension] = []
        for name in query.by.split(","):
            known = next((dimension for dimension in DIMENSIONS if dimension == name), None)
            if known is None:
                raise refuse_parameter("by", f"{name[:64]!r} is none of {', '.join(DIMENSIONS)}")
            dimensions.append(known)
        async with contextlib.aclosing(self._desk.filed(Selection(tenants=(tenant,)))) as letters:
            chosen = [(filed.letter, filed.standing.state) async for filed in letters]
        groups = count_by(
            [entry for entry in chosen if entry[1] == query.state], dimensions=dimensions, now=self._desk.clock.now()
        )
        return Answer(status=200, body=Counts(groups=tuple(groups)))

    async def show(self, call: Call) -> Answer:
        """One letter with its history."""
        filed = await self._find(call, tenant=self._tenant(call))
        return Answer(status=200, body=await self._detail(filed))

    async def edit(self, call: Call) -> Answer:
        """Correct what will be sent."""
        tenant = self._tenant(call)
        request = await call.json(self._edit, limit=MAX_BODY_BYTES)
        filed = await self._find(call, tenant=tenant)
        with _problems(field="$.provider"):
            edited = await self._desk.edit(
                filed.letter.id,
                address=request.address,
                provider=request.provider,
                by=_who(tenant),
                reason=request.reason,
            )
        return Answer(status=200, body=await self._detail(edited))

    async def discard(self, call: Call) -> Answer:
        """Close a letter unsent."""
        tenant = self._tenant(call)
        request = await call.json(self._discard, limit=MAX_BODY_BYTES)
        filed = await self._find(call, tenant=tenant)
        with _problems():
            discarded = await self._desk.discard(filed.letter.id, by=_who(tenant), reason=request.reason)
        return Answer(status=200, body=await self._detail(discarded))

    async def plan(self, call: Call) -> Answer:
        """What a redrive would do. Changes nothing."""
        tenant = self._tenant(call)
        request = await call.json(self._plan, limit=MAX_BODY_BYTES)
        with _problems(field="$"):
            selection = Selection(
                tenants=(tenant,),
                channels=request.channels,
                error_classes=request.error_classes,
                providers=request.providers,
                classes=request.classes,
                letters=tuple(str(parse_letter_id(text)) for text in request.letters),
                since=request.since,
                until=request.until,
            )
            rules = Rules(max_redrives=request.max_redrives, include_uncertain=request.include_uncertain)
            plan_id = f"{self._desk.clock.now():%Y%m%d-%H%M%S}-{token_hex(2)}"
            made = await make_plan(self._desk, selection, rules=rules, plan_id=plan_id, by=_who(tenant))
        return Answer(status=200, body=made)

    async def redrives(self, call: Call) -> Answer:
        """GET lists, POST begins."""
        return await (self.redrive(call) if call.method == "POST" else self.list_redrives(call))

    async def redrive(self, call: Call) -> Answer:
        """Begin to carry a plan out, in this process."""
        tenant = self._tenant(call)
        request = await call.json(self._redrive, limit=MAX_BODY_BYTES)
        if request.plan.selection.tenants != (tenant,):
            raise refuse_field("invalid_field", path="$.plan.selection.tenants", message=f"must be [{tenant!r}]")
        with _problems(field="$.plan"):
            await check_free(self._desk, request.plan)
            self._host.start(self._desk, request.plan, pace=request.pace, by=_who(tenant), reason=request.reason)
        link = f"/v1/redrives/{request.plan.id}"
        return Answer(status=202, body=BegunRedrive(plan=request.plan.id), headers=[(b"location", link.encode())])

    async def list_redrives(self, call: Call) -> Answer:
        """How redrives stand."""
        views = await self._views(self._tenant(call), plan=None)
        return Answer(status=200, body=RedriveList(redrives=tuple(views)))

    async def show_redrive(self, call: Call) -> Answer:
        """How one redrive stands."""
        views = await self._views(self._tenant(call), plan=call.part("plan"))
        if not views:
            raise Refused("not_found", "no redrive of such a plan has begun")
        return Answer(status=200, body=views[0])

    async def cancel_redrive(self, call: Call) -> Answer:
        """Stop a redrive that runs in this process."""
        plan = call.part("plan")
        views = await self._views(self._tenant(call), plan=plan)
        if not views:
            raise Refused("not_found", "no redrive of such a plan has begun")
        if not self._host.cancel(plan):
            raise Refused("letter_refused", f"it does not run in this process; it is {views[0].state}")
        return Answer(status=202, body=CancelledRedrive(plan=plan))

    def _tenant(self, call: Call) -> str:
        return self._keyring.caller(call.head.get(b"authorization"), scope="admin").tenant

    async def _views(self, tenant: str, *, plan: str | None) -> list[RedriveView]:
        since = self._desk.clock.now() - _REMEMBERED
        views = await list_redrives(self._desk, since=since, plan=plan)
        return [view for view in views if view.selection.tenants == (tenant,)]

    async def _find(self, call: Call, *, tenant: str) -> Filed:
        name = "/".join(call.part(part) for part in ("channel", "partition", "offset"))
        try:
            filed = await self._desk.find(parse_letter_id(name))
        except (ConfigError, NoSuchLetter) as error:
            raise Refused("not_found", str(error)) from None
        if filed.letter.tenant != tenant:
            raise Refused("not_found", f"there is no dead letter {filed.letter.id} of this tenant")
        return filed

    async def _detail(self, filed: Filed) -> LetterDetail:
        return view_letter_detail(filed, history=await self._desk.history(filed.letter))


def _given(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _who(tenant: str) -> str:
    return f"an API key of {tenant}"


@contextlib.contextmanager
def _problems(*, parameter: str | None = None, field: str = "$") -> Iterator[None]:
    """What the dead letters refuse, as a problem. Raises Refused."""
    try:
        yield
    except LetterRefused as error:
        raise Refused("letter_refused", str(error)) from None
    except RedriveHeld as error:
        raise Refused("redrive_held", str(error)) from None
    except InvalidAddress as error:
        raise refuse_field("invalid_address", path="$.address", message=str(error)) from None
    except ConfigError as error:
        if parameter is not None:
            raise refuse_parameter(parameter, str(error)) from None
        raise refuse_field("invalid_field", path=field, message=str(error)) from None

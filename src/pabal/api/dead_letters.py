"""`/v1/dead-letters`: what `pabal dlq list|show|stats|edit|discard` does, over HTTP. `redrives.py` has the ways back.

All of it needs the scope `admin`, for the letters of the key's own tenant. With `operator` a key reaches the letters
of every tenant, and letters that cannot be read.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from pabal.api.asgi import ApiResponse
from pabal.api.bodies import JsonBody
from pabal.api.codes import LOG_CODES, Code
from pabal.api.keys import Caller
from pabal.api.letter_filters import LetterFilters, LetterQuery, check_reach
from pabal.api.operation import NUMBER, WORD, Operation, Part, Success
from pabal.api.problems import RequestRefused, refuse_field, refuse_parameter
from pabal.api.request import ApiRequest
from pabal.dlq.letters.letter import parse_letter_id
from pabal.dlq.letters.reading import Filed
from pabal.dlq.letters.selection import DIMENSIONS, Dimension, Group, count_by
from pabal.dlq.letters.views import LetterDetail, LetterPage, view_letter, view_letter_detail
from pabal.dlq.parts import DeadLetters
from pabal.errors import ConfigError, InvalidAddress, LetterRefused, NoSuchLetter, RedriveHeld

MAX_BODY_BYTES: Final = 64 * 1024

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description="Why, for the audit log.")]


class LettersQuery(LetterQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of a list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The newest so many.")] = 100


class CountsQuery(LetterQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to count, and by what: names with commas between them."""

    by: Annotated[str, msgspec.Meta(max_length=200)] = "channel,error_class"


class LetterCounts(msgspec.Struct, frozen=True, kw_only=True):
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


class DiscardAllRequest(LetterFilters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which open letters are closed unsent, and why. At least one filter must be given.

    `at_most` is what `pabal dlq discard` asks a person: when more letters fit, none is discarded.
    """

    reason: Reason
    at_most: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """How many letters were open and are discarded now."""

    discarded: int


ABOUT: Final = """Needs the scope `admin`, for the dead letters of the key's own tenant. With the scope `operator` it
reaches the dead letters of every tenant, and dead letters that cannot be read and so have no tenant. The audit log
keeps every change, with the key's tenant and the reason."""
"""What the description says of everything about dead letters and redrives."""

LOOK_CODES: Final[tuple[Code, ...]] = ("store_unavailable", *LOG_CODES)
"""Why dead letters cannot be looked at."""

CHANGE_CODES: Final[tuple[Code, ...]] = ("letter_refused", *LOOK_CODES)
"""Why dead letters cannot be changed."""

_LETTER: Final = "/v1/dead-letters/{channel}/{partition}/{offset}"
_LETTER_PARTS: Final[Mapping[str, Part]] = {
    "channel": Part(description="Such as `webhook`.", schema=WORD),
    "partition": Part(description="Of its dead topic.", schema=NUMBER),
    "offset": Part(description="In the partition.", schema=NUMBER),
}


class DeadLetterRequests:
    """The requests. Each looks at the log anew."""

    def __init__(self, desk: DeadLetters) -> None:
        self._desk = desk

    def operations(self) -> Sequence[Operation[Any, Any]]:
        """What the API takes."""
        return (
            Operation(
                method="GET",
                path="/v1/dead-letters",
                scope="admin",
                respond=self.letters,
                query=LettersQuery,
                answers={200: Success("A page.", LetterPage)},
                codes=LOOK_CODES,
                name="listDeadLetters",
                summary="List dead letters, newest first",
                about=f"List dead letters, newest first. {ABOUT}",
            ),
            Operation(
                method="GET",
                path="/v1/dead-letters/stats",
                scope="admin",
                respond=self.counts,
                query=CountsQuery,
                answers={200: Success("The counts.", LetterCounts)},
                codes=LOOK_CODES,
                name="countDeadLetters",
                summary="Count dead letters by what they share",
                about=f"Count dead letters by what they share. {ABOUT}",
            ),
            Operation(
                method="POST",
                path="/v1/dead-letters/discard",
                scope="admin",
                respond=self.discard_all,
                body=JsonBody(
                    DiscardAllRequest,
                    limit=MAX_BODY_BYTES,
                    example={"error_classes": ["uncertain"], "reason": "the provider says that it sent them"},
                ),
                answers={200: Success("How many were closed.", Discarded)},
                codes=CHANGE_CODES,
                name="discardDeadLetters",
                summary="Close every open dead letter that fits, unsent",
                about=f"Close every open dead letter that fits, unsent. {ABOUT}",
            ),
            *self._operations_on_one(),
        )

    def _operations_on_one(self) -> Sequence[Operation[Any, Any]]:
        return (
            Operation(
                method="GET",
                path=_LETTER,
                scope="admin",
                respond=self.show,
                parts=_LETTER_PARTS,
                answers={200: Success("The letter as it stands.", LetterDetail)},
                codes=(*LOOK_CODES, "not_found"),
                name="getDeadLetter",
                summary="One dead letter with its history",
                about=f"One dead letter with its history. {ABOUT}",
            ),
            Operation(
                method="POST",
                path=f"{_LETTER}/edit",
                scope="admin",
                respond=self.edit,
                parts=_LETTER_PARTS,
                body=JsonBody(
                    EditRequest,
                    limit=MAX_BODY_BYTES,
                    example={"address": "https://example.com/new", "reason": "the customer moved"},
                ),
                answers={200: Success("The letter as it stands.", LetterDetail)},
                codes=(*CHANGE_CODES, "not_found", "invalid_address"),
                name="editDeadLetter",
                summary="Correct what will be sent",
                about=f"Correct what will be sent. {ABOUT}",
            ),
            Operation(
                method="POST",
                path=f"{_LETTER}/discard",
                scope="admin",
                respond=self.discard,
                parts=_LETTER_PARTS,
                body=JsonBody(DiscardRequest, limit=MAX_BODY_BYTES, example={"reason": "the customer has gone"}),
                answers={200: Success("The letter as it stands.", LetterDetail)},
                codes=(*CHANGE_CODES, "not_found"),
                name="discardDeadLetter",
                summary="Close a dead letter, unsent",
                about=f"Close a dead letter, unsent. {ABOUT}",
            ),
        )

    async def letters(self, request: ApiRequest[LettersQuery, None]) -> ApiResponse:
        """The newest letters that fit."""
        query = request.query()
        selection = query.selection(request.caller)
        with told_as_problems(parameter="channel"):
            newest, total = await self._desk.letters.newest(selection, states=query.states, limit=query.limit)
        return ApiResponse(status=200, body=LetterPage(letters=[view_letter(filed) for filed in newest], total=total))

    async def counts(self, request: ApiRequest[CountsQuery, None]) -> ApiResponse:
        """How many there are of each kind."""
        query = request.query()
        selection, dimensions = query.selection(request.caller), _dimensions(query.by)
        with told_as_problems(parameter="channel"):
            async with contextlib.aclosing(self._desk.letters.filed(selection)) as letters:
                every = [(filed.letter, filed.standing.state) async for filed in letters]
        chosen = [entry for entry in every if not query.states or entry[1] in query.states]
        groups = count_by(chosen, dimensions=dimensions, now=self._desk.clock.now())
        return ApiResponse(status=200, body=LetterCounts(groups=tuple(groups)))

    async def show(self, request: ApiRequest[None, None]) -> ApiResponse:
        """One letter with its history."""
        filed = await self._find(request)
        return ApiResponse(status=200, body=await self._detail(filed))

    async def edit(self, request: ApiRequest[None, EditRequest]) -> ApiResponse:
        """Correct what will be sent."""
        asked = await request.body()
        filed = await self._find(request)
        with told_as_problems(field="$.provider"):
            edited = await self._desk.decisions.edit(
                filed.letter.id,
                address=asked.address,
                provider=asked.provider,
                by=who_is(request.caller),
                reason=asked.reason,
            )
        return ApiResponse(status=200, body=await self._detail(edited))

    async def discard(self, request: ApiRequest[None, DiscardRequest]) -> ApiResponse:
        """Close a letter unsent."""
        asked = await request.body()
        filed = await self._find(request)
        with told_as_problems():
            discarded = await self._desk.decisions.discard(
                filed.letter.id, by=who_is(request.caller), reason=asked.reason
            )
        return ApiResponse(status=200, body=await self._detail(discarded))

    async def discard_all(self, request: ApiRequest[None, DiscardAllRequest]) -> ApiResponse:
        """Close every open letter that fits, unsent. Asked again after a failure, it goes on with what is left."""
        asked = await request.body()
        if _names_nothing(asked):
            raise refuse_field("invalid_field", path="$", message="which letters? Give at least one filter")
        done = 0
        with told_as_problems():
            selection = asked.selection(request.caller)
            ends = await self._desk.letters.ends(selection)
            _, count = await self._desk.letters.newest(selection, states=("open",), limit=1)
            if count > asked.at_most:
                raise LetterRefused(
                    f"{count:,} open letters fit, and at most {asked.at_most:,} were to be discarded; none was"
                )
            stepwise = self._desk.decisions.discard_all(
                selection, ends=ends, by=who_is(request.caller), reason=asked.reason
            )
            async for so_far in stepwise:
                done = so_far
        return ApiResponse(status=200, body=Discarded(discarded=done))

    async def _find(self, request: ApiRequest[None, Any]) -> Filed:
        name = "/".join(request.part(part) for part in ("channel", "partition", "offset"))
        try:
            filed = await self._desk.letters.find(parse_letter_id(name))
        except (ConfigError, NoSuchLetter) as error:
            raise RequestRefused("not_found", str(error)) from None
        check_reach(request.caller, tenant=filed.letter.tenant, name=str(filed.letter.id))
        return filed

    async def _detail(self, filed: Filed) -> LetterDetail:
        return view_letter_detail(filed, history=await self._desk.histories.of(filed.letter))


def who_is(caller: Caller) -> str:
    """The caller in the audit log."""
    return f"an operator's API key of {caller.tenant}" if caller.is_operator else f"an API key of {caller.tenant}"


@contextlib.contextmanager
def told_as_problems(*, parameter: str | None = None, field: str = "$", caller: Caller | None = None) -> Iterator[None]:
    """What the dead letters refuse, as a problem. `caller` is told of its own tenant's redrives alone. Raises
    RequestRefused."""
    try:
        yield
    except LetterRefused as error:
        raise RequestRefused("letter_refused", str(error)) from None
    except RedriveHeld as error:
        may_know = caller is not None and (caller.is_operator or error.tenant == caller.tenant)
        raise RequestRefused("redrive_held", str(error) if may_know else _HELD_BY_OPERATOR) from None
    except InvalidAddress as error:
        raise refuse_field("invalid_address", path="$.address", message=str(error)) from None
    except ConfigError as error:
        if parameter is not None:
            raise refuse_parameter(parameter, str(error)) from None
        raise refuse_field("invalid_field", path=field, message=str(error)) from None


_HELD_BY_OPERATOR: Final = "whoever runs this installation redrives dead letters now; ask again when that has ended"


def _dimensions(by: str) -> list[Dimension]:
    dimensions: list[Dimension] = []
    for name in by.split(","):
        known = next((dimension for dimension in DIMENSIONS if dimension == name), None)
        if known is None:
            raise refuse_parameter("by", f"{name[:64]!r} is none of {', '.join(DIMENSIONS)}")
        dimensions.append(known)
    return dimensions


def _names_nothing(asked: LetterFilters) -> bool:
    return all(not getattr(asked, field.name) for field in msgspec.structs.fields(LetterFilters))

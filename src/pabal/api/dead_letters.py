"""`/v1/dead-letters`: what `pabal dlq list|show|stats|edit|discard` does, over HTTP. `redrives.py` has the ways back.

All of it needs the scope `admin`, for the letters of the key's own tenant; with `operator` it is everybody's letters,
and those that nobody can read.
"""

import contextlib
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec

from pabal.api.asgi import Answer
from pabal.api.endpoint import Call, refuse_parameter
from pabal.api.keys import Caller, Keyring
from pabal.api.letter_filters import LetterFilters, LetterQuery, check_reach
from pabal.api.problems import Refused, refuse_field
from pabal.dlq.desk import DeadLetters, Filed
from pabal.dlq.letter import parse_letter_id
from pabal.dlq.selection import DIMENSIONS, Dimension, Group, count_by
from pabal.dlq.views import LetterDetail, LetterPage, view_letter, view_letter_detail
from pabal.errors import ConfigError, InvalidAddress, LetterRefused, NoSuchLetter, RedriveHeld

MAX_BODY_BYTES: Final = 64 * 1024

Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1000, description="Why, for the audit log.")]


class LettersQuery(LetterQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters of a list."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The newest so many.")] = 100


class CountsQuery(LetterQuery, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to count, and by what: names with commas between them."""

    by: Annotated[str, msgspec.Meta(max_length=200)] = "channel,error_class"


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


class DiscardAllRequest(LetterFilters, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which open letters are closed unsent, and why. At least one filter must be given.

    `at_most` is what `pabal dlq discard` asks a person: when more letters fit, none is discarded.
    """

    reason: Reason
    at_most: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 1000


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """How many letters were open and are discarded now."""

    discarded: int


class DeadLetterOperations:
    """The requests. Each looks at the log anew."""

    def __init__(self, *, keyring: Keyring, desk: DeadLetters) -> None:
        self._keyring = keyring
        self._desk = desk
        self._edit = msgspec.json.Decoder(EditRequest)
        self._discard = msgspec.json.Decoder(DiscardRequest)
        self._discard_all = msgspec.json.Decoder(DiscardAllRequest)

    async def letters(self, call: Call) -> Answer:
        """The newest letters that fit."""
        caller = caller_of(call, self._keyring)
        query = call.query(LettersQuery)
        selection = query.selection(caller)
        with told_as_problems(parameter="channel"):
            newest, total = await self._desk.newest(selection, states=query.states, limit=query.limit)
        return Answer(status=200, body=LetterPage(letters=[view_letter(filed) for filed in newest], total=total))

    async def counts(self, call: Call) -> Answer:
        """How many there are of each kind."""
        caller = caller_of(call, self._keyring)
        query = call.query(CountsQuery)
        selection, dimensions = query.selection(caller), _dimensions(query.by)
        with told_as_problems(parameter="channel"):
            async with contextlib.aclosing(self._desk.filed(selection)) as letters:
                every = [(filed.letter, filed.standing.state) async for filed in letters]
        chosen = [entry for entry in every if not query.states or entry[1] in query.states]
        groups = count_by(chosen, dimensions=dimensions, now=self._desk.clock.now())
        return Answer(status=200, body=Counts(groups=tuple(groups)))

    async def show(self, call: Call) -> Answer:
        """One letter with its history."""
        filed = await self._find(call, caller=caller_of(call, self._keyring))
        return Answer(status=200, body=await self._detail(filed))

    async def edit(self, call: Call) -> Answer:
        """Correct what will be sent."""
        caller = caller_of(call, self._keyring)
        request = await call.json(self._edit, limit=MAX_BODY_BYTES)
        filed = await self._find(call, caller=caller)
        with told_as_problems(field="$.provider"):
            edited = await self._desk.edit(
                filed.letter.id,
                address=request.address,
                provider=request.provider,
                by=who_is(caller),
                reason=request.reason,
            )
        return Answer(status=200, body=await self._detail(edited))

    async def discard(self, call: Call) -> Answer:
        """Close a letter unsent."""
        caller = caller_of(call, self._keyring)
        request = await call.json(self._discard, limit=MAX_BODY_BYTES)
        filed = await self._find(call, caller=caller)
        with told_as_problems():
            discarded = await self._desk.discard(filed.letter.id, by=who_is(caller), reason=request.reason)
        return Answer(status=200, body=await self._detail(discarded))

    async def discard_all(self, call: Call) -> Answer:
        """Close every open letter that fits, unsent. Asked again after a failure, it goes on with what is left."""
        caller = caller_of(call, self._keyring)
        request = await call.json(self._discard_all, limit=MAX_BODY_BYTES)
        if _names_nothing(request):
            raise refuse_field("invalid_field", path="$", message="which letters? Give at least one filter")
        done = 0
        with told_as_problems():
            selection = request.selection(caller)
            ends = await self._desk.ends(selection)
            _, count = await self._desk.newest(selection, states=("open",), limit=1)
            if count > request.at_most:
                raise LetterRefused(
                    f"{count:,} open letters fit, and at most {request.at_most:,} were to be discarded; none was"
                )
            stepwise = self._desk.discard_all(selection, ends=ends, by=who_is(caller), reason=request.reason)
            async for so_far in stepwise:
                done = so_far
        return Answer(status=200, body=Discarded(discarded=done))

    async def _find(self, call: Call, *, caller: Caller) -> Filed:
        name = "/".join(call.part(part) for part in ("channel", "partition", "offset"))
        try:
            filed = await self._desk.find(parse_letter_id(name))
        except (ConfigError, NoSuchLetter) as error:
            raise Refused("not_found", str(error)) from None
        check_reach(caller, tenant=filed.letter.tenant, name=str(filed.letter.id))
        return filed

    async def _detail(self, filed: Filed) -> LetterDetail:
        return view_letter_detail(filed, history=await self._desk.history(filed.letter))


def caller_of(call: Call, keyring: Keyring) -> Caller:
    """Who asks about dead letters. Raises Refused as `Keyring.caller`."""
    return keyring.caller(call.head.get(b"authorization"), scope="admin")


def who_is(caller: Caller) -> str:
    """The caller in the audit log."""
    return f"an operator's API key of {caller.tenant}" if caller.is_operator else f"an API key of {caller.tenant}"


@contextlib.contextmanager
def told_as_problems(*, parameter: str | None = None, field: str = "$", caller: Caller | None = None) -> Iterator[None]:
    """What the dead letters refuse, as a problem. `caller` is told of its own tenant's redrives alone. Raises
    Refused."""
    try:
        yield
    except LetterRefused as error:
        raise Refused("letter_refused", str(error)) from None
    except RedriveHeld as error:
        may_know = caller is not None and (caller.is_operator or error.tenant == caller.tenant)
        raise Refused("redrive_held", str(error) if may_know else _HELD_BY_OPERATOR) from None
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


def _names_nothing(request: LetterFilters) -> bool:
    return all(not getattr(request, field.name) for field in msgspec.structs.fields(LetterFilters))

"""Which dead letters a request means, and which of them its key may touch. The filters are those of `pabal dlq`."""

from typing import Annotated, Literal
from uuid import UUID

import msgspec

from pabal.api.keys import Caller
from pabal.api.problems import RequestRefused, refuse_field, refuse_parameter
from pabal.dlq.letters.letter import parse_letter_id
from pabal.dlq.letters.selection import Selection
from pabal.notification import CLASSES, Instant, NotificationClass

Names = Annotated[tuple[str, ...], msgspec.Meta(max_length=100)]
NamesText = Annotated[str, msgspec.Meta(max_length=2000, description="Any of these: names with commas between them.")]
AnyState = Literal["open", "redriven", "discarded", "resolved", "any"]


class LetterQuery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Filters in a query. A letter must fit all filters that are given."""

    channel: NamesText | None = None
    error_class: NamesText | None = None
    provider: NamesText | None = None
    tenant: NamesText | None = None
    class_: NamesText | None = msgspec.field(default=None, name="class")
    delivery: NamesText | None = None
    since: Annotated[Instant | None, msgspec.Meta(description="Given up at or after.")] = None
    until: Annotated[Instant | None, msgspec.Meta(description="Given up before.")] = None
    state: AnyState = "open"

    def selection(self, caller: Caller) -> Selection:
        """The letters that the query means and the caller may touch. Raises RequestRefused: invalid_parameter."""
        classes = _names(self.class_)
        if unknown := [name for name in classes if name not in CLASSES]:
            raise refuse_parameter("class", f"{unknown[0][:64]!r} is none of {', '.join(CLASSES)}")
        try:
            deliveries = tuple(UUID(text) for text in _names(self.delivery))
        except ValueError:
            raise refuse_parameter("delivery", "is no list of UUIDs with commas between them") from None
        tenants = _names(self.tenant)
        if (foreign := _foreign(tenants, caller)) is not None:
            raise refuse_parameter("tenant", _only_own(foreign, caller))
        return Selection(
            channels=_names(self.channel),
            error_classes=_names(self.error_class),
            providers=_names(self.provider),
            tenants=_reach(tenants, caller),
            classes=classes,
            deliveries=deliveries,
            since=self.since,
            until=self.until,
        )

    @property
    def states(self) -> tuple[str, ...]:
        """The states that the query means; an empty tuple means any."""
        return () if self.state == "any" else (self.state,)


class LetterFilters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which letters are meant: one must fit every filter given, and any value of it."""

    channels: Names = ()
    error_classes: Names = ()
    providers: Names = ()
    tenants: Names = ()
    classes: tuple[NotificationClass, ...] = ()
    deliveries: Annotated[tuple[UUID, ...], msgspec.Meta(max_length=1000)] = ()
    letters: Names = ()
    since: Instant | None = None
    until: Instant | None = None

    def selection(self, caller: Caller) -> Selection:
        """The letters that the request means and the caller may touch.

        Raises ConfigError; RequestRefused: invalid_field.
        """
        if (foreign := _foreign(self.tenants, caller)) is not None:
            raise refuse_field("invalid_field", path="$.tenants", message=_only_own(foreign, caller))
        return Selection(
            channels=self.channels,
            error_classes=self.error_classes,
            providers=self.providers,
            tenants=_reach(self.tenants, caller),
            classes=self.classes,
            deliveries=self.deliveries,
            letters=tuple(str(parse_letter_id(text)) for text in self.letters),
            since=self.since,
            until=self.until,
        )


def check_reach(caller: Caller, *, tenant: str, name: str) -> None:
    """Whether the caller may touch a letter of that tenant.

    Raises RequestRefused: not_found, as if the letter were not there.
    """
    if not caller.is_operator and tenant != caller.tenant:
        raise RequestRefused("not_found", f"there is no dead letter {name} of this tenant")


def may_touch(caller: Caller, selection: Selection) -> bool:
    """Whether the caller may touch every letter of a selection."""
    return caller.is_operator or selection.tenants == (caller.tenant,)


def _reach(tenants: tuple[str, ...], caller: Caller) -> tuple[str, ...]:
    # A selection without tenants means all letters, also letters that have no tenant because they cannot be read.
    return tenants if caller.is_operator else (caller.tenant,)


def _foreign(tenants: tuple[str, ...], caller: Caller) -> str | None:
    return None if caller.is_operator else next((each for each in tenants if each != caller.tenant), None)


def _only_own(foreign: str, caller: Caller) -> str:
    return f"{foreign[:64]!r}: this key sees the letters of {caller.tenant!r} alone; it lacks the scope 'operator'"


def _names(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(text.split(","))

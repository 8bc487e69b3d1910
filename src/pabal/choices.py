"""What a word could have been: msgspec says which value, key or field is wrong, and not which would do. Pure."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from msgspec import inspect

_COMPLAINT: Final = re.compile(
    r"(Invalid enum value .*?|Object contains unknown field `.*?`)( - at (?:(`key`) in )?`\$(.*)`)?", re.DOTALL
)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")


def with_choices(complaint: str, *, type_: Any) -> str:
    """msgspec's complaint about a value of `type_`, and the words that would do in that place.

    It is left as it is unless it is about an enumerated value, an enumerated key of a table, or an unknown field.
    """
    named = _COMPLAINT.fullmatch(complaint)
    if named is None:
        return complaint
    problem, where, is_key, path = named.groups()
    is_field = problem.startswith("Object")
    choices = _choices(type_, path or "", is_field=is_field, is_key=is_key is not None)
    return f"{problem}; there are: {', '.join(choices)}{where or ''}" if choices else complaint


@lru_cache
def _choices(type_: Any, path: str, *, is_field: bool, is_key: bool) -> tuple[str, ...]:
    places = [inspect.type_info(type_)]
    for step in _STEP.finditer(path):
        places = [inner for place in places for inner in _inside(place, field=step[1])]
    if is_key:
        places = [key for place in places for key in _keys(place)]
    words = _fields if is_field else _values
    return tuple(str(word) for place in places for word in words(place))


def _inside(place: inspect.Type, *, field: str | None) -> Iterator[inspect.Type]:
    """What stands in a field, or (None) in an array or a table of any keys."""
    for each in _bare(place):
        match each:
            case inspect.StructType(fields=fields):
                yield from (own.type for own in fields if own.encode_name == field)
            case inspect.CollectionType(item_type=inner) | inspect.DictType(value_type=inner) if field is None:
                yield inner


def _keys(place: inspect.Type) -> Iterator[inspect.Type]:
    return (each.key_type for each in _bare(place) if isinstance(each, inspect.DictType))


def _fields(place: inspect.Type) -> Iterator[str]:
    for each in _bare(place):
        if isinstance(each, inspect.StructType):
            yield from (field.encode_name for field in each.fields)


def _values(place: inspect.Type) -> Iterator[object]:
    for each in _bare(place):
        if isinstance(each, inspect.LiteralType):
            yield from each.values


def _bare(place: inspect.Type) -> Iterator[inspect.Type]:
    """The types that a place may have, without the notes on them."""
    match place:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _bare(each)
        case inspect.Metadata(type=inner):
            yield from _bare(inner)
        case _:
            yield place

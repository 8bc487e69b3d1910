"""What a word could have been: msgspec says that an enumerated value is wrong, and not which ones are right. Pure."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from msgspec import inspect

_COMPLAINT: Final = re.compile(r"(Invalid enum value .*?)( - at `\$(.*)`)?", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[[^\]]*\]")


def with_choices(complaint: str, *, type_: Any) -> str:
    """msgspec's complaint about a value of `type_`; if it is about an enumerated one, with the values there are."""
    named = _COMPLAINT.fullmatch(complaint)
    choices = _choices(type_, named[3] or "") if named is not None else ()
    if named is None or not choices:
        return complaint
    return f"{named[1]}; there are: {', '.join(choices)}{named[2] or ''}"


@lru_cache
def _choices(type_: Any, path: str) -> tuple[str, ...]:
    places = [inspect.type_info(type_)]
    for step in _STEP.finditer(path):
        places = [inner for place in places for inner in _inside(place, field=step[1])]
    return tuple(str(value) for place in places for value in _values(place))


def _inside(place: inspect.Type, *, field: str | None) -> Iterator[inspect.Type]:
    """What stands in a field, or (None) in an array or a table of any keys."""
    match place:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _inside(each, field=field)
        case inspect.Metadata(type=inner):
            yield from _inside(inner, field=field)
        case inspect.StructType(fields=fields):
            yield from (each.type for each in fields if each.encode_name == field)
        case inspect.CollectionType(item_type=inner) | inspect.DictType(value_type=inner) if field is None:
            yield inner


def _values(place: inspect.Type) -> Iterator[object]:
    match place:
        case inspect.UnionType(types=types):
            for each in types:
                yield from _values(each)
        case inspect.Metadata(type=inner):
            yield from _values(inner)
        case inspect.LiteralType(values=values):
            yield from values

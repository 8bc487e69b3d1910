"""From a query string to a typed value."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

import msgspec

from pabal.api.decoding import at_most_microseconds
from pabal.api.problems import refuse_parameter
from pabal.choices import with_choices

MAX_QUERY_BYTES: Final = 8192

_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`(; there are: .*)?", re.DOTALL)

Q = TypeVar("Q", bound=msgspec.Struct)


def read_query(text: bytes, model: type[Q]) -> Q:
    """The query string as a model's fields.

    Raises RequestRefused: invalid_parameter, naming the first that does not fit.

    A plus sign is one (RFC 3986): addresses and time zones have them, and nothing here has spaces.
    """
    if len(text) > MAX_QUERY_BYTES:
        raise refuse_parameter("", f"the query has more than {MAX_QUERY_BYTES} bytes")
    fields: dict[str, Any] = {}
    for name, value in parse_qsl(text.decode("latin-1").replace("+", "%2B"), keep_blank_values=True, errors="replace"):
        if name in fields:
            raise refuse_parameter(name, "occurs twice; which is meant?")
        fields[name] = value
    for name in _times(model) & fields.keys():
        # Outside of its strict mode msgspec takes any number for seconds.
        fields[name] = at_most_microseconds(fields[name])
        try:
            msgspec.convert(fields[name], datetime)
        except msgspec.ValidationError as error:
            raise refuse_parameter(name, str(error)) from None
    try:
        query = msgspec.convert(fields, model, strict=False)
    except msgspec.ValidationError as error:
        message, _, place = with_choices(str(error), type_=model).rpartition(" - at `$.")
        if not message and (unknown := _UNKNOWN.fullmatch(place)):
            raise refuse_parameter(unknown[1], f"there is no such parameter{unknown[2] or ''}") from None
        raise refuse_parameter(place.removesuffix("`") if message else "", message or place) from None
    for field in msgspec.structs.fields(model):
        # Likewise it takes the text "null" for nothing.
        if field.encode_name in fields and getattr(query, field.name) is None:
            raise refuse_parameter(field.encode_name, "null is no value of it; leave the parameter out")
    return query


@lru_cache
def _times(model: type[msgspec.Struct]) -> frozenset[str]:
    """The parameters that are times."""
    info = msgspec.inspect.type_info(model)
    assert isinstance(info, msgspec.inspect.StructType)
    return frozenset(field.encode_name for field in info.fields if _is_time(field.type))


def _is_time(kind: msgspec.inspect.Type) -> bool:
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            return _is_time(inner)
        case msgspec.inspect.UnionType(types=types):
            return any(_is_time(each) for each in types)
        case _:
            return isinstance(kind, msgspec.inspect.DateTimeType)

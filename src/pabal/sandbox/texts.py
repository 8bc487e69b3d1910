"""How values are written for people to read: as JSON spells them, never as Python does."""

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from jinja2 import Undefined
from jinja2.sandbox import SandboxedFormatter
from markupsafe import Markup

from pabal.sandbox.budget import Meter

_encode = msgspec.json.Encoder().encode

_SHORT: Final = 256
"""Characters of a format that is kept in mind."""

_WIDEST: Final = 999
"""Characters to which a format may pad, or decimals it may write."""

_DIRECTIVE: Final = re.compile(
    r"%(\((?P<key>[^)]*)\))?(?P<flags>[-#0 +]*)(?P<width>\*|\d*)(\.(?P<places>\*|\d*))?[hlL]?.?"
)
_NUMBERS: Final = (int, float)
_DIGITS: Final = re.compile(r"\d{4,}")


def text_of(value: Any) -> str:
    """The text of a value: `true`, `17`, `1.5`, `1e22`; a text is itself (and stays safe HTML if it was).

    Raises:
        ValueError: null, a list, an object, a number that JSON has not (infinity), a function.
        UndefinedError: there is no such value.
    """
    if isinstance(value, str):
        return value
    match value:
        case Undefined():
            return str(value)
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return _encode(value).decode()
        case float():
            raise ValueError(f"a calculation came to {value}, which is no number to write")
        case None:
            raise ValueError('null where a text is wanted; give a text, or say what stands for it: default("…", true)')
        case list() | tuple():
            raise ValueError("a list where a text is wanted; loop over it, or write it with `join` or `tojson`")
        case dict():
            raise ValueError("an object where a text is wanted; name one of its fields, or write it with `tojson`")
    raise ValueError(f"a {type(value).__name__.lower()} where a text is wanted")


def percent_format(template: str, values: Any, *, meter: Meter) -> str:
    """`template % values`, with bounded widths and JSON's spellings.

    Raises:
        ValueError: a width of more than 999, one that comes from data, or Python's spelling (`%r`).
        OverBudget
    """
    meter.spend(1 + len(template))
    directives = _count_directives(template) if len(template) < _SHORT else _count_directives.__wrapped__(template)
    if type(values) is tuple and len(values) == 1 and type(values[0]) in _NUMBERS:
        # A price, a count: by far the most.
        meter.spend(directives * 16)
        return template % values
    meter.weigh(values)
    meter.spend(directives * (16 + (_longest(values) >> 4)))
    return template % _texts(values)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=256)
def _count_directives(template: str) -> int:
    """How many `%…` there are; a width or a place that cannot be is an error."""
    directives = 0
    for found in _DIRECTIVE.finditer(template):
        directives += 1
        if found[0][-1] in "ra":
            raise ValueError(f"{found[0]} writes Python; use %s")
        for number in (found["width"], found["places"]):
            if number and (number == "*" or len(number) > 3):
                raise ValueError(f"{found[0][:20]} pads to more than {_WIDEST} characters, or to nobody knows how many")
    return directives


def _longest(values: Any) -> int:
    return max((len(value) for value in _each(values) if isinstance(value, str)), default=0)


def _each(values: Any) -> Sequence[Any]:
    if isinstance(values, Mapping):
        return list(values.values())
    return values if isinstance(values, tuple) else (values,)


def _texts(values: Any) -> Any:
    """Numbers stay: `%d` and `%.2f` want them. All else is what people may read."""
    if isinstance(values, Mapping):
        # Only what is used need be a text.
        return _Texts(values)
    if isinstance(values, tuple):
        return tuple(_number_or_text(value) for value in values)
    return _number_or_text(values)


def _number_or_text(value: Any) -> Any:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else text_of(value)


class _Texts(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return _number_or_text(super().__getitem__(key))


class _Braces(SandboxedFormatter):
    """`str.format` with bounded widths and JSON's spellings; `escape` is for a text that is safe HTML."""

    def __init__(self, environment: Any, *, escape: Any, meter: Meter) -> None:
        super().__init__(environment)
        self._escape = escape
        self._meter = meter

    def convert_field(self, value: Any, conversion: str | None) -> Any:
        if conversion not in (None, "s"):
            raise ValueError(f"!{conversion} writes Python; leave it out")
        return value

    def format_field(self, value: Any, format_spec: str) -> Any:
        if _DIGITS.search(format_spec):
            raise ValueError(f"{format_spec[:20]!r} pads to more than {_WIDEST} characters")
        value = _number_or_text(value)
        self._meter.spend(64 + (len(value) >> 4 if isinstance(value, str) else 0))
        said = format(value, format_spec)
        return said if self._escape is None or hasattr(value, "__html__") else str(self._escape(said))


def brace_format(
    template: str, positional: Sequence[Any], named: Mapping[str, Any], *, environment: Any, meter: Meter
) -> str:
    """`template.format(…)`. Raises ValueError as `percent_format`, OverBudget."""
    meter.spend(len(template))
    escape = template.escape if isinstance(template, Markup) else None
    return type(template)(_Braces(environment, escape=escape, meter=meter).vformat(template, positional, named))

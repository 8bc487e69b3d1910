"""The filters, tests and methods that a template has, each with its price."""

import functools
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jinja2 import Environment, Undefined, pass_context
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.runtime import Context
from jinja2.tests import TESTS as JINJA_TESTS
from markupsafe import Markup, escape

from pabal.sandbox.budget import Meter
from pabal.sandbox.texts import percent_format, text_of

_LONGEST_WRAP: Final = 80
_DEEPEST_INDENT: Final = 16
_MOST_PLACES: Final = 30

_CHEAP_TEXT: Final = ("capitalize", "forceescape", "lower", "safe", "trim", "truncate", "upper")
_DEAR_TEXT: Final[Mapping[str, int]] = {"striptags": 2, "title": 2, "urlencode": 2, "wordcount": 1, "wordwrap": 8}
"""Units for each character of the filters that look at each character in Python, or copy what is left for each word."""

_UNPRICED: Final = ("abs", "filesizeformat", "first", "float", "int", "last")
"""What costs the same whatever it is given."""

_SORTING: Final = ("dictsort", "groupby", "max", "min", "sort", "unique")
_PASSING: Final = ("items", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr")

_UNPRICED_TESTS: Final = (
    *("boolean", "defined", "divisibleby", "escaped", "even", "false", "float", "integer", "iterable", "mapping"),
    *("none", "number", "odd", "sameas", "sequence", "string", "true", "undefined"),
)
_COMPARING_TESTS: Final = (
    *("!=", "<", "<=", "==", ">", ">=", "eq", "equalto", "ge", "greaterthan", "gt", "in", "le", "lessthan", "lt"),
    *("lower", "ne", "upper"),
)


def meter_of(context: Context) -> Meter:
    """The meter of the rendering that the context belongs to."""
    meter: Meter = context.meter  # type: ignore[attr-defined] # environment.py makes no other context
    return meter


def make_filters(plain: Environment) -> dict[str, Any]:
    """Every filter by its name. `plain` has Jinja2's own filters, behind the same walls, for ours that wrap them."""
    filters: dict[str, Any] = {name: JINJA_FILTERS[name] for name in _UNPRICED}
    filters |= {name: _text_filter(plain, name, price=0) for name in _CHEAP_TEXT}
    filters |= {name: _text_filter(plain, name, price=price) for name, price in _DEAR_TEXT.items()}
    filters |= {name: _list_filter(plain, name, sorts=False) for name in _PASSING}
    filters |= {name: _list_filter(plain, name, sorts=True) for name in _SORTING}
    filters |= {
        "batch": _shared_out(plain, "batch"),
        "center": _center,
        "count": _length,
        "d": _default,
        "default": _default,
        "e": _escape,
        "escape": _escape,
        "format": _format,
        "indent": _indent,
        "join": join,
        "length": _length,
        "replace": replace,
        "round": _round,
        "slice": _shared_out(plain, "slice"),
        "string": _string,
        "sum": _sum,
        "tojson": _make_tojson(plain),
    }
    return filters


def make_tests() -> dict[str, Any]:
    """Every test by its name."""
    return {name: JINJA_TESTS[name] for name in _UNPRICED_TESTS} | {
        name: _comparing_test(name) for name in _COMPARING_TESTS
    }


def _jinja_filter(plain: Environment, name: str) -> Callable[..., Any]:
    """One of Jinja2's own, as a function of the context, the value and so on, whichever of them it asks for."""
    function: Any = JINJA_FILTERS[name]
    match getattr(getattr(function, "jinja_pass_arg", None), "name", None):
        case "context":
            return function  # type: ignore[no-any-return]
        case "eval_context":
            return lambda context, *args, **kwargs: function(context.eval_ctx, *args, **kwargs)
        case "environment":
            # Not the context's: this one has every filter by its own name, and no meter to count twice.
            return functools.partial(_after_context, functools.partial(function, plain))
    return functools.partial(_after_context, function)


def _after_context(function: Callable[..., Any], _: Context, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def _text_filter(plain: Environment, name: str, *, price: int) -> Callable[..., Any]:
    function = _jinja_filter(plain, name)

    def apply(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = _text(value)
        meter = meter_of(context)
        meter.spend(1 + (len(text) * price or len(text) >> 4))
        if args or kwargs:
            for given in (*args, *kwargs.values()):
                meter.weigh(given)
        if name == "wordwrap" and len(_argument(args, kwargs, 2, "wrapstring", "")) > _LONGEST_WRAP:
            raise ValueError(f"wordwrap puts at most {_LONGEST_WRAP} characters between its lines")
        return function(context, text, *args, **kwargs)

    return pass_context(apply)


def _list_filter(plain: Environment, name: str, *, sorts: bool) -> Callable[..., Any]:
    function = _jinja_filter(plain, name)

    def apply(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        meter = meter_of(context)
        held = _held(value, meter=meter)
        rounds = len(held)
        # What is given with the filter (a long name of a field) may be gone through for each element.
        meter.spend(
            rounds * (2 + sum(len(given) >> 2 for given in (*args, *kwargs.values()) if isinstance(given, str)))
        )
        if sorts:
            before = meter.left
            meter.weigh(held)
            meter.spend((before - meter.left) * rounds.bit_length())
        made = function(context, held, *args, **kwargs)
        if name in ("min", "max"):
            return made
        made = made if isinstance(made, (list, str)) else list(made)
        meter.weigh(made)
        return made

    return pass_context(apply)


def _held(value: Any, *, meter: Meter) -> Any:
    """A value with a length: what is iterated is paid for before."""
    if isinstance(value, Undefined):
        return list(value)  # raises the error that names it
    try:
        meter.spend(len(value))
    except TypeError:
        raise TypeError(f"{_kind(value)} where a list is wanted") from None
    return value if isinstance(value, (list, tuple, dict, str)) else list(value)


def _shared_out(plain: Environment, name: str) -> Callable[..., Any]:
    """`batch` and `slice`: as many as are asked for, filled up with anything."""
    function = _jinja_filter(plain, name)

    def apply(context: Context, value: Any, number: int, fill_with: Any = None) -> Any:
        meter = meter_of(context)
        held = _held(value, meter=meter)
        meter.spend(abs(int(number)))
        made = list(function(context, held, number, fill_with))
        meter.weigh(made)
        return made

    return pass_context(apply)


def _comparing_test(name: str) -> Callable[..., Any]:
    function: Any = JINJA_TESTS[name]

    def apply(context: Context, value: Any, *args: Any) -> Any:
        meter = meter_of(context)
        for given in (value, *args):
            meter.weigh(given)
        return function(value, *args)

    return pass_context(apply)


def _length(value: Any) -> int:
    if isinstance(value, (str, list, tuple, dict, range, Undefined)) or hasattr(value, "__len__"):
        return len(value)
    raise TypeError(f"{_kind(value)} has no length")


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:  # noqa: FBT001, FBT002 - Jinja2's
    if isinstance(value, Undefined) or (boolean and not value):
        return default_value
    return value


@pass_context
def _string(context: Context, value: Any) -> str:
    text = _text(value)
    meter_of(context).spend(1 + (len(text) >> 4))
    return text


@pass_context
def _escape(context: Context, value: Any) -> Markup:
    text = _text(value)
    meter_of(context).spend(1 + (len(text) >> 3))
    return escape(text)


@pass_context
def _center(context: Context, value: Any, width: int = 80) -> str:
    text = _text(value)
    meter_of(context).spend(1 + (max(len(text), width) >> 4))
    return text.center(width)


@pass_context
def _format(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    if args and kwargs:
        raise TypeError("format takes values, or names with values, not both")
    return percent_format(_text(value), kwargs or args, meter=meter_of(context))


@pass_context
def _indent(context: Context, value: Any, width: int | str = 4, *flags: Any, **options: Any) -> str:
    text = _text(value)
    wide = len(width) if isinstance(width, str) else width
    meter = meter_of(context)
    meter.spend(1 + (len(text) >> 2))
    meter.spend((text.count("\n") + 2) * max(wide, 0) >> 4)
    done: str = JINJA_FILTERS["indent"](text, width, *flags, **options)
    return done


@pass_context
def join(context: Context, value: Any, d: Any = "", attribute: Any = None) -> str:
    """One text of a list's, with a separator, each as people may read it."""
    meter = meter_of(context)
    held = _held(value, meter=meter)
    separator = text_of(d)
    if attribute is not None:
        held = context.environment.call_filter("map", held, kwargs={"attribute": attribute}, context=context)
    texts = [text_of(element) for element in held]
    meter.spend(2 * len(texts) + (sum(map(len, texts)) + len(separator) * len(texts) >> 4))
    if not context.eval_ctx.autoescape:
        return separator.join(texts)
    if any(hasattr(text, "__html__") for text in (separator, *texts)):
        return escape(separator).join(texts)
    return separator.join(texts)


@pass_context
def replace(context: Context, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    """A text with parts of it replaced."""
    text, old, new = _text(value), text_of(old), text_of(new)
    meter = meter_of(context)
    meter.spend(1 + (len(text) + len(old) + len(new) >> 3))
    meter.spend(text.count(old) * max(len(new) - len(old), 0) >> 4)
    is_safe = any(hasattr(given, "__html__") for given in (old, new))
    if context.eval_ctx.autoescape and is_safe and not hasattr(text, "__html__"):
        text = escape(text)
    return text.replace(old, new, -1 if count is None else count)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > _MOST_PLACES:
        raise ValueError(f"round keeps at most {_MOST_PLACES} places")
    return JINJA_FILTERS["round"](value, precision, method)


@pass_context
def _sum(context: Context, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    if not isinstance(start, (int, float)):
        raise TypeError("sum adds numbers")
    meter = meter_of(context)
    held = _held(iterable, meter=meter)
    if attribute is not None:
        held = context.environment.call_filter("map", held, kwargs={"attribute": attribute}, context=context)
    meter.weigh(held)
    return sum(held, start)


def _make_tojson(plain: Environment) -> Callable[..., Any]:
    function = _jinja_filter(plain, "tojson")

    def tojson(context: Context, value: Any, indent: int | None = None) -> Any:
        if isinstance(indent, str) or not 0 <= (indent or 0) <= _DEEPEST_INDENT:
            raise ValueError(f"tojson indents by 0 to {_DEEPEST_INDENT}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"a calculation came to {value}, which JSON cannot write")
        meter = meter_of(context)
        before = meter.left
        meter.weigh(value)
        # Written in Python's encoder, character by character where they are not plain.
        meter.spend((before - meter.left) * (4 if indent is None else 8))
        return function(context, value, indent)

    return pass_context(tojson)


# --- methods -------------------------------------------------------------------------------------------------------

_PADDING: Final = ("center", "ljust", "rjust", "zfill")
_SPLITTING: Final = ("partition", "rpartition", "rsplit", "split", "splitlines")
_STR_METHODS: Final = frozenset(
    {"capitalize", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isdigit", "islower"}
    | {"isspace", "isupper", "join", "lower", "lstrip", "removeprefix", "removesuffix", "replace", "rfind", "rstrip"}
    | {"startswith", "strip", "swapcase", "title", "upper", *_PADDING, *_SPLITTING}
)

METHODS: Final[Mapping[type, frozenset[str]]] = {
    str: _STR_METHODS,
    Markup: _STR_METHODS,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
}
"""What may be called on the values of data. `format_map`, `expandtabs`, `translate` and the like do not exist."""


def price_method(owner: Any, name: str, args: Sequence[Any], *, meter: Meter) -> None:
    """Pay for a call of a method of the owner's. Raises OverBudget."""
    if isinstance(owner, str):
        meter.spend(2 + (len(owner) if name in _SPLITTING else len(owner) >> 2))
        if name in _PADDING and args and isinstance(args[0], int):
            meter.spend(max(args[0], 0) >> 4)
    elif not isinstance(owner, dict):
        meter.weigh(owner)


# --- operators -----------------------------------------------------------------------------------------------------

_MOST_BITS: Final = 1024
_LARGEST: Final = 1 << _MOST_BITS
_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "**": operator.pow,
    "%": operator.mod,
}


def operate(sign: str, left: Any, right: Any, *, meter: Meter) -> Any:
    """An operator of which one side is no number. Raises OverBudget; TypeError for what does not go together."""
    if isinstance(left, str) and sign == "%":
        return percent_format(left, right, meter=meter)
    if sign == "*":
        text, times = (right, left) if isinstance(left, int) else (left, right)
        if isinstance(text, (str, list, tuple)) and isinstance(times, int):
            before = meter.left
            meter.weigh(text)
            meter.spend((before - meter.left) * max(times, 0))
            return text * times
    if sign == "+":
        if isinstance(left, str) != isinstance(right, str):
            text_of(left), text_of(right)
            raise TypeError("a text and a number are put together with ~, not with +")
        meter.weigh(left)
        meter.weigh(right)
    return _ARITHMETIC[sign](left, right)


def calculate(sign: str, left: float, right: float) -> Any:
    """An operator between two numbers. Raises ValueError for a number that is beyond all use."""
    if not (-_LARGEST < left < _LARGEST and -_LARGEST < right < _LARGEST):
        raise ValueError("a number of more than 300 digits is not calculated with")
    if sign == "**" and isinstance(left, int) and abs(right) * left.bit_length() > _MOST_BITS:
        raise ValueError("a power of more than 300 digits is not calculated")
    return _ARITHMETIC[sign](left, right)


def _text(value: Any) -> str:
    # StrictUndefined raises its own error, which names what is undefined.
    return value if isinstance(value, str) else text_of(value)


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], place: int, name: str, otherwise: str) -> str:
    value = args[place] if len(args) > place else kwargs.get(name)
    return otherwise if value is None else str(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    return {"int": "a number", "float": "a number", "bool": "true or false"}.get(type(value).__name__, "something else")

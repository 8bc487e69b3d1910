"""Jinja2's immutable sandbox with a meter: compiles a text, and renders it within a budget."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import jinja2
from jinja2 import pass_context
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace
from markupsafe import Markup, escape

from pabal.sandbox.budget import Meter, OverBudget
from pabal.sandbox.filters import METHODS, calculate, make_filters, make_tests, meter_of, operate, price_method
from pabal.sandbox.rewriting import EACH, JOINED, MADE, SPENT, WEIGHED, rewrite
from pabal.sandbox.texts import brace_format, text_of

_OPERATORS: Final = frozenset({"+", "-", "*", "/", "//", "%", "**"})
_NUMBERS: Final = (int, float)
_CALL_PRICE: Final = 20

_SCOPES: Final = ("_loop_vars", "_block_vars")
"""Jinja2 hands these along with the template's arguments."""

_OWN_KINDS: Final = (LoopContext, Namespace, Cycler, Joiner, Macro, BlockReference)
"""What Jinja2 itself puts into a template's hands; their public names are safe."""


class MeteredContext(Context):
    """The variables of one part, and the meter of its rendering."""

    meter: Meter

    def derived(self, locals: dict[str, Any] | None = None) -> "MeteredContext":  # noqa: A002 - Jinja2's name
        """A context for something inside; on the same meter."""
        context = super().derived(locals)
        assert isinstance(context, MeteredContext)
        context.meter = self.meter
        return context


class _Walls(ImmutableSandboxedEnvironment):
    """What may be reached at all, and called: the allow-list of methods."""

    context_class = MeteredContext

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Only what is listed. Data is reached by its keys, which are no attributes."""
        if isinstance(obj, _OWN_KINDS):
            return not attr.startswith("_")
        if isinstance(obj, tuple) and attr in getattr(type(obj), "_fields", ()):
            return True  # a group of `groupby`
        return attr in METHODS.get(type(obj), ()) and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """`str.format`, for `call` alone: only there is a meter."""
        owner = getattr(value, "__self__", None)
        if isinstance(owner, str) and getattr(value, "__name__", "") in ("format", "format_map"):
            return _BraceFormat(owner) if value.__name__ == "format" else None
        return None


class _BraceFormat:
    __slots__ = ("template",)

    def __init__(self, template: str) -> None:
        self.template = template


class Sandbox(_Walls):
    """A template's whole world. `autoescape`: for HTML."""

    intercepted_binops = _OPERATORS

    def __init__(self, *, autoescape: bool) -> None:
        # Nothing is worked out while it compiles: constants are folded without a meter.
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=autoescape, optimized=False, finalize=_finalize)
        plain = _Walls(undefined=jinja2.StrictUndefined, autoescape=autoescape)
        self.filters = make_filters(plain) | _REWRITTEN
        self.tests = make_tests()
        self.globals = {
            "range": safe_range,
            "dict": dict,
            "namespace": Namespace,
            "cycler": Cycler,
            "joiner": Joiner,
        }

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Every operator is paid for."""
        if type(left) in _NUMBERS and type(right) in _NUMBERS:
            return calculate(operator, left, right)
        return operate(operator, left, right, meter=meter_of(context))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805, PYI063 - Jinja2's
        """Every call is paid for: what it is given before, what it makes after."""
        meter = meter_of(__context)
        meter.spend(_CALL_PRICE)
        named = {name: value for name, value in kwargs.items() if name not in _SCOPES}
        for given in (*args, *named.values()):
            meter.weigh(given)
        if isinstance(__obj, _BraceFormat):
            return brace_format(__obj.template, args, named, environment=__self, meter=meter)
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if type(owner) in METHODS:
            if isinstance(owner, str) and name in ("join", "replace"):
                order = (args[0], owner) if name == "join" else (owner, *args)
                return __self.filters[name](__context, *order)
            price_method(owner, name, args, meter=meter)
        made = super().call(__context, __obj, *args, **kwargs)
        if isinstance(made, (str, list, tuple, dict)):
            meter.weigh(made)
        return made


@pass_context
def _finalize(context: MeteredContext, value: Any) -> str:
    """The text of a blank, paid for."""
    text = value if isinstance(value, str) else text_of(value)
    meter = context.meter
    meter.left -= 1 + (len(text) >> 4)
    if meter.left < 0:
        raise OverBudget
    return text


@pass_context
def _each(context: Context, iterable: Any, price: int) -> Any:
    """What a loop goes through: all its rounds are paid for before the first."""
    if isinstance(iterable, (int, float)) or iterable is None:
        raise TypeError(f"{'null' if iterable is None else 'a number'} where a list is wanted")
    meter_of(context).spend(len(iterable) * max(price, 1))
    return iterable


@pass_context
def _spent(context: Context, value: Any, price: int) -> Any:
    meter_of(context).spend(max(price, 1))
    return value


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    """What is compared, or was copied."""
    meter_of(context).weigh(value)
    return value


@pass_context
def _joined(context: Context, values: list[Any]) -> str:
    """`a ~ b`."""
    texts = [text_of(value) for value in values]
    meter_of(context).spend(len(texts) + (sum(map(len, texts)) >> 4))
    if context.eval_ctx.autoescape and any(hasattr(text, "__html__") for text in texts):
        return Markup("").join(escape(text) for text in texts)
    return "".join(texts)


_REWRITTEN: Final[dict[str, Callable[..., Any]]] = {
    EACH: _each,
    SPENT: _spent,
    WEIGHED: _weighed,
    MADE: _weighed,
    JOINED: _joined,
}


class Compiled:
    """One part of a template, compiled."""

    def __init__(self, sandbox: Sandbox, text: str) -> None:
        """Raises TemplateSyntaxError; RecursionError, SyntaxError, MemoryError, ValueError for what Python cannot."""
        tree = sandbox.parse(text)
        self.price = rewrite(tree, sandbox)
        code = sandbox.compile(tree)
        template = jinja2.Template.from_code(sandbox, code, sandbox.globals)
        self._sandbox = sandbox
        self._blocks = template.blocks
        self._yield_text = template.root_render_func

    def render(self, data: Mapping[str, Any], *, meter: Meter) -> str:
        """Raises OverBudget, and whatever a program can raise that is run with data."""
        context = MeteredContext(self._sandbox, {**self._sandbox.globals, **data}, None, self._blocks)
        context.meter = meter
        meter.spend(self.price)
        try:
            return "".join(self._yield_text(context))
        except Exception:
            # Rewrites the traceback to the template's own lines, and raises.
            self._sandbox.handle_exception()

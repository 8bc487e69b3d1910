"""Rewrites a parsed template so that what is no function pays as well: loops, comparisons, literals, `~`, slices."""

from collections.abc import Iterable
from typing import Any, Final

from jinja2 import Environment, TemplateAssertionError, nodes
from jinja2.visitor import NodeTransformer

# The blank keeps them out of a template's reach: no name in its language has one.
EACH: Final = "each round"
SPENT: Final = "work spent"
WEIGHED: Final = "weighed"
MADE: Final = "weighed"
JOINED: Final = "joined"


def rewrite(tree: nodes.Template, environment: Environment) -> int:
    """Rewrite in place; the price of running it once without the rounds of its loops.

    Raises TemplateAssertionError for what no template may have.
    """
    _check(tree, environment)
    price = _price(tree.body)
    _Rewriter().visit(tree)
    tree.set_environment(environment)
    return price


def _check(tree: nodes.Template, environment: Environment) -> None:
    for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        message = "include, import and extends are not supported: a template stands alone"
        raise TemplateAssertionError(message, node.lineno)
    known: dict[type[nodes.Node], tuple[str, Iterable[str]]] = {
        nodes.Filter: ("filter", environment.filters),
        nodes.Test: ("test", environment.tests),
    }
    for kind, (word, names) in known.items():
        for used in tree.find_all(kind):
            name = used.name  # type: ignore[attr-defined] # both have one
            if name not in names:
                there = ", ".join(sorted(name for name in names if name.isidentifier()))
                raise TemplateAssertionError(f"No {word} named {name!r}; there are: {there}", used.lineno)


def _price(body: Iterable[nodes.Node]) -> int:
    """One unit a node, more for the text that it moves."""
    price = 0
    waiting: list[nodes.Node] = list(body)
    while waiting:
        node = waiting.pop()
        price += 1
        if isinstance(node, nodes.TemplateData):
            price += len(node.data) >> 4
        elif isinstance(node, nodes.Const) and isinstance(node.value, str):
            price += len(node.value) >> 4
        waiting.extend(node.iter_child_nodes())
    return price


class _Rewriter(NodeTransformer):
    # The methods' names are Jinja2's: it calls the one of a node's kind.

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        price = 2 + _price([*node.body, *([node.test] if node.test else [])])
        self.generic_visit(node)
        node.iter = _filter(node.iter, EACH, nodes.Const(price))
        if node.recursive:
            # `loop(…)` brings further rounds, which do not pass `iter`.
            node.body.insert(0, _spending(price, lineno=node.lineno))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:  # noqa: N802
        return self._called(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:  # noqa: N802
        return self._called(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:  # noqa: N802
        return self._called(node)

    def _called(self, node: Any) -> nodes.Node:
        """What may be run many times without a loop pays at its beginning."""
        price = _price(node.body)
        self.generic_visit(node)
        node.body.insert(0, _spending(price, lineno=node.lineno))
        return node  # type: ignore[no-any-return]

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), JOINED)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        if len(sides) == 2 and node.ops[0].op not in ("in", "notin") and any(map(_is_scalar, sides)):
            # One side is short and stands in the template: to compare costs no more than that.
            return node
        node.expr = _weighed(node.expr)
        for operand in node.ops:
            operand.expr = _weighed(operand.expr)
        return node

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._made(node, node.items)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._made(node, [part for pair in node.items for part in (pair.key, pair.value)])

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._made(node, node.items) if node.ctx == "load" else node

    def _made(self, node: nodes.Expr, held: list[nodes.Expr]) -> nodes.Node:
        self.generic_visit(node)
        return node if all(map(_is_scalar, held)) else _filter(node, MADE)

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            return _filter(node, MADE)
        node.arg = _weighed(node.arg)
        return node


def _is_scalar(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Const)


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if _is_scalar(node) else _filter(node, WEIGHED)


def _filter(node: Any, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _spending(price: int, *, lineno: int) -> nodes.ExprStmt:
    nothing = nodes.Const(None, lineno=lineno)
    return nodes.ExprStmt(_filter(nothing, SPENT, nodes.Const(price, lineno=lineno)), lineno=lineno)

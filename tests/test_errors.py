"""The tree at the top of `errors.py` is the tree of the classes."""

import inspect
import re

from pabal import errors

_LINE = re.compile(r"^ {4}(?P<trunk>[│├└─ ]*)(?P<name>[A-Z]\w+)\b", re.MULTILINE)
_INDENT = 4
"""Each level of the drawing is four characters wide."""


def drawn_tree() -> dict[str, str | None]:
    """Each class of the drawing, with the class that it hangs on."""
    path: list[str] = []
    parents: dict[str, str | None] = {}
    drawing = (errors.__doc__ or "").split("::\n", 1)[1].split("\n\n")[0]
    for line in _LINE.finditer(drawing):
        depth = len(line["trunk"]) // _INDENT
        del path[depth:]
        parents[line["name"]] = path[-1] if path else None
        path.append(line["name"])
    return parents


def test_the_drawn_tree_is_the_tree_of_the_classes() -> None:
    classes = {
        name: None if each is errors.PabalError else each.__mro__[1].__name__
        for name, each in inspect.getmembers(errors, inspect.isclass)
        if issubclass(each, errors.PabalError)
    }

    assert drawn_tree() == classes


def test_the_tree_is_drawn_in_the_order_in_which_the_classes_stand() -> None:
    defined = re.findall(r"^class (\w+)", inspect.getsource(errors), re.MULTILINE)

    assert list(drawn_tree()) == defined

"""Whether a problem that the API answers is one that its committed description declares."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

COMMITTED = Path(__file__).parent / "openapi.json"

_OF_ANY_OPERATION = frozenset({"internal_error", "method_not_allowed"})


def is_declared(method: str, path: str, *, status: int, code: str) -> bool:
    """Whether the operation names the code, with its status. A path without an operation has no declaration."""
    if code in _OF_ANY_OPERATION:
        return True
    fitting = [told for name, expression, told in _operations() if name == method and expression.fullmatch(path)]
    return not fitting or any(
        f"`{code}`" in told["responses"].get(str(status), {}).get("description", "") for told in fitting
    )


@cache
def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    return list(_read(msgspec.json.decode(COMMITTED.read_bytes())))


def _read(document: dict[str, Any]) -> Iterator[tuple[str, re.Pattern[str], dict[str, Any]]]:
    for path, methods in document["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", path.replace("{address}", ".+").replace("{id}", "[0-9a-f-]{36}"))
        for method, told in methods.items():
            yield method.upper(), re.compile(pattern, re.DOTALL), told

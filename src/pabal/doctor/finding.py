"""The answer of a check: is this part right, and if not, what to do. Pure."""

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `pabal doctor`. `check`: the part that was checked. A `warn` does not make the command fail."""

    check: str
    level: Level
    text: str


def ok(check: str, text: str) -> Finding:
    """The part is right."""
    return Finding(check=check, level="ok", text=text)


def warn(check: str, text: str) -> Finding:
    """The part works, but a person should know about it."""
    return Finding(check=check, level="warn", text=text)


def fail(check: str, text: str) -> Finding:
    """The part does not work, or soon will not; the text says what to do."""
    return Finding(check=check, level="fail", text=text)

"""What a check says: is it right, and if not, what is to be done. Pure."""

from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `pabal doctor`. `check`: what was looked at; `warn` does not make the command fail."""

    check: str
    level: Level
    text: str


def ok(check: str, text: str) -> Finding:
    """It is right."""
    return Finding(check=check, level="ok", text=text)


def warn(check: str, text: str) -> Finding:
    """It works, and somebody should know."""
    return Finding(check=check, level="warn", text=text)


def fail(check: str, text: str) -> Finding:
    """It does not work, or will not for long; the text says what to do."""
    return Finding(check=check, level="fail", text=text)

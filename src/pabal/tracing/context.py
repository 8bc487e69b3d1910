"""The W3C header fields `traceparent` and `tracestate`: read, judged, written. Pure."""

import re
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple, Self

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 0x01
_KNOWN_FLAGS = 0x03
"""`sampled` (level 1) and `random` (level 2); others must be passed on as zero (§3.2.2.5)."""

_MEMBER = re.compile(r"[a-z0-9][a-z0-9_*/@-]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
"""§3.3.1.3, with the wider keys of level 2."""

_MOST_MEMBERS: Final = 32
"""§3.3.1.1: a longer list is none."""

_KEPT_CHARACTERS: Final = 512
"""What everybody has to pass on (§3.3.1.5). No more is kept: it stands in every record of the delivery."""

_LONG_MEMBER: Final = 128
"""Members longer than this are left out first where something has to be (§3.3.1.5)."""


class TraceContext(NamedTuple):
    """Names a span: its trace (128 bits), its own id in it (64 bits), and flags (8 bits)."""

    trace_id: int
    span_id: int
    flags: int

    @classmethod
    def read(cls, traceparent: str) -> Self | None:
        """The context in a field's value; None when it is malformed, as if there were none (Trace Context §3.2.2).

        Of a version that we do not know, the part that every version has (§3.2.4), and no flag but `sampled`.
        """
        if (match := _FORM.fullmatch(traceparent)) is None:
            return None
        version, trace_id, span_id, flags, more = match.groups()
        if version == "ff" or (version == "00" and more is not None):
            return None
        context = cls(
            int(trace_id, 16), int(span_id, 16), int(flags, 16) & (_KNOWN_FLAGS if version == "00" else _SAMPLED)
        )
        return context if context.trace_id and context.span_id else None

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{self.flags:02x}"


def read_traceparent(text: str | None) -> str | None:
    """The value to pass on: the same text in its version 00; None when there is none or it is malformed."""
    context = None if text is None else TraceContext.read(text)
    return None if context is None else str(context)


def read_tracestate(text: str) -> str | None:
    """The list to pass on, in its order and word for word; None when it is empty or malformed (§3.3).

    White space and empty members between the commas are left out, and of more than 512 characters whole members.
    """
    members = [member for part in text.split(",") if (member := part.strip(" \t"))]
    if len(members) > _MOST_MEMBERS or not all(_MEMBER.fullmatch(member) for member in members):
        return None
    if _length(members) > _KEPT_CHARACTERS:
        members = _shorten(members)
    return ",".join(members) or None


class Trace(NamedTuple):
    """What travels with a delivery. `tracestate` means nothing without `traceparent`, and never stands alone."""

    traceparent: str | None = None
    tracestate: str | None = None

    @classmethod
    def read(cls, traceparent: str | None, tracestate: str | None) -> Self:
        """What to pass on of both. A malformed `tracestate` does not touch `traceparent` (§4.3)."""
        passed_on = read_traceparent(traceparent)
        return cls(passed_on, read_tracestate(tracestate) if passed_on and tracestate else None)


NO_TRACE: Final = Trace()


def _shorten(members: Sequence[str]) -> list[str]:
    """What is left when the others fit: the long ones go first, and of those that are alike the last."""
    kept = dict(enumerate(members))
    for index in sorted(kept, key=lambda index: (len(members[index]) <= _LONG_MEMBER, -index)):
        if _length(kept.values()) <= _KEPT_CHARACTERS:
            break
        del kept[index]
    return list(kept.values())


def _length(members: Collection[str]) -> int:
    """Of the members with the commas between them."""
    return sum(map(len, members)) + len(members) - 1

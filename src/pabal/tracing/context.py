"""The W3C `traceparent` header field: read, judged, written. Pure."""

import re
from typing import NamedTuple, Self

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_SAMPLED = 0x01
_KNOWN_FLAGS = 0x03
"""`sampled` (level 1) and `random` (level 2); others must be passed on as zero (§3.2.2.5)."""


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

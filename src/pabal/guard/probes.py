"""The few calls that find out whether a callee is back, and what they say together. Pure."""

from typing import Literal


class Probes:
    """The probes of a half-open circuit: so many that end well close it, so many that fail open it again."""

    __slots__ = ("_bad", "_enough_bad", "_enough_ok", "_ok", "under_way")

    def __init__(self, *, enough_ok: int, enough_bad: int) -> None:
        self._enough_ok = enough_ok
        self._enough_bad = enough_bad
        self.under_way = 0
        self._ok = 0
        self._bad = 0

    @property
    def may_begin(self) -> bool:
        """Whether one more may be made: together they are no more than could decide."""
        return self.under_way + self._ok + self._bad < max(self._enough_ok, self._enough_bad)

    def end(self, *, is_ok: bool) -> Literal["close", "open"] | None:
        """One has ended. Returns what follows for the circuit, if that is clear."""
        self.under_way -= 1
        if is_ok:
            self._ok += 1
        else:
            self._bad += 1
        if self._ok >= self._enough_ok:
            return "close"
        if self._bad >= self._enough_bad:
            return "open"
        if self.under_way == 0 and not self.may_begin:
            # Neither enough good nor enough bad ones: a few more are made.
            self._ok = self._bad = 0
        return None

    def clear(self) -> None:
        """Begin anew."""
        self.under_way = self._ok = self._bad = 0

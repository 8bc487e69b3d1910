"""What the simulator received: totals, by answer, and when each idempotency key arrived."""

from collections import Counter, deque
from collections.abc import Callable, Mapping

import msgspec


class Received(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request or message as it came. `path` is the HTTP target, or the SMTP recipients joined by a comma.

    Header names are in lower case; of a repeated header the last one stands.
    """

    path: str
    headers: Mapping[str, str]
    body: bytes
    at_ns: int
    """Nanoseconds since the Unix epoch, at its last byte."""


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Totals since the start (or since they were forgotten).

    `received` = `distinct` + `repeated` + `without_key`. `by_answer` counts under what was decided
    (`http 200`, `http hang`, `smtp 250`, `smtp rcpt 451`); an SMTP refusal before the message counts only there.
    """

    received: int
    distinct: int
    repeated: int
    without_key: int
    by_answer: Mapping[str, int]
    by_key: Mapping[str, int]


class ReceivedRequests:
    """Counts requests; cheap enough for the hot path, and for millions of keys.

    First arrivals stand in one dictionary of plain numbers (which the garbage collector need not walk), the rare
    repeated ones in another.
    """

    def __init__(self, *, now_ns: Callable[[], int], keep: int) -> None:
        self.received = 0
        self._now_ns = now_ns
        self._without_key = 0
        self._repeated = 0
        self._by_answer: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        self._again: dict[str, list[int]] = {}
        self._refused: set[tuple[str, int]] = set()
        self._kept: deque[tuple[str, list[tuple[bytes, bytes]], bytes, int]] = deque(maxlen=keep)

    def request(
        self,
        key: bytes | None,
        *,
        answer: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        is_refused: bool = False,
    ) -> None:
        """Count a request that was received whole. `is_refused`: its answer says that it was not taken."""
        now = self._now_ns()
        self.received += 1
        self._by_answer[answer] += 1
        self._kept.append((path, headers, body, now))
        if key is None:
            self._without_key += 1
            return
        name = key.decode("latin-1")
        if name in self._first:
            self._repeated += 1
            self._again.setdefault(name, []).append(now)
        else:
            self._first[name] = now
        if is_refused:
            self._refused.add((name, now))

    def answer(self, answer: str) -> None:
        """Count an answer that ends a conversation before anything was received whole."""
        self._by_answer[answer] += 1

    def counts(self, *, by_key: bool) -> Counts:
        """The totals; `by_key` is left empty on request, because it may be large."""
        return Counts(
            received=self.received,
            distinct=len(self._first),
            repeated=self._repeated,
            without_key=self._without_key,
            by_answer=dict(self._by_answer),
            by_key={key: 1 + len(self._again.get(key, ())) for key in self._first} if by_key else {},
        )

    def times(self, *, with_refused: bool = True) -> dict[str, tuple[int, ...]]:
        """Per key its arrivals, in nanoseconds since the Unix epoch, in order; with the refused ones, or without."""
        every = {key: (first, *self._again.get(key, ())) for key, first in self._first.items()}
        if with_refused or not self._refused:
            return every
        taken = {key: tuple(at for at in times if (key, at) not in self._refused) for key, times in every.items()}
        return {key: times for key, times in taken.items() if times}

    def times_of(self, key: str) -> tuple[int, ...]:
        """The arrivals of one key; empty when it never arrived."""
        return (self._first[key], *self._again.get(key, ())) if key in self._first else ()

    def kept(self) -> list[Received]:
        """The last requests, oldest first."""
        return [
            Received(
                path=path,
                headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers},
                body=body,
                at_ns=at,
            )
            for path, headers, body, at in self._kept
        ]

    def forget(self) -> None:
        """Begin anew."""
        self.received = self._without_key = self._repeated = 0
        for collection in (self._by_answer, self._first, self._again, self._refused, self._kept):
            collection.clear()

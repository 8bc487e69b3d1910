"""What one group of calls does to its rows: the protocol's pure functions, in order, and what is to be written after.

No I/O. A database reads the rows of a group, runs the group's steps on a `GroupRows`, and stores what the `GroupRows`
says has changed. It is the same for every database.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from pabal.errors import OwnerEnded
from pabal.ledger.columns import to_columns
from pabal.ledger.protocol import (
    Call,
    CancelAnswer,
    Claim,
    ClaimAnswer,
    Finish,
    FinishAnswer,
    Row,
    acknowledge,
    cancel,
    claim,
    finish,
    release,
    settle,
)
from pabal.outcome import Outcome, Suppressed

MOST_ROWS: Final = 256
"""How many calls make a group at most."""


class GroupRows:
    """The rows that one group needs, as its steps change them.

    `rows` are the rows that exist; `ended` says why this owner may claim nothing more (None: it may); `suppressed` are
    the group's recipients that must not be written to; `is_alive` says whether an owner's leases hold.
    """

    def __init__(
        self,
        rows: dict[bytes, Row],
        *,
        now_seconds: float,
        ended: str | None,
        suppressed: set[bytes],
        is_alive: Callable[[int], bool],
    ) -> None:
        self._rows = rows
        self._now_seconds = now_seconds
        self._ended = ended
        self._suppressed = suppressed
        self._is_alive = is_alive
        self._alive: dict[int, bool] = {}
        self.rows_to_write: dict[bytes, list[Any]] = {}
        """The rows that were made or changed, by id, as columns (`to_columns`)."""
        self.ids_to_settle: dict[bytes, None] = {}
        """The ids of the other rows, of which only `settled` has changed."""
        self.suppressions_to_write: dict[bytes, bool] = {}
        """Recipients that must not be written to from now on (True), or may be (False)."""
        self.recipients_permitted: set[bytes] = set()
        """The recipients that calls were permitted to because no suppression stood against them; empty if no call was
        permitted. b"" stands for a call that asked of no recipient, or of one whose suppression the group itself had
        just lifted. A database that did not keep other processes out since its read stores the group only if two
        things still hold: these recipients are not suppressed, and this owner was not written off."""

    @property
    def changed_rows(self) -> Iterable[tuple[bytes, Row]]:
        """All rows that changed."""
        return ((key, self._rows[key]) for keys in (self.rows_to_write, self.ids_to_settle) for key in keys)

    def claim(self, key: bytes, ask: Claim) -> ClaimAnswer:
        """See `protocol.claim`."""
        if self._ended is not None:
            raise OwnerEnded(f"this worker was written off: {self._ended}; start it anew, under its own name")
        if ask.recipient in self._suppressed and ask.refusal is None:
            ask = msgspec.structs.replace(ask, refusal=Suppressed())
        before = self._rows.get(key)
        after, answer = claim(before, ask, now_seconds=self._now_seconds, lease_left=self._lease_left)
        self._note(key, before, after)
        if isinstance(answer, Call):
            self.recipients_permitted.add(b"" if ask.recipient in self.suppressions_to_write else ask.recipient)
        return answer

    def finish(self, key: bytes, ask: Finish) -> FinishAnswer:
        """See `protocol.finish`."""
        before = self._rows.get(key)
        after, answer = finish(before, ask)
        self._note(key, before, after)
        return answer

    def release(self, key: bytes, claim: tuple[int, int]) -> None:
        """See `protocol.release`. `claim`: its owner and token, as in `settle`."""
        owner, token = claim
        before = self._rows.get(key)
        self._note(key, before, release(before, owner=owner, token=token))

    def settle(self, key: bytes, claim: tuple[int, int]) -> None:
        """See `protocol.settle`. All settlements of a group are one short statement."""
        owner, token = claim
        before = self._rows.get(key)
        after = settle(before, owner=owner, token=token)
        if after is None or after is before:
            return
        self._rows[key] = after
        if key in self.rows_to_write:
            self.rows_to_write[key] = to_columns(key, after)
        else:
            self.ids_to_settle[key] = None

    def cancel(self, key: bytes, prune_after: float) -> CancelAnswer:
        """See `protocol.cancel`."""
        before = self._rows.get(key)
        after, answer = cancel(before, prune_after=prune_after)
        self._note(key, before, after)
        return answer

    def acknowledge(self, key: bytes, outcome: Outcome) -> None:
        """See `protocol.acknowledge`."""
        before = self._rows.get(key)
        self._note(key, before, acknowledge(before, outcome=outcome))

    def suppress(self, _: bytes, recipients: Collection[bytes]) -> None:
        """See `Ledger.suppress`."""
        self._suppressed.update(recipients)
        self.suppressions_to_write.update(dict.fromkeys(recipients, True))

    def unsuppress(self, _: bytes, recipients: Collection[bytes]) -> None:
        """See `Ledger.unsuppress`."""
        self._suppressed.difference_update(recipients)
        self.suppressions_to_write.update(dict.fromkeys(recipients, False))

    def _lease_left(self, row: Row) -> float:
        left = row.lease_until - self._now_seconds
        if left <= 0:
            return left
        if row.owner not in self._alive:
            self._alive[row.owner] = self._is_alive(row.owner)
        return left if self._alive[row.owner] else 0.0

    def _note(self, key: bytes, before: Row | None, after: Row | None) -> None:
        if after is not None and after is not before and after != before:
            # Here, so that a row that cannot be written fails the step that made it, and no other.
            self.rows_to_write[key] = to_columns(key, after)
            self._rows[key] = after
            self.ids_to_settle.pop(key, None)


class Failure:
    """What a step raised instead of answering."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error = error


Step = Callable[[GroupRows, bytes, Any], Any]
"""One of GroupRows' methods: takes the id of the row it needs (b"": none) and its argument."""


class Ask:
    """One call of a ledger: what to do, and with which row."""

    __slots__ = ("argument", "key", "step")

    def __init__(self, step: Step, key: bytes, argument: Any) -> None:
        self.step = step
        self.key = key
        self.argument = argument


def run(asks: Iterable[Ask], rows: GroupRows) -> "list[Any | Failure]":
    """The answers of a group's steps. What a step raises is its own affair, and no reason to fail the others."""
    answers: list[Any | Failure] = []
    for ask in asks:
        try:
            answers.append(ask.step(rows, ask.key, ask.argument))
        except Exception as error:  # its caller gets it
            answers.append(Failure(error))
    return answers


def ids_of(asks: Sequence[Ask]) -> set[bytes]:
    """The ids of the rows that a group needs."""
    return {ask.key for ask in asks if ask.key}


def recipients_of(asks: Sequence[Ask]) -> set[bytes]:
    """The recipients that a group's claims would call."""
    return {ask.argument.recipient for ask in asks if isinstance(ask.argument, Claim) and ask.argument.recipient}

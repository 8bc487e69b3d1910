"""What became of redriven deliveries, told by their events. Pure.

*Answered* means that a call (or the gate) has said something: sent, back among the dead letters, deferred, or ended
otherwise. A redriven delivery that is deferred was refused again and is on its way back; waiting for its ladder to end
would take hours, so for the decision to go on it counts as returned.
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Final, Literal, get_args
from uuid import UUID

from pabal.notification import DeliveryEvent, EventKind, Fact

RedriveAnswer = Literal["sent", "returned", "deferred", "ended"]
"""`returned`: dead-lettered again. `ended`: refused for good, expired, suppressed, cancelled."""

ANSWERS: Final[tuple[RedriveAnswer, ...]] = get_args(RedriveAnswer)

_ANSWERS: Final[Mapping[EventKind, RedriveAnswer]] = {
    "sent": "sent",
    "dead_lettered": "returned",
    "deferred": "deferred",
    "unknown": "deferred",
    "rejected": "ended",
    "expired": "ended",
    "suppressed": "ended",
    "cancelled": "ended",
}


class Tally(Fact, frozen=True, kw_only=True):
    """How many were redriven, and what has become of them so far."""

    redriven: int = 0
    sent: int = 0
    returned: int = 0
    deferred: int = 0
    ended: int = 0

    @property
    def answered(self) -> int:
        """How many deliveries something was heard of."""
        return self.sent + self.returned + self.deferred + self.ended

    @property
    def waiting(self) -> int:
        """How many deliveries nothing was heard of yet."""
        return self.redriven - self.answered


class Answers:
    """Listens for the answers of deliveries, by the attempt they were redriven as. `recent` is how many `last` sees.

    What is heard of a delivery before it is known to be redriven is kept: a run that crashed may have redriven it.
    """

    def __init__(self, *, recent: int) -> None:
        self._attempts: dict[UUID, int] = {}
        self._heard: dict[UUID, list[tuple[int, RedriveAnswer]]] = {}
        self._answers: dict[UUID, RedriveAnswer] = {}
        self._counts: Counter[RedriveAnswer] = Counter()
        self._recent: deque[UUID] = deque(maxlen=recent)

    def expect(self, delivery: UUID, *, attempt: int) -> None:
        """A delivery was redriven as this attempt."""
        if self._attempts.get(delivery, 0) < attempt:
            if delivery not in self._attempts:
                self._recent.append(delivery)
            self._attempts[delivery] = attempt
            self._judge(delivery)

    def take(self, event: DeliveryEvent) -> bool:
        """Take an event in; whether it changes what is known of a redriven delivery."""
        if (answer := _ANSWERS.get(event.kind)) is None:
            return False
        heard = self._heard.setdefault(event.delivery_id, [])
        if (entry := (event.attempt, answer)) not in heard:
            heard.append(entry)
        return event.delivery_id in self._attempts and self._judge(event.delivery_id)

    def _judge(self, delivery: UUID) -> bool:
        """The answer that holds: an acceptance of any attempt, else the last word since the redrive."""
        heard, attempt = self._heard.get(delivery, ()), self._attempts[delivery]
        answer: RedriveAnswer | None = None
        if any(word == "sent" for _, word in heard):
            answer = "sent"
        elif words := [word for number, word in heard if number >= attempt]:
            # A delivery that ended was deferred before; events may come in any order.
            answer = next((word for word in words if word != "deferred"), "deferred")
        before = self._answers.get(delivery)
        if answer is None or answer == before:
            return False
        if before is not None:
            self._counts[before] -= 1
        self._counts[answer] += 1
        self._answers[delivery] = answer
        return True

    def tally(self) -> Tally:
        """What is known of all."""
        return _tally(len(self._attempts), self._counts)

    def last(self) -> Tally:
        """What is known of the deliveries redriven last."""
        answers = (self._answers.get(delivery) for delivery in self._recent)
        return _tally(len(self._recent), Counter(answer for answer in answers if answer is not None))


def _tally(redriven: int, counts: Mapping[RedriveAnswer, int]) -> Tally:
    return Tally(redriven=redriven, **{answer: counts.get(answer, 0) for answer in ANSWERS})

"""What follows from an outcome (`decide`), and how long a wait is split over the delay topics. Pure.

A class's *ladder* is its list of delays; a delivery's *rung* is its place on it, which is not its attempt: only a
known refusal, or an unknown call that may be repeated, climbs it.
"""

from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from pabal.notification import RUNGS_SECONDS, Delivery, delay_topic
from pabal.outcome import (
    Accepted,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Refused,
    Rejected,
    RetryAt,
    Unknown,
    Verdict,
)
from pabal.policy import ClassSettings

SHORTEST_PARK_SECONDS = float(RUNGS_SECONDS[0])
"""A shorter park would be no shorter on the delay line when that is busy."""


class Parked(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why a wait is a park: which callee would not take the delivery, by the guard's name, and since when it waits."""

    callee: str
    at: datetime


class Wait(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One hop down the delay line: when the delivery is due, and when this hop lets it go (no later than due).

    With `parked` it may end as soon as that callee is back.
    """

    due: datetime
    release_at: datetime
    parked: Parked | None = None


def decide(
    delivery: Delivery, outcome: Outcome, *, settings: ClassSettings, deduplicates_for: timedelta | None, now: datetime
) -> Verdict:
    """The verdict on one call. `delivery` carries the attempt and rung that were called.

    A retry that could not start before the delivery expires is `Expired` now: nothing is sent late.
    """
    match outcome:
        case Accepted():
            return Done()
        case Rejected(reason=reason):
            return Refused(reason=reason)
        case Deferred(reason=reason, retry_after_seconds=retry_after):
            return _next_rung(delivery, reason, settings=settings, now=now, at_least_seconds=retry_after or 0.0)
        case Misconfigured():
            # Says nothing about this delivery, so it climbs nothing; it waits as long as a refusal would.
            rung = min(delivery.rung, len(settings.ladder_seconds) - 1)
            due = now + timedelta(seconds=settings.ladder_seconds[rung] if settings.ladder_seconds else 0)
            return Expired() if due >= delivery.expires_at else RetryAt(due=due, rung=delivery.rung)
        case Unknown(reason=reason):
            first_called_at = delivery.first_failed_at or now
            if may_call_again(
                settings=settings, deduplicates_for=deduplicates_for, first_called_at=first_called_at, now=now
            ):
                return _next_rung(delivery, reason, settings=settings, now=now, at_least_seconds=0.0)
            return DeadLetter(error_class="uncertain", message=f"{reason}; it may have been sent")
        case _ as never:
            assert_never(never)


def may_call_again(
    *, settings: ClassSettings, deduplicates_for: timedelta | None, first_called_at: datetime, now: datetime
) -> bool:
    """Whether a call with an unknown end may be repeated: the far side deduplicates, or the class says resend."""
    deduplicated = deduplicates_for is not None and now - first_called_at < deduplicates_for
    return deduplicated or settings.uncertain == "resend"


def place_wait(*, due: datetime, now: datetime, class_: str, parked: Parked | None = None) -> tuple[str, Wait]:
    """The delay topic for the next hop of a wait until `due`: the longest rung that fits what remains.

    A rest shorter than the smallest rung goes into the smallest: never early, late by at most that rung.
    """
    remaining = due - now
    fitting = [seconds for seconds in RUNGS_SECONDS if timedelta(seconds=seconds) <= remaining]
    rung = max(fitting, default=RUNGS_SECONDS[0])
    release_at = min(due, now + timedelta(seconds=rung))
    return delay_topic(class_, rung), Wait(due=due, release_at=release_at, parked=parked)


def place_park(*, due: datetime, now: datetime, class_: str, callee: str | None) -> tuple[str, Wait]:
    """The delay topic for a park until `due`: the shortest rung that holds all of it, so that it is one hop.

    The park never ends early, unless `callee` is back before. It may end late when the delay line has too many records
    before it: no later than the end of the whole rung, as all records before it are due by then. No promise says when
    a park ends.
    """
    parked = Parked(callee=callee, at=now) if callee is not None else None
    holding = [seconds for seconds in RUNGS_SECONDS if timedelta(seconds=seconds) >= due - now]
    if not holding:
        return place_wait(due=due, now=now, class_=class_, parked=parked)
    return delay_topic(class_, min(holding)), Wait(due=due, release_at=due, parked=parked)


def end_of_park(*, seconds: float, now: datetime, expires_at: datetime) -> datetime:
    """When a park of `seconds` ends.

    A park that would outlive the delivery ends halfway to the expiry: the callee may be back by then, and the length of
    a park says only how many deliveries are parked. So the delivery comes back a few times more: seven times if ten
    minutes are left. When no more than the shortest park is left, the park ends after the expiry: the delivery expires.
    """
    left = (expires_at - now).total_seconds()
    if seconds >= left and left / 2 >= SHORTEST_PARK_SECONDS:
        return now + timedelta(seconds=left / 2)
    return now + timedelta(seconds=seconds)


def _next_rung(
    delivery: Delivery, reason: str, *, settings: ClassSettings, now: datetime, at_least_seconds: float
) -> Verdict:
    if delivery.rung >= len(settings.ladder_seconds):
        return DeadLetter(error_class="exhausted", message=reason)
    wait_seconds = max(settings.ladder_seconds[delivery.rung], at_least_seconds)
    # Compared as seconds: what a provider asks for may lie beyond any calendar.
    if wait_seconds >= (delivery.expires_at - now).total_seconds():
        return Expired()
    return RetryAt(due=now + timedelta(seconds=wait_seconds), rung=delivery.rung + 1)

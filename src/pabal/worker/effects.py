"""What a verdict means in records: the event, and where the delivery goes next. Pure."""

from datetime import datetime
from typing import assert_never

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import dead_record, delay_record, delivery_record, event_record
from pabal.errors import DecodeError
from pabal.notification import Delivery, DeliveryEvent, EventKind, NotificationClass, event_about
from pabal.outcome import (
    Accepted,
    Cancelled,
    DeadLetter,
    Deferred,
    Done,
    Expired,
    Misconfigured,
    Outcome,
    Park,
    Refused,
    Rejected,
    RetryAt,
    Suppressed,
    Unknown,
    Verdict,
)
from pabal.retry import place_park, place_wait
from pabal.worker.deed import Deed
from pabal.worker.errand import End, Errand

_LOST = Unknown(reason="the worker was lost during the call")


def records_of_verdict(errand: Errand, verdict: Verdict, *, outcome: Outcome | None) -> list[NewRecord]:
    """The records that make a verdict true: its event, and the next record of the delivery if there is one.

    `outcome` is what the call of the errand's attempt came to, if there was a call.
    """
    delivery, attempt, now = errand.delivery, errand.attempt, errand.at
    event = event_of(errand, kind_of_verdict(verdict, outcome), attempt=attempt, outcome=outcome)
    match verdict:
        case RetryAt(due=due, rung=rung):
            following = msgspec.structs.replace(
                delivery,
                attempt=attempt + 1,
                rung=rung,
                parks=0,
                first_failed_at=delivery.first_failed_at or now,
            )
            return [_delayed(following, due=due, now=now), event_record(msgspec.structs.replace(event, due=due))]
        case Park(due=due, reason=reason, callee=callee):
            following = msgspec.structs.replace(delivery, attempt=attempt, parks=delivery.parks + 1)
            parked = msgspec.structs.replace(event, due=due, detail=reason)
            topic, wait = place_park(due=due, now=now, class_=delivery.class_, callee=callee)
            return [delay_record(following, topic=topic, wait=wait), event_record(parked)]
        case DeadLetter(error_class=error_class, message=message):
            dead = dead_record(
                errand.origin,
                channel=delivery.channel,
                delivery=msgspec.structs.replace(delivery, attempt=attempt),
                error_class=error_class,
                message=message,
                at=now,
                group=errand.group,
                provider=errand.provider,
            )
            return [dead, event_record(msgspec.structs.replace(event, detail=f"{error_class}: {message}"))]
        case Done() | Expired() | Suppressed() | Cancelled() | Refused():
            return [event_record(event)]
        case _ as never:
            assert_never(never)


def records_of_lost_calls(errand: Errand) -> list[NewRecord]:
    """The events of attempts that were lost with other workers. To say so again is harmless."""
    return [event_record(event_of(errand, "unknown", attempt=attempt, outcome=_LOST)) for attempt in errand.lost]


def record_of_late_call(errand: Errand, outcome: Outcome) -> NewRecord:
    """The kind of event that reports an outcome; `kind_of_verdict` does the same for a verdict."""
    return event_record(event_of(errand, kind_of_outcome(outcome), attempt=errand.attempt, outcome=outcome))


def event_of(errand: Errand, kind: EventKind, *, attempt: int, outcome: Outcome | None) -> DeliveryEvent:
    """The event of one attempt, with what the provider said."""
    delivery = errand.delivery
    # Several parks may follow one another at one attempt, and each is a line of the timeline.
    occasion = f"{kind}.{delivery.parks}" if kind == "parked" and delivery.parks else kind
    return event_about(
        delivery,
        kind,
        attempt=attempt,
        occasion=occasion,
        at=errand.at,
        provider=errand.provider,
        detail=getattr(outcome, "reason", None),
        provider_id=outcome.provider_id if isinstance(outcome, Accepted) else None,
        response=getattr(outcome, "response", None),
        latency_seconds=errand.latency_seconds,
        traceparent=delivery.traceparent,
    )


def end_of_unreadable(
    origin: Record, error: DecodeError, *, channel: str, class_: NotificationClass, group: str, at: datetime
) -> End:
    """A record that cannot be read goes to the dead topic as it is."""
    dead = dead_record(
        origin,
        channel=channel,
        delivery=None,
        error_class=error.error_class,
        message=str(error),
        at=at,
        group=group,
    )
    deed = Deed(
        kind="dead_lettered",
        channel=channel,
        class_=class_,
        verdict=DeadLetter(error_class=error.error_class, message=str(error)),
    )
    return End(records=[dead], deed=deed)


def deed_of(errand: Errand, kind: EventKind, *, verdict: Verdict | None) -> Deed:
    """What was done, for observers."""
    delivery = errand.delivery
    wanted_at = max(delivery.accepted_at, delivery.send_at or delivery.accepted_at)
    return Deed(
        kind=kind,
        channel=delivery.channel,
        class_=delivery.class_,
        provider=errand.provider,
        attempt=errand.attempt,
        outcome=errand.outcome,
        verdict=verdict,
        latency_seconds=errand.latency_seconds,
        age_seconds=(errand.at - wanted_at).total_seconds(),
        is_redriven=delivery.redrives > 0,
    )


def kind_of_outcome(outcome: Outcome) -> EventKind:
    """The event of a call that ended late: another worker decides by now."""
    match outcome:
        case Accepted():
            return "sent"
        case Unknown():
            return "unknown"
        case Rejected():
            return "rejected"
        case Deferred() | Misconfigured():
            return "deferred"
        case _ as never:
            assert_never(never)


def kind_of_verdict(verdict: Verdict, outcome: Outcome | None) -> EventKind:
    """The event of a verdict."""
    match verdict:
        case Done():
            return "sent"
        case RetryAt():
            return "unknown" if isinstance(outcome, Unknown) else "deferred"
        case Park():
            return "parked"
        case DeadLetter():
            return "dead_lettered"
        case Expired():
            return "expired"
        case Suppressed():
            return "suppressed"
        case Cancelled():
            return "cancelled"
        case Refused():
            return "rejected"
        case _ as never:
            assert_never(never)


def _delayed(delivery: Delivery, *, due: datetime, now: datetime) -> NewRecord:
    if due <= now:
        # A verdict appended again after a crash may be due already: no need of the delay line.
        return delivery_record(delivery)
    topic, wait = place_wait(due=due, now=now, class_=delivery.class_)
    return delay_record(delivery, topic=topic, wait=wait)

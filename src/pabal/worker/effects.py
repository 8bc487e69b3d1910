"""What a verdict means in records: the event, and where the delivery goes next. Pure."""

from datetime import datetime
from typing import assert_never

import msgspec

from pabal.broker.port import NewRecord, Record
from pabal.codec import dead_record, delay_record, delivery_record, event_record
from pabal.notification import Delivery, DeliveryEvent, EventKind, event_id
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


class Told(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is known beside the verdict: who carried it, how long the call took, and the record it came from."""

    at: datetime
    provider: str
    origin: Record
    group: str
    latency_seconds: float | None = None


def records_of_verdict(
    delivery: Delivery, verdict: Verdict, *, attempt: int, outcome: Outcome | None, told: Told
) -> list[NewRecord]:
    """The records that make a verdict true: its event, and the next record of the delivery if there is one."""
    event = event_of(delivery, _kind(verdict, outcome), attempt=attempt, outcome=outcome, told=told)
    match verdict:
        case RetryAt(due=due, rung=rung):
            following = msgspec.structs.replace(
                delivery,
                attempt=attempt + 1,
                rung=rung,
                parks=0,
                first_failed_at=delivery.first_failed_at or told.at,
            )
            return [_delayed(following, due=due, now=told.at), event_record(msgspec.structs.replace(event, due=due))]
        case Park(due=due, reason=reason, callee=callee):
            following = msgspec.structs.replace(delivery, attempt=attempt, parks=delivery.parks + 1)
            parked = msgspec.structs.replace(event, due=due, detail=reason)
            topic, wait = place_park(due=due, now=told.at, class_=delivery.class_, callee=callee)
            return [delay_record(following, topic=topic, wait=wait), event_record(parked)]
        case DeadLetter(error_class=error_class, message=message):
            dead = dead_record(
                told.origin,
                channel=delivery.channel,
                delivery=msgspec.structs.replace(delivery, attempt=attempt),
                error_class=error_class,
                message=message,
                at=told.at,
                group=told.group,
                provider=told.provider,
            )
            return [dead, event_record(msgspec.structs.replace(event, detail=f"{error_class}: {message}"))]
        case Done() | Expired() | Suppressed() | Cancelled() | Refused():
            return [event_record(event)]
        case _ as never:
            assert_never(never)


def event_of(
    delivery: Delivery, kind: EventKind, *, attempt: int, outcome: Outcome | None, told: Told
) -> DeliveryEvent:
    """The event of one attempt, with what the provider said."""
    # Several parks may follow one another at one attempt, and each is a line of the timeline.
    occasion = f"{kind}.{delivery.parks}" if kind == "parked" and delivery.parks else kind
    return DeliveryEvent(
        id=event_id(delivery.id, attempt=attempt, kind=occasion),
        kind=kind,
        delivery_id=delivery.id,
        notification_id=delivery.notification_id,
        tenant=delivery.tenant,
        channel=delivery.channel,
        address=delivery.address,
        class_=delivery.class_,
        attempt=attempt,
        at=told.at,
        provider=told.provider,
        detail=getattr(outcome, "reason", None),
        provider_id=outcome.provider_id if isinstance(outcome, Accepted) else None,
        response=getattr(outcome, "response", None),
        latency_seconds=told.latency_seconds,
        traceparent=delivery.traceparent,
    )


def kind_of_outcome(outcome: Outcome) -> EventKind:
    """The event of a call whose verdict is somebody else's by now."""
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


def _kind(verdict: Verdict, outcome: Outcome | None) -> EventKind:
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

"""A person's release of a brake: which brakes there are, and the words that let one go."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

import msgspec

from pabal.audit import AuditFact, audit_id, audit_record
from pabal.broker.port import Producer, Reader
from pabal.clock import Clock
from pabal.errors import ConfigError
from pabal.notification import Fact, Instant, deliveries_topic
from pabal.ops.brakes import RECORDER, Brakes, BrakeState, brake_key, brake_record
from pabal.ops.follower import OpsFollower

RELEASED: Final = "brake.released"


class Release(Fact, frozen=True, kw_only=True):
    """The detail of a release in `pabal.audit`: what had braked the class, and until when it is not braked again."""

    channel: str
    class_: str = msgspec.field(name="class")
    braked_at: Instant
    braked_because: str
    until: Instant


async def read_brakes(reader: Reader) -> Mapping[str, BrakeState]:
    """The last word on each brake, by `<channel> <class>` or `recorder <topic>`. Raises LogError."""
    brakes, ops = Brakes(), OpsFollower(reader)
    ops.attend(brakes)
    await ops.look()
    return brakes.by_name()


async def release_brake(
    *,
    channel: str,
    class_: str,
    by: str,
    reason: str,
    minutes: float,
    reader: Reader,
    producer: Producer,
    clock: Clock,
) -> None:
    """Write that a class may go on, and who said so.

    Raises:
        ConfigError: it is not braked.
        LogError: the log does not answer; releasing once more does no harm.
    """
    brakes = await read_brakes(reader)
    before = brakes.get(f"{channel} {class_}")
    if before is None or before.state != "braked":
        raise ConfigError(f"{channel} {class_} is not braked: there is nothing to release (pabal brake list)")
    now = clock.now()
    until = now + timedelta(minutes=minutes)
    detail = Release(channel=channel, class_=class_, braked_at=before.at, braked_because=before.reason, until=until)
    subject = brake_key(channel, class_).decode()
    fact = AuditFact(
        id=audit_id(action=RELEASED, subject=subject, occasion=now.isoformat()),
        action=RELEASED,
        subject=subject,
        by=by,
        at=now,
        reason=reason,
        detail=msgspec.to_builtins(detail),
    )
    # The fact first: a release that stands in `pabal.ops` has its author in `pabal.audit`.
    await producer.append([audit_record(fact)])
    state = BrakeState(state="released", at=now, until=until, reason=f"{by}: {reason}")
    released = [brake_record(channel, class_, state)]
    # What a worker may dead-letter, the recorder need not hold.
    topic = deliveries_topic(channel, class_)
    if (held := brakes.get(f"{RECORDER} {topic}")) is not None and held.state == "braked":
        released.append(brake_record(RECORDER, topic, state))
    await producer.append(released)
